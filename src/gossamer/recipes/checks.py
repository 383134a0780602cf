"""Refusing recipes whose steps do not go together, before anything is computed."""

from collections.abc import Mapping, Sequence

from gossamer.core.errors import InputError
from gossamer.recipes.steps import Pack, Prune, RecipeStep, Regrow, Rewind, Train, Transfer


def check_recipe(steps: Sequence[RecipeStep], validation: float) -> None:
    """Refuse a recipe whose steps do not go together.

    Parameters
    ----------
    steps
        The recipe.
    validation
        The share of the data that is held out for validation.

    Raises
    ------
    InputError
        If a rewind aims at a step not yet done, an optimizer's state is to be kept where there
        is none, an early stop watches a validation split that is empty, a pruning asks for
        less than one before it, or packed layers are pruned, packed or rewound.
    """
    for number, step in enumerate(steps):
        where = f"step {number + 1} of the recipe ({step.step})"
        before = steps[:number]
        match step:
            case Train():
                _check_training(step, before, validation, where)
            case Prune():
                _check_pruning(step, before, where)
            case Rewind():
                _check_rewinding(step, before, where)
            case Pack():
                _check_packing(before, where)
            case Transfer():
                _check_unpacked(before, where)
                _check_source(step, validation, where)
            case Regrow():
                if not any(isinstance(s, Prune | Transfer) for s in before):
                    raise InputError(f"{where} lifts a mask, but nothing is pruned before it")


def masks_in_force(steps: Sequence[RecipeStep]) -> list[Prune | Transfer]:
    """Return the steps whose masks still hold after all of them.

    Examples
    --------
    >>> steps = [Prune(sparsity=0.5), Train(epochs=1)]
    >>> len(masks_in_force(steps)), len(masks_in_force([*steps, Regrow()]))
    (1, 0)
    """
    masks: list[Prune | Transfer] = []
    for step in steps:
        if isinstance(step, Regrow):
            masks = []
        if isinstance(step, Prune | Transfer) and step.enforce:
            masks.append(step)
    return masks


def _check_training(step: Train, before: Sequence[RecipeStep], validation: float, at: str) -> None:
    last = _last_training(before)
    if step.optimizer_state == "keep" and (
        last is None or last.optimizer.name != step.optimizer.name
    ):
        raise InputError(
            f"{at} keeps the optimizer's state, but no {step.optimizer.name} training "
            "comes right before it: use optimizer_state = 'fresh'"
        )
    stop = step.early_stop
    if stop is not None and stop.watch.startswith("validation") and not validation:
        raise InputError(
            f"{at} stops early on {stop.watch}, but no part of the data is held "
            "out: set validation in [data], or watch train_loss"
        )


def _last_training(before: Sequence[RecipeStep]) -> Train | None:
    """Return the training whose momenta are still there."""
    last = None
    for step in before:
        if isinstance(step, Train):
            last = step
        if isinstance(step, Rewind | Regrow | Pack):
            last = None
    return last


def _check_pruning(step: Prune, before: Sequence[RecipeStep], at: str) -> None:
    _check_unpacked(before, at)
    earlier = [pruning for pruning in _prunings(before) if _comparable(pruning, step)]
    most = max((p.sparsity or 0.0 for p in earlier), default=0.0)
    if step.sparsity is not None and step.sparsity < most:
        raise InputError(
            f"{at} asks for a sparsity of {step.sparsity:g} in all, but {most:g} is "
            "pruned by then and stays zero: ask for more, or change the order"
        )


def _prunings(before: Sequence[RecipeStep]) -> list[Prune]:
    """Return the prunings that made the masks in force, those of borrowed masks too."""
    found: list[Prune] = []
    for step in masks_in_force(before):
        found += [step] if isinstance(step, Prune) else _prunings(step.source.recipe)
    return found


def _comparable(first: Prune, second: Prune) -> bool:
    """Tell whether the sparsities of two steps are over the same weights."""
    names = not isinstance(first.allocation, Mapping) and not isinstance(second.allocation, Mapping)
    alike = first.pattern == second.pattern and set(first.include) == set(second.include)
    return names and alike and set(first.exclude) == set(second.exclude)


def _check_rewinding(step: Rewind, before: Sequence[RecipeStep], at: str) -> None:
    _check_unpacked(before, at)
    if step.to > len(before):
        raise InputError(
            f"{at} goes back to after step {step.to}, but only {len(before)} come before it"
        )
    if _is_packed(before[: step.to]):
        raise InputError(f"{at} goes back to packed layers: rewind to a step before the pack")


def _check_packing(before: Sequence[RecipeStep], at: str) -> None:
    _check_unpacked(before, at)
    prunings = _prunings(before)
    if not prunings:
        raise InputError(f"{at} packs masked layers, but nothing is pruned before it")
    if any(pruning.pattern == "unit" for pruning in prunings):
        raise InputError(
            f"{at} packs single weights, but whole units are pruned before it: leave it out"
        )


def _check_unpacked(before: Sequence[RecipeStep], at: str) -> None:
    if _is_packed(before):
        raise InputError(
            f"{at} needs dense weights, but the layers are packed by then: put a regrow between "
            "them, or change the order"
        )


def _is_packed(steps: Sequence[RecipeStep]) -> bool:
    packed = False
    for step in steps:
        packed = isinstance(step, Pack) or (packed and not isinstance(step, Regrow))
    return packed


def _check_source(step: Transfer, validation: float, at: str) -> None:
    recipe = step.source.recipe
    try:
        check_recipe(recipe, validation)
    except InputError as error:
        raise InputError(f"{at}, its source: {error}") from error
    if not masks_in_force(recipe):
        raise InputError(f"{at} borrows a mask, but its source ends without one: let it prune")

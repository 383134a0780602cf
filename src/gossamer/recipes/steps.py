"""The steps of a recipe: small frozen values that say what is done, never how far it has come.

A new method is one new step here, its doing in `workshop`, and nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from gossamer.errors import InputError
from gossamer.train.options import Options, TrainingOptions

Sparsity = Annotated[float, Field(ge=0, le=1)]


class Train(TrainingOptions):
    """Train for some epochs; whatever is pruned by then stays zero."""

    version: ClassVar[int] = 1
    step: Literal["train"] = "train"
    optimizer_state: Literal["fresh", "keep"] = "fresh"
    """Whether momenta start anew or go on from the training before."""


class Prune(Options):
    """Set the weights of lowest score to zero; the sparsity is the total afterwards."""

    version: ClassVar[int] = 1
    step: Literal["prune"] = "prune"
    sparsity: Sparsity
    score: Literal["magnitude", "random", "largest"] = "magnitude"
    allocation: Literal["uniform", "global"] | Mapping[str, Sparsity] = "global"
    pattern: Literal["weight", "unit"] = "weight"
    exclude: tuple[str, ...] = ()
    """Name patterns to leave alone, or "output layer"."""

    @property
    def choices(self) -> dict[str, Any]:
        """What `gossamer.prune` takes beside the network, the sparsity and the seed."""
        return {
            "score": self.score,
            "allocation": self.allocation,
            "pattern": self.pattern,
            "exclude": self.exclude,
        }


class Rewind(Options):
    """Set weights and buffers back to what they were after an earlier step; the mask stays.

    Momenta are dropped; the count of epochs goes on, so that later epochs are shuffled anew
    (Frankle et al. 2020, arXiv 1912.05671).
    """

    version: ClassVar[int] = 1
    step: Literal["rewind"] = "rewind"
    to: NonNegativeInt = 0
    """How many steps had been done then; 0 is the initialisation."""


RecipeStep = Annotated[Train | Prune | Rewind, Field(discriminator="step")]


def described(step: RecipeStep) -> dict[str, Any]:
    """Return a step as JSON values, defaults resolved, with the version of its meaning.

    Examples
    --------
    >>> described(Rewind(to=1))
    {'step': 'rewind', 'to': 1, 'version': 1}
    """
    values = step.model_dump(mode="json")
    if isinstance(step, Prune) and isinstance(step.allocation, Mapping):
        # The first pattern that fits a layer counts, and JSON objects have no order.
        values["allocation"] = [[pattern, share] for pattern, share in step.allocation.items()]
    return {"step": values.pop("step"), **values, "version": step.version}


def check_recipe(steps: Sequence[RecipeStep], validation: float) -> None:
    """Refuse a recipe whose steps do not go together.

    Raises
    ------
    InputError
        If a rewind aims at a step not yet done, an optimizer's state is to be kept where there
        is none, an early stop watches a validation split that is empty, or a pruning asks for
        less than one before it.
    """
    before: list[Train] = []
    prunings: list[Prune] = []
    for number, step in enumerate(steps):
        where = f"step {number + 1} of the recipe ({step.step})"
        if isinstance(step, Rewind):
            if step.to > number:
                raise InputError(
                    f"{where} goes back to after step {step.to}, but only {number} come before it"
                )
            before.clear()
        if isinstance(step, Train):
            if step.optimizer_state == "keep" and (
                not before or before[-1].optimizer.name != step.optimizer.name
            ):
                raise InputError(
                    f"{where} keeps the optimizer's state, but no {step.optimizer.name} training "
                    "comes right before it: use optimizer_state = 'fresh'"
                )
            stop = step.early_stop
            if stop is not None and stop.watch.startswith("validation") and not validation:
                raise InputError(
                    f"{where} stops early on {stop.watch}, but no part of the training set is held "
                    "out: set validation in [data], or watch train_loss"
                )
            before.append(step)
        if isinstance(step, Prune):
            most = max((p.sparsity for p in prunings if _comparable(p, step)), default=0.0)
            if step.sparsity < most:
                raise InputError(
                    f"{where} asks for a sparsity of {step.sparsity:g} in all, but {most:g} is "
                    "pruned by then and stays zero: ask for more, or change the order"
                )
            prunings.append(step)


def _comparable(first: Prune, second: Prune) -> bool:
    """Tell whether the sparsities of two steps are over the same weights."""
    names = isinstance(first.allocation, str) and isinstance(second.allocation, str)
    return names and set(first.exclude) == set(second.exclude) and first.pattern == second.pattern

"""Finding a mask: a score, an allocation over layers and a pattern, chosen independently."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.capture import Structure
from gossamer.graph.examples import Example
from gossamer.masks.allocations import (
    Allocation,
    AnyAllocation,
    ByName,
    resolved_allocation,
)
from gossamer.masks.batches import Batches
from gossamer.masks.calibration import Calibration, Loss
from gossamer.masks.choices import valid_seed, valid_sparsity
from gossamer.masks.coupling import coupling, with_units
from gossamer.masks.layers import PrunableWeight, patterns_of, survey
from gossamer.masks.mask import Mask
from gossamer.masks.names import bare_module, names_it, parameters_by_name
from gossamer.masks.patterns import Pattern, Unit, resolved_pattern
from gossamer.masks.saliency import ScoreContext
from gossamer.masks.scores import Score, resolved_score
from gossamer.masks.search import Found, Search
from gossamer.masks.storages import described_ties
from gossamer.masks.values import fill

AnyScore = str | Score | Callable[[ScoreContext], Tensor]
"""What `prune` takes: a name, a score, or a function of one's own."""


def prune(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    score: AnyScore | None = None,
    allocation: AnyAllocation = "global",
    pattern: str | Pattern = "weight",
    exclude: str | Sequence[str] = (),
    include: str | Sequence[str] = (),
    example: Example | None = None,
    batches: Batches | None = None,
    loss: Loss | None = None,
    coupled: bool = True,
    seed: int = 0,
) -> Mask:
    """Set the least important weights of a network to zero, and return the mask of those kept.

    The network keeps its modules, parameter names and ``state_dict``; only values become zero, and
    of one score, "sparsegpt", those that stay become others, as the mask's provenance tells. Use
    `Mask.enforce` to keep what is pruned at zero while training goes on.

    Parameters
    ----------
    model
        Any module. It may be compiled, on any device.
    sparsity
        Fraction of zeros over the prunable weights after the call, in [0, 1]. It is the total:
        weights that are zero already count, and go first. None where the allocation or the
        pattern fixes it.
    score
        Of weights alone ``"magnitude"`` (smallest L2 norm first), ``"rms"`` (smallest root mean
        square first: the norm over the root of the number of weights), ``"relative-rms"`` (the same
        over that of the whole layer), ``"lamp"`` (squared norm over the sum of those of its layer
        that are no less), ``"random"`` and ``"largest"`` (largest norm first). Of `batches` with
        labels ``"taylor"`` (gradient x weight), ``"gradient"``, and for networks that are still to
        be trained ``"snip"`` and ``"grasp"``. Of `batches` without labels ``"wanda"`` (weight x
        norm of inputs, compared within each unit whatever the allocation is) and ``"sparsegpt"``,
        which changes the weights that stay, too, so that outputs stay close; it takes single
        weights or `NByM`. Of an `example` or batches ``"synflow"``, for networks that are still to
        be trained. docs/pruning.md has a table of them. A function of a `ScoreContext` that returns
        a number for each weight is a score, too; a `Score` says more of it. Left out, it is
        "relative-rms" for units, whose norms grow with their fan-in, and "magnitude" for everything
        else.
    allocation
        ``"global"`` compares weights across layers, ``"uniform"`` takes the same share of every
        layer, and a mapping from parameter or module names or patterns to sparsities fixes
        single layers, the others taking `sparsity`; of several patterns the longest counts.
        `ERK` makes larger layers sparser, `OWL` those of few outliers on `batches`; `ErdosRenyi`
        and `FixedFanIn` say how many connections layers or units keep, and so fix the sparsity.
    pattern
        ``"weight"``, or ``"unit"`` for whole neurons and filters with their bias and the scale
        and shift of the normalisation that follows; `Block` for tiles of units and inputs,
        `NByM` for n of each m consecutive inputs, which fixes the sparsity.
    exclude
        Patterns of parameter or module names to leave alone, or ``"output layer"``: the layers
        whose result reaches the output by functions without weights. A bias, scale or shift among
        them stays when its unit goes.
    include
        Patterns of names of free parameters to prune all the same: those of two or more
        dimensions that no operation multiplies with (position embeddings, class tokens, learned
        queries, layer scales) are left alone unless they are named here, or by their full name
        in a mapping given as allocation. What `exclude` names, too, is left out.
    example
        What the model takes: a tensor, a tuple of positional arguments (a single dict is
        ``({...},)``) or a dict of keyword arguments. The forward is run once on it, in evaluation
        mode, to see which layer gives the output and which normalisation follows which layer; the
        model stays as it is. Without one the forward is traced symbolically where that matters.
    batches
        For scores and allocations that need data: pairs ``(inputs, labels)``, such as a
        `DataLoader` gives; inputs as `example`, their first dimension the examples. The network
        runs on them in evaluation mode and stays as it is. Where no labels are needed they may be
        None.
    loss
        From what the network gives for a batch and its labels to the mean over its examples.
        Left out, it is cross entropy of outputs ``[examples, classes]`` and class indices.
    coupled
        Whether units that a sum, a concatenation, a normalisation, a shared layer or a convolution
        in groups ties together are pruned together, so that `compact` can remove them; units that
        are tied to the network's input, its output or a layer that is left alone stay. Their
        score is that of all their weights. False takes each unit of each layer for itself.
    seed
        Seed of the random score.

    Returns
    -------
    Mask
        Exactly ``round(sparsity * n)`` weights are pruned (units, groups of them and blocks: the
        count that comes nearest), ties broken by position. A layer keeps at least one weight, unit
        or block unless asked for 1.

    Raises
    ------
    InputError
        If the sparsity is not in [0, 1], missing or fixed otherwise, a name is unknown, choices
        contradict each other, a weight is not finite, the model has nothing to prune or fails on
        the example or on a batch, the score needs batches or cannot be had from them, or structure
        matters and can be found on an example only.

    Warns
    -----
    RuntimeWarning
        Where a global allocation leaves a layer less than a twentieth of its units although the
        sparsity asked for keeps more.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    >>> mask = prune(model, 0.9)
    >>> mask.sparsity
    0.9
    >>> int((model[0].weight == 0).sum() + (model[2].weight == 0).sum())
    810
    """
    found = _search(
        model, sparsity, score=score, allocation=allocation, pattern=pattern, exclude=exclude,
        include=include, example=example, batches=batches, loss=loss, coupled=coupled, seed=seed,
    )  # fmt: skip
    parameters = found.mask.bind(model)
    for name, values in found.weights.items():
        fill(parameters[name], values)
    found.mask.apply(model)
    return found.mask


def find_mask(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    score: AnyScore | None = None,
    allocation: AnyAllocation = "global",
    pattern: str | Pattern = "weight",
    exclude: str | Sequence[str] = (),
    include: str | Sequence[str] = (),
    example: Example | None = None,
    batches: Batches | None = None,
    loss: Loss | None = None,
    coupled: bool = True,
    seed: int = 0,
) -> Mask:
    """Choose what `prune` would remove, and leave the network as it is.

    Parameters, result and errors are those of `prune`. Of a score that changes weights this is the
    mask alone: `prune` gives those that stay their new values, too.
    """
    return _search(
        model, sparsity, score=score, allocation=allocation, pattern=pattern, exclude=exclude,
        include=include, example=example, batches=batches, loss=loss, coupled=coupled, seed=seed,
    ).mask  # fmt: skip


def _search(
    model: nn.Module,
    sparsity: float | None,
    *,
    score: AnyScore | None,
    allocation: AnyAllocation,
    pattern: str | Pattern,
    exclude: str | Sequence[str],
    include: str | Sequence[str],
    example: Example | None,
    batches: Batches | None,
    loss: Loss | None,
    coupled: bool,
    seed: int,
) -> Found:
    """Return what `prune` is to do."""
    seed = valid_seed(seed)
    sparsity = None if sparsity is None else valid_sparsity(sparsity)
    chosen_pattern, chosen_allocation = resolved_pattern(pattern), resolved_allocation(allocation)
    chosen_score = resolved_score(chosen_pattern.score if score is None else score)
    agreed = chosen_pattern.agreed_sparsity(chosen_allocation, sparsity)
    root = bare_module(model)
    structure = Structure(root, example)
    included = patterns_of(include, "include")
    found = survey(root, structure, exclude, [*included, *_named_in(chosen_allocation, root)])
    whole_units = isinstance(chosen_pattern, Unit)
    weights: Sequence[PrunableWeight] = found.weights
    if whole_units and coupled:
        weights = with_units(root, weights, structure)
    layers, unsuited = _suited(weights, chosen_pattern, included)
    tied = coupling(root, layers, structure, exclude) if whole_units and coupled else None
    layers = layers if tied is None else tied.layers
    search = Search(
        root, structure, exclude, layers, tied, chosen_score, chosen_pattern, chosen_allocation,
        agreed, seed,
    )  # fmt: skip
    outcome = search.run(
        Calibration(root, layers, batches, loss, example, temperature=chosen_score.temperature)
    )
    mask = replace(
        outcome.mask,
        provenance={
            "score": chosen_score.called,
            "allocation": chosen_allocation.written(),
            "pattern": chosen_pattern.written(),
            "sparsity": sparsity,
            "exclude": patterns_of(exclude, "exclude"),
            "include": included,
            "left_alone": {**found.left_alone, **unsuited, **(tied.stuck if tied else {})},
            "seed": seed,
            **({"examples": outcome.examples} if outcome.examples else {}),
            **({"changes_weights": True} if chosen_score.changes_weights else {}),
            **({"coupled": coupled} if whole_units else {}),
            **_shared(root, layers),
        },
    )
    _warn_of_starved_layers(mask)
    return replace(outcome, mask=mask)


def _shared(model: nn.Module, layers: Sequence[PrunableWeight]) -> dict[str, Any]:
    """Describe which parameters lie in the memory of these weights, if any do."""
    ties = described_ties(parameters_by_name(model), [layer.name for layer in layers])
    return {"shared": ties} if ties else {}


def _named_in(allocation: Allocation, root: nn.Module) -> list[str]:
    """Return the parameters that a mapping gives a sparsity by their full name."""
    names = parameters_by_name(root)
    return [n for n in allocation.shares if n in names] if isinstance(allocation, ByName) else []


def _suited(
    weights: Sequence[PrunableWeight], pattern: Pattern, included: Sequence[str]
) -> tuple[list[PrunableWeight], dict[str, str]]:
    """Return the weights that have groups of a pattern, and why the others have none.

    Raises
    ------
    InputError
        If none has, or one that was asked for by name.
    """
    obstacles = {layer.name: pattern.obstacle(layer) for layer in weights}
    unsuited = {name: obstacle for name, obstacle in obstacles.items() if obstacle}
    for name, obstacle in unsuited.items():
        if any(names_it(asked, name) for asked in included):
            raise InputError(
                f"{name} {obstacle}, so it cannot be pruned by the pattern {pattern}: leave it "
                "out of include, or choose another pattern"
            )
    if len(unsuited) == len(weights):
        name, obstacle = next(iter(unsuited.items()))
        raise InputError(f"no layer has the pattern {pattern}: {name}, for one, {obstacle}")
    return [layer for layer in weights if layer.name not in unsuited], unsuited


_STARVED = 0.05
"""A layer that keeps less than this share is hardly there any more."""


def _warn_of_starved_layers(mask: Mask) -> None:
    """Warn where scores compared across layers leave few units of one; for what users call.

    Of single weights that is usual: a layer of many inputs keeps its function with few of them.
    """
    asked, across = mask.provenance["sparsity"], mask.provenance["allocation"] == "global"
    if mask.provenance["pattern"] != "unit" or not across or asked >= 1 - _STARVED:
        return
    starved = [f"{n} {share:.1%}" for n, share in mask.densities.items() if share < _STARVED]
    if starved:
        more = f" and {len(starved) - 5} more" if len(starved) > 5 else ""
        warnings.warn(
            f"little is left of {len(starved)} of {len(mask.weights)} layers, which keep less than "
            f"a twentieth of their units although {1 - asked:.0%} are kept in all: "
            f"{', '.join(starved[:5])}{more}; the network may give the same output for every "
            'input. Prune with allocation="uniform", or exclude these layers',
            RuntimeWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """Return how far up the caller of this module is from the function that asks."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals is globals():
        level, frame = level + 1, frame.f_back
    return level

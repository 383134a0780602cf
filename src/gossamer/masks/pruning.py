"""Finding a mask: a score, an allocation over layers and a pattern, chosen independently."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.masks.allocations import Allocation
from gossamer.masks.checks import valid_seed, valid_sparsity
from gossamer.masks.choosing import RankedLayer
from gossamer.masks.layers import (
    PrunableWeight,
    attached_parameters,
    exclude_patterns,
    prunable_weights,
)
from gossamer.masks.mask import Mask
from gossamer.masks.names import parameters_by_name
from gossamer.masks.patterns import Block, NByM, Pattern, Unit, resolved_pattern
from gossamer.masks.scores import Score, score_named
from gossamer.masks.storages import described_ties
from gossamer.streams import stream


def prune(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    score: str = "magnitude",
    allocation: Allocation = "global",
    pattern: str | NByM | Block = "weight",
    exclude: str | Sequence[str] = (),
    seed: int = 0,
) -> Mask:
    """Set the least important weights of a network to zero, and return the mask of those kept.

    The network keeps its modules, parameter names and ``state_dict``; only values become zero.
    Use `Mask.enforce` to keep them zero while training goes on.

    Parameters
    ----------
    model
        Any module. It may be compiled, on any device.
    sparsity
        Fraction of zeros over the prunable weights after the call, in [0, 1]. It is the total:
        weights that are zero already count, and go first. None where the allocation or the
        pattern fixes it.
    score
        ``"magnitude"`` (smallest go first), ``"random"`` or ``"largest"`` (largest go first).
    allocation
        ``"global"`` compares weights across layers, ``"uniform"`` takes the same share of every
        layer, and a mapping from parameter or module names or patterns to sparsities fixes
        single layers, the others taking `sparsity`; of several patterns the longest counts.
        `ERK` makes larger layers sparser; `ErdosRenyi` and `FixedFanIn` say how many connections
        layers or units keep, and so fix the sparsity.
    pattern
        ``"weight"``, or ``"unit"`` for whole neurons and filters with their bias and the scale
        and shift of the normalisation that follows; `Block` for tiles of units and inputs,
        `NByM` for n of each m consecutive inputs, which fixes the sparsity.
    exclude
        Patterns of parameter or module names to leave alone, or ``"output layer"``. A bias, scale
        or shift among them stays when its unit goes.
    seed
        Seed of the random score.

    Returns
    -------
    Mask
        Exactly ``round(sparsity * n)`` weights are pruned (units and blocks: the count that comes
        nearest), ties broken by position. A layer keeps at least one weight, unit or block unless
        asked for 1.

    Raises
    ------
    InputError
        If the sparsity is not in [0, 1], missing or fixed otherwise, a name is unknown, choices
        contradict each other, a weight is not finite, or the model has nothing to prune.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    >>> mask = prune(model, 0.9)
    >>> mask.sparsity
    0.9
    >>> int((model[0].weight == 0).sum() + (model[2].weight == 0).sum())
    810
    """
    mask = find_mask(
        model,
        sparsity,
        score=score,
        allocation=allocation,
        pattern=pattern,
        exclude=exclude,
        seed=seed,
    )
    mask.apply(model)
    return mask


def find_mask(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    score: str = "magnitude",
    allocation: Allocation = "global",
    pattern: str | NByM | Block = "weight",
    exclude: str | Sequence[str] = (),
    seed: int = 0,
) -> Mask:
    """Choose what `prune` would remove, and leave the network as it is.

    Parameters, result and errors are those of `prune`.
    """
    seed = valid_seed(seed)
    sparsity = None if sparsity is None else valid_sparsity(sparsity)
    chosen_score, chosen_pattern = score_named(score), resolved_pattern(pattern)
    choose = chosen_pattern.chooser(allocation, sparsity)
    layers = [layer for layer in prunable_weights(model, exclude) if chosen_pattern.applies(layer)]
    if not layers:
        raise InputError(
            f"no layer has the pattern {pattern!r}: only linear layers and convolutions have "
            "units, and only where all layers that share a weight see the same ones in it"
        )
    pruned = choose([_rank(layer, chosen_score, chosen_pattern, seed) for layer in layers])
    kept = [~groups for groups in pruned]
    units = {layer.name: layer.units for layer in layers if layer.units is not None}
    whole_units = isinstance(chosen_pattern, Unit)
    return Mask(
        weights={
            layer.name: chosen_pattern.spread(groups, layer)
            for layer, groups in zip(layers, kept, strict=True)
        },
        attached=_attached_masks(model, layers, kept, exclude) if whole_units else {},
        unit_dimensions={name: layout.dimension for name, layout in units.items()},
        unit_groups={name: layout.groups for name, layout in units.items() if layout.groups > 1},
        provenance={
            "score": score,
            "allocation": _described(allocation),
            "pattern": _described(pattern),
            "sparsity": sparsity,
            "exclude": exclude_patterns(exclude),
            "seed": seed,
            **_shared(model, layers),
        },
    )


def _shared(model: nn.Module, layers: Sequence[PrunableWeight]) -> dict[str, Any]:
    """Describe which parameters lie in the memory of these weights, if any do."""
    ties = described_ties(parameters_by_name(model), [layer.name for layer in layers])
    return {"shared": ties} if ties else {}


def _described(choice: Allocation | NByM | Block) -> Any:
    """Return an allocation or a pattern as JSON values."""
    if isinstance(choice, str):
        return choice
    if isinstance(choice, Mapping):
        return {name: float(share) for name, share in choice.items()}
    return {"name": choice.name, **asdict(choice)}


def _rank(layer: PrunableWeight, score: Score, pattern: Pattern, seed: int) -> RankedLayer:
    """Score the groups of a layer.

    What is zero already has the lowest score of all, so that a sparsity is always the total and
    pruning twice never compounds.
    """
    norms = pattern.norms(layer).cpu()
    if not norms.max().isfinite():  # the maximum is NaN if one is
        raise InputError(f"{layer.name} holds values that are not finite, so it cannot be pruned")
    scores = score(norms, stream(seed, "prune", layer.name)).masked_fill(norms == 0, -math.inf)
    return RankedLayer(layer, scores, pattern.sizes(layer))


def _attached_masks(
    model: nn.Module,
    layers: list[PrunableWeight],
    kept: list[Tensor],
    exclude: str | Sequence[str],
) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    attached = attached_parameters(model, layers, exclude)
    for layer, units in zip(layers, kept, strict=True):
        for parameter in attached[layer.name]:
            mask = parameter.spread(units)
            # What several layers share keeps what any of them keeps.
            shared = masks.get(parameter.name)
            masks[parameter.name] = mask if shared is None else mask | shared
    return masks

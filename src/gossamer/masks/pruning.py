"""Finding a mask: a score, an allocation over layers and a pattern, chosen independently."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.masks.layers import (
    PrunableWeight,
    attached_parameters,
    exclude_patterns,
    prunable_weights,
)
from gossamer.masks.mask import Mask, valid_seed
from gossamer.masks.names import names_it
from gossamer.masks.patterns import Pattern, pattern_named
from gossamer.masks.scores import Score, score_named
from gossamer.masks.selection import last_to_go, lowest, nearest_count
from gossamer.streams import stream

Allocation = str | Mapping[str, float]
_ALLOCATIONS = ("global", "uniform")


def prune(
    model: nn.Module,
    sparsity: float,
    *,
    score: str = "magnitude",
    allocation: Allocation = "global",
    pattern: str = "weight",
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
        weights that are zero already count, and go first.
    score
        ``"magnitude"`` (smallest go first), ``"random"`` or ``"largest"`` (largest go first).
    allocation
        ``"global"`` compares weights across layers, ``"uniform"`` takes the same share of every
        layer, and a mapping from parameter or module names or patterns to sparsities fixes
        single layers, the others taking `sparsity`; of several patterns the longest counts.
    pattern
        ``"weight"``, or ``"unit"`` for whole neurons and filters with their bias and the scale
        and shift of the normalisation that follows.
    exclude
        Patterns of parameter or module names to leave alone, or ``"output layer"``. A bias, scale
        or shift among them stays when its unit goes.
    seed
        Seed of the random score.

    Returns
    -------
    Mask
        Exactly ``round(sparsity * n)`` weights are pruned (units: the count that comes nearest),
        ties broken by position. A layer keeps at least one weight or unit unless asked for 1.

    Raises
    ------
    InputError
        If the sparsity is not in [0, 1], a name is unknown, a weight is not finite, or the model
        has nothing to prune.

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
    sparsity: float,
    *,
    score: str = "magnitude",
    allocation: Allocation = "global",
    pattern: str = "weight",
    exclude: str | Sequence[str] = (),
    seed: int = 0,
) -> Mask:
    """Choose what `prune` would remove, and leave the network as it is.

    Parameters, result and errors are those of `prune`.
    """
    sparsity, seed = valid_sparsity(sparsity), valid_seed(seed)
    chosen_score, chosen_pattern = score_named(score), pattern_named(pattern)
    shares = _valid_allocation(allocation)
    layers = [layer for layer in prunable_weights(model, exclude) if chosen_pattern.applies(layer)]
    if not layers:
        raise InputError(
            f"no layer has the pattern {pattern!r}: only linear layers and convolutions have units"
        )
    ranked = [_rank(layer, chosen_score, chosen_pattern, seed) for layer in layers]
    if shares is None:
        sizes = [chosen_pattern.group_size(layer) for layer in layers]
        pruned = _choose_globally(ranked, sizes, sparsity)
    else:
        pruned = [
            lowest(scores, _share_count(scores.numel(), share))
            for scores, share in zip(ranked, _shares(layers, sparsity, shares), strict=True)
        ]
    kept = [~groups for groups in pruned]
    units = {layer.name: layer.units for layer in layers if layer.units is not None}
    return Mask(
        weights={
            layer.name: chosen_pattern.spread(groups, layer)
            for layer, groups in zip(layers, kept, strict=True)
        },
        attached=_attached_masks(model, layers, kept, exclude) if pattern == "unit" else {},
        unit_dimensions={name: layout.dimension for name, layout in units.items()},
        unit_groups={name: layout.groups for name, layout in units.items() if layout.groups > 1},
        provenance={
            "score": score,
            "allocation": allocation if isinstance(allocation, str) else shares,
            "pattern": pattern,
            "sparsity": sparsity,
            "exclude": exclude_patterns(exclude),
            "seed": seed,
        },
    )


def valid_sparsity(sparsity: float, field: str = "the sparsity") -> float:
    """Return a sparsity as a float.

    Raises
    ------
    InputError
        If it is not a number in [0, 1].
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real):
        raise InputError(f"{field} must be a number from 0 to 1, not {sparsity!r}")
    if math.isnan(sparsity) or not 0 <= sparsity <= 1:
        hint = f"; {float(sparsity):g}% is {sparsity / 100:g}" if 1 < sparsity <= 100 else ""
        raise InputError(f"{field} must lie between 0 and 1, not {sparsity}{hint}")
    return float(sparsity)


def _valid_allocation(allocation: Allocation) -> dict[str, float] | None:
    """Return the sparsities fixed by pattern (none, if "uniform"), or None if "global"."""
    if isinstance(allocation, Mapping):
        for pattern in allocation:
            if not isinstance(pattern, str):
                raise InputError(f"allocation must map names to sparsities, not {pattern!r}")
        return {
            pattern: valid_sparsity(share, f"the sparsity of {pattern!r}")
            for pattern, share in allocation.items()
        }
    if allocation not in _ALLOCATIONS:
        raise InputError(
            f"unknown allocation {allocation!r}: choose one of {', '.join(_ALLOCATIONS)}, or give "
            "a mapping from layer names to sparsities"
        )
    return None if allocation == "global" else {}


def _rank(layer: PrunableWeight, score: Score, pattern: Pattern, seed: int) -> Tensor:
    """Return the scores of a layer's groups, shape [groups]; the lowest go first.

    What is zero already has the lowest score of all, so that a sparsity is always the total and
    pruning twice never compounds.
    """
    norms = pattern.norms(layer).cpu()
    if not norms.max().isfinite():  # the maximum is NaN if one is
        raise InputError(f"{layer.name} holds values that are not finite, so it cannot be pruned")
    return score(norms, stream(seed, "prune", layer.name)).masked_fill(norms == 0, -math.inf)


def _share_count(groups: int, sparsity: float) -> int:
    """Return how many groups of one layer go; one stays unless all were asked for."""
    count = round(sparsity * groups)
    return count if sparsity == 1 else min(count, groups - 1)


def _shares(
    layers: list[PrunableWeight], sparsity: float, shares: Mapping[str, float]
) -> list[float]:
    """Return the sparsity of each layer; of several patterns that name it the closest counts."""
    result = []
    used: set[str] = set()
    for layer in layers:
        fitting = [pattern for pattern in shares if names_it(pattern, layer.name)]
        used.update(fitting)
        exact = (layer.name, layer.module)
        # A rule that does not depend on the order of the mapping, which JSON may not keep.
        closest = max(fitting, key=lambda p: (p in exact, len(p), p), default=None)
        result.append(sparsity if closest is None else shares[closest])
    if unused := [pattern for pattern in shares if pattern not in used]:
        raise InputError(
            f"allocation names {unused[0]!r}, which is no prunable weight; they are "
            f"{', '.join(layer.name for layer in layers)}"
        )
    return result


def _choose_globally(ranked: list[Tensor], sizes: list[int], sparsity: float) -> list[Tensor]:
    """Choose across layers; the best group of each layer is safe unless all must go."""
    counts = [scores.numel() for scores in ranked]
    if sparsity == 1:
        return [torch.ones(count, dtype=torch.bool) for count in counts]
    for scores in ranked:
        scores[last_to_go(scores)] = math.inf
    joined = torch.cat(ranked)
    available = joined.numel() - len(ranked)
    target = sparsity * sum(count * size for count, size in zip(counts, sizes, strict=True))
    if set(sizes) == {1}:
        count = min(round(target), available)
    else:
        group_sizes = torch.tensor(sizes).repeat_interleave(torch.tensor(counts))
        order = joined.argsort(stable=True)[:available]
        count = nearest_count(group_sizes[order], target)
    return list(torch.split(lowest(joined, count), counts))


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

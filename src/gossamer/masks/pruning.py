"""Finding a mask: a score, an allocation over layers and a pattern, chosen independently."""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.masks.layers import PrunableWeight, attached_parameters, prunable_weights
from gossamer.masks.mask import Mask
from gossamer.masks.patterns import Pattern, pattern_named
from gossamer.masks.scores import Score, score_named
from gossamer.masks.selection import nearest_count, zeros_then_lowest
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
        layer, and a mapping from names or patterns to sparsities fixes single layers, the
        others taking `sparsity`.
    pattern
        ``"weight"``, or ``"unit"`` for whole neurons and filters with their bias and the scale
        and shift of the normalisation that follows.
    exclude
        Patterns of parameter or module names to leave alone, or ``"output layer"``.
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
    sparsity = valid_sparsity(sparsity)
    chosen_score, chosen_pattern = score_named(score), pattern_named(pattern)
    layers = [layer for layer in prunable_weights(model, exclude) if chosen_pattern.applies(layer)]
    if not layers:
        raise InputError(
            f"no layer has the pattern {pattern!r}: only linear layers and convolutions have units"
        )
    ranked = [_rank(layer, chosen_score, chosen_pattern, seed) for layer in layers]
    pruned = _choose(layers, ranked, sparsity, allocation, chosen_pattern)
    provenance: dict[str, Any] = {
        "score": score,
        "allocation": allocation if isinstance(allocation, str) else dict(allocation),
        "pattern": pattern,
        "sparsity": sparsity,
        "exclude": [exclude] if isinstance(exclude, str) else list(exclude),
        "seed": seed,
    }
    kept = [~groups for groups in pruned]
    return Mask(
        weights={
            layer.name: chosen_pattern.spread(groups, layer)
            for layer, groups in zip(layers, kept, strict=True)
        },
        attached=_attached_masks(model, layers, kept) if pattern == "unit" else {},
        unit_dimensions={
            layer.name: layer.units.dimension for layer in layers if layer.units is not None
        },
        provenance=provenance,
    )


def valid_sparsity(sparsity: float, field: str = "the sparsity") -> float:
    """Return a sparsity as a float.

    Raises
    ------
    InputError
        If it is not a number in [0, 1].
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)):
        raise InputError(f"{field} must be a number from 0 to 1, not {sparsity!r}")
    if math.isnan(sparsity) or not 0 <= sparsity <= 1:
        hint = f"; {sparsity:g}% is {sparsity / 100:g}" if 1 < sparsity <= 100 else ""
        raise InputError(f"{field} must lie between 0 and 1, not {sparsity}{hint}")
    return float(sparsity)


def _rank(
    layer: PrunableWeight, score: Score, pattern: Pattern, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the scores of a layer's groups and which of them are zero already, both [groups]."""
    norms = pattern.norms(layer).cpu()
    if not torch.isfinite(norms).all():
        raise InputError(f"{layer.name} holds values that are not finite, so it cannot be pruned")
    if norms.dtype in (torch.float16, torch.bfloat16):
        norms = norms.float()
    return score(norms, stream(seed, "prune", layer.name)), norms == 0


def _choose(
    layers: list[PrunableWeight],
    ranked: list[tuple[Tensor, Tensor]],
    sparsity: float,
    allocation: Allocation,
    pattern: Pattern,
) -> list[Tensor]:
    """Return which groups of each layer go."""
    if isinstance(allocation, str) and allocation not in _ALLOCATIONS:
        raise InputError(
            f"unknown allocation {allocation!r}: choose one of {', '.join(_ALLOCATIONS)}, or give "
            "a mapping from layer names to sparsities"
        )
    if allocation == "global":
        sizes = [pattern.group_size(layer) for layer in layers]
        return _choose_globally(ranked, sizes, sparsity)
    shares = {} if isinstance(allocation, str) else allocation
    return [
        zeros_then_lowest(scores, zero, _share_count(scores.numel(), share))
        for (scores, zero), share in zip(
            ranked, _layer_sparsities(layers, sparsity, shares), strict=True
        )
    ]


def _share_count(groups: int, sparsity: float) -> int:
    """Return how many groups of one layer go; one stays unless all were asked for."""
    count = round(sparsity * groups)
    return count if sparsity == 1 else min(count, groups - 1)


def _layer_sparsities(
    layers: list[PrunableWeight], sparsity: float, shares: Mapping[str, float]
) -> list[float]:
    valid = {
        pattern: valid_sparsity(share, f"the sparsity of {pattern!r}")
        for pattern, share in shares.items()
    }
    used: set[str] = set()
    result = []
    for layer in layers:
        fitting = [
            pattern
            for pattern in valid
            if fnmatchcase(layer.name, pattern) or fnmatchcase(layer.module, pattern)
        ]
        used.update(fitting)
        result.append(valid[fitting[0]] if fitting else sparsity)
    if unused := [pattern for pattern in valid if pattern not in used]:
        raise InputError(
            f"allocation names {unused[0]!r}, which is no prunable weight; they are "
            f"{', '.join(layer.name for layer in layers)}"
        )
    return result


def _choose_globally(
    ranked: list[tuple[Tensor, Tensor]], sizes: list[int], sparsity: float
) -> list[Tensor]:
    """Choose across layers; the best group of each layer is safe unless all must go."""
    counts = [scores.numel() for scores, _ in ranked]
    if sparsity == 1:
        return [torch.ones(count, dtype=torch.bool) for count in counts]
    scores = torch.cat([scores.double() for scores, _ in ranked])
    zero = torch.cat([zero for _, zero in ranked])
    safe = torch.cat([_best(scores, zero) for scores, zero in ranked])
    target = sparsity * sum(count * size for count, size in zip(counts, sizes, strict=True))
    open_positions = (~safe).nonzero().flatten()
    open_scores, open_zero = scores[open_positions], zero[open_positions]
    if set(sizes) == {1}:
        count = min(round(target), len(open_positions))
    else:
        group_sizes = torch.cat(
            [torch.full((count,), size) for count, size in zip(counts, sizes, strict=True)]
        )[open_positions]
        # Two stable sorts: by score, then zeros before the rest.
        order = open_scores.argsort(stable=True)
        order = order[(~open_zero[order]).byte().argsort(stable=True)]
        count = nearest_count(group_sizes[order], target)
    pruned = torch.zeros_like(safe)
    pruned[open_positions[zeros_then_lowest(open_scores, open_zero, count)]] = True
    return list(torch.split(pruned, counts))


def _best(scores: Tensor, zero: Tensor) -> Tensor:
    """Return a boolean tensor that is True at the one group that would go last."""
    return ~zeros_then_lowest(scores, zero, scores.numel() - 1)


def _attached_masks(
    model: nn.Module, layers: list[PrunableWeight], kept: list[Tensor]
) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    attached = attached_parameters(model, layers)
    for layer, units in zip(layers, kept, strict=True):
        for name in attached[layer.name]:
            # A normalisation that several layers share keeps what any of them keeps.
            masks[name] = masks[name] | units if name in masks else units
    return masks

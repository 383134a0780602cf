"""Choosing which groups go: compared across layers, within each, or within parts of each.

Each function returns, for every layer, a boolean tensor of shape [groups], True where a group
goes. Ties are broken by position.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.masks.layers import PrunableWeight
from gossamer.masks.selection import last_to_go, lowest, lowest_of_each, nearest_count


@dataclass(frozen=True, eq=False)
class RankedLayer:
    """A layer and its groups of weights.

    Parameters
    ----------
    layer
        The weight.
    scores
        Shape [groups]; the lowest go first.
    sizes
        Shape [groups]; how many weights each group holds.
    """

    layer: PrunableWeight
    scores: Tensor
    sizes: Tensor


Chooser = Callable[[Sequence[RankedLayer]], list[Tensor]]
"""From ranked layers to the groups that go, one boolean tensor of shape [groups] a layer."""


def across_layers(layers: Sequence[RankedLayer], sparsity: float) -> list[Tensor]:
    """Choose among all groups at once; the best of each layer is safe unless all must go."""
    if sparsity == 1:
        return [torch.ones_like(ranked.scores, dtype=torch.bool) for ranked in layers]
    joined = torch.cat([_with_the_best_safe(ranked.scores) for ranked in layers])
    available = joined.numel() - len(layers)
    target = sparsity * sum(int(ranked.sizes.sum()) for ranked in layers)
    if all(int(ranked.sizes.max()) == 1 for ranked in layers):
        count = min(round(target), available)
    else:
        order = joined.argsort(stable=True)[:available]
        count = nearest_count(torch.cat([ranked.sizes for ranked in layers])[order], target)
    return list(torch.split(lowest(joined, count), [ranked.scores.numel() for ranked in layers]))


def within_layers(layers: Sequence[RankedLayer], sparsities: Sequence[float]) -> list[Tensor]:
    """Choose in each layer by itself, where each has its own sparsity."""
    return [
        lowest(ranked.scores, _count_within(ranked, sparsity))
        for ranked, sparsity in zip(layers, sparsities, strict=True)
    ]


def within_units(layers: Sequence[RankedLayer], kept: int) -> list[Tensor]:
    """Choose single weights in each unit by itself, so that each keeps so many, or all it has."""
    pruned = []
    for ranked in layers:
        layout, shape = ranked.layer.layout, ranked.layer.weight.shape
        rows = layout.rows(ranked.scores.view(shape))
        going = lowest_of_each(rows, max(rows.shape[1] - kept, 0))
        pruned.append(layout.from_rows(going, shape).flatten())
    return pruned


def within_runs(layers: Sequence[RankedLayer], kept: int, length: int) -> list[Tensor]:
    """Choose in each run of so many consecutive groups by itself, so that each keeps `kept`."""
    return [
        lowest_of_each(ranked.scores.view(-1, length), length - kept).flatten() for ranked in layers
    ]


def _with_the_best_safe(scores: Tensor) -> Tensor:
    safe = scores.clone()
    safe[last_to_go(scores)] = math.inf
    return safe


def _count_within(ranked: RankedLayer, sparsity: float) -> int:
    """Return how many groups of one layer go; one stays unless all were asked for."""
    groups = ranked.scores.numel()
    if sparsity == 1:
        return groups
    smallest, largest = ranked.sizes.aminmax()
    if smallest == largest:
        return min(round(sparsity * groups), groups - 1)
    order = ranked.scores.argsort(stable=True)[:-1]
    return nearest_count(ranked.sizes[order], sparsity * int(ranked.sizes.sum()))

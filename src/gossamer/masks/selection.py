"""Exact selection: which groups go, when so many must go. Ties are broken by position."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gossamer.masks.layers import PrunableWeight


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


def across_layers(layers: Sequence[RankedLayer], sparsity: float) -> list[Tensor]:
    """Choose among all groups at once; the best of each layer is safe unless all must go.

    As the others it returns, for every layer, a boolean tensor [groups], True where one goes.
    """
    scores = torch.cat([ranked.scores for ranked in layers])
    safe = torch.cat([_best(ranked, sparsity) for ranked in layers])
    single = all(unless_single(ranked.sizes) is None for ranked in layers)
    sizes = None if single else torch.cat([ranked.sizes for ranked in layers])
    going = lowest_but(safe, scores, sizes, sparsity)
    return list(torch.split(going, [ranked.scores.numel() for ranked in layers]))


def within_layers(layers: Sequence[RankedLayer], sparsities: Sequence[float]) -> list[Tensor]:
    """Choose in each layer by itself, where each has its own sparsity."""
    return [
        lowest_but(_best(ranked, sparsity), ranked.scores, unless_alike(ranked.sizes), sparsity)
        for ranked, sparsity in zip(layers, sparsities, strict=True)
    ]


def lowest_but(safe: Tensor, scores: Tensor, sizes: Tensor | None, sparsity: float) -> Tensor:
    """Return which groups go: the lowest that are not safe, as many as come nearest to a sparsity.

    Parameters
    ----------
    safe, scores
        Of each group, ``[groups]``.
    sizes
        How many weights each holds; None where all hold as many, so that a share of them is asked.
    sparsity
        Of the weights in all of these groups.
    """
    spared = scores.masked_fill(safe, math.inf)
    available = len(scores) - int(safe.count_nonzero())
    if sizes is None:
        return lowest(spared, min(round(sparsity * len(scores)), available))
    order = spared.argsort(stable=True)[:available]
    return lowest(spared, nearest_count(sizes[order], sparsity * int(sizes.sum())))


def unless_single(sizes: Tensor) -> Tensor | None:
    """Return sizes; None where all groups are single weights."""
    return None if int(sizes.max()) == 1 else sizes


def unless_alike(sizes: Tensor) -> Tensor | None:
    """Return sizes; None where all are the same."""
    smallest, largest = sizes.aminmax()
    return None if smallest == largest else sizes


def within_units(layers: Sequence[RankedLayer], sparsities: Sequence[float]) -> list[Tensor]:
    """Choose single weights in each unit by itself, where each layer has its own sparsity.

    All units of a layer lose as many; where that does not come out even, those lose one more
    whose next weight has the lowest score.
    """
    pruned = []
    for ranked, sparsity in zip(layers, sparsities, strict=True):
        layout, shape = ranked.layer.layout, ranked.layer.weight.shape
        rows = layout.rows(ranked.scores.view(shape))
        available = rows.numel() - (sparsity < 1)
        each, more = divmod(min(round(sparsity * rows.numel()), available), len(rows))
        order = rows.argsort(dim=1, stable=True)
        going = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order[:, :each], True)
        if more:
            following = order[:, each : each + 1]
            one_more = lowest(rows.gather(1, following).flatten(), more)
            going.scatter_(1, following, one_more[:, None])
        pruned.append(layout.from_rows(going, shape).flatten())
    return pruned


def within_runs(layers: Sequence[RankedLayer], kept: int, length: int) -> list[Tensor]:
    """Choose in each run of so many consecutive groups by itself, so that each keeps `kept`."""
    return [
        lowest_of_each(ranked.scores.view(-1, length), length - kept).flatten() for ranked in layers
    ]


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return a boolean tensor with exactly `count` True, at the lowest scores.

    Of equal ones the earlier goes first.

    Examples
    --------
    >>> lowest(torch.tensor([3.0, 1.0, 1.0, 2.0]), 2).tolist()
    [False, True, True, False]
    >>> lowest(torch.tensor([1.0, 1.0, 1.0]), 2).tolist()
    [True, True, False]
    """
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if count >= scores.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    # NumPy's vectorised selection takes a tenth of the time of torch.kthvalue.
    threshold = float(np.partition(scores.numpy(), count - 1)[count - 1])
    chosen = scores < threshold
    ties = (scores == threshold).nonzero().flatten()
    chosen[ties[: count - int(chosen.count_nonzero())]] = True
    return chosen


def lowest_of_pools(scores: Tensor, pools: Tensor, counts: Tensor) -> Tensor:
    """Return a boolean tensor with so many True in each pool, at the lowest scores there.

    Parameters
    ----------
    scores, pools
        A score and the number of its pool, from 0, for each of them.
    counts
        How many of each pool, ``[pools]``.

    Examples
    --------
    >>> pools = torch.tensor([0, 1, 0, 1])
    >>> lowest_of_pools(torch.tensor([3.0, 1.0, 2.0, 4.0]), pools, torch.tensor([1, 2])).tolist()
    [False, True, True, True]
    """
    order = scores.argsort(stable=True)
    order = order[pools[order].argsort(stable=True)]  # pool after pool, the lowest of each first
    sizes = pools.bincount(minlength=len(counts))
    places = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[pools[order]]
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(0, order, places < counts[pools[order]])


def lowest_of_each(scores: Tensor, count: int | Tensor) -> Tensor:
    """Return a boolean tensor of shape [rows, length] with exactly `count` True in every row.

    It may be a number for each row. They are at the lowest scores of the row; ties are broken by
    position as in `lowest`.

    Examples
    --------
    >>> lowest_of_each(torch.tensor([[3.0, 1.0, 1.0], [0.0, 2.0, 5.0]]), 1).tolist()
    [[False, True, False], [True, False, False]]
    """
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    counts = count[:, None] if isinstance(count, Tensor) else count
    first = (torch.arange(scores.shape[1], device=scores.device) < counts).expand(scores.shape)
    return chosen.scatter_(1, scores.argsort(dim=1, stable=True), first)


def last_to_go(scores: Tensor) -> int:
    """Return the position that `lowest` takes last: the highest score, the latest among ties.

    Examples
    --------
    >>> last_to_go(torch.tensor([3.0, 1.0, 3.0, 2.0]))
    2
    """
    return int((scores == scores.max()).nonzero()[-1])


def nearest_count(sizes: Tensor, target: float) -> int:
    """Return how many groups, taken in order, come nearest to `target` weights; halves to even.

    Examples
    --------
    >>> nearest_count(torch.tensor([10, 10, 4]), 13.0)
    1
    >>> nearest_count(torch.tensor([2, 2, 2]), 3.0)
    2
    """
    reached = torch.cat([torch.zeros(1, dtype=torch.float64), sizes.double().cumsum(0)])
    distance = (reached - target).abs()
    best: list[int] = (distance == distance.min()).nonzero().flatten().tolist()
    return next((count for count in best if count % 2 == 0), best[0])


def _best(ranked: RankedLayer, sparsity: float) -> Tensor:
    """Return where the best group of a layer is, which stays unless all were asked for."""
    best = torch.zeros_like(ranked.scores, dtype=torch.bool)
    if sparsity < 1:
        best[last_to_go(ranked.scores)] = True
    return best

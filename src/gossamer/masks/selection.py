"""Exact selection: which groups go, when so many must go.

Groups that are zero already go first, so that a sparsity is always the total and pruning twice
never compounds; then the lowest scores go; ties are broken by position, the earlier goes first.
"""

import torch
from torch import Tensor


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return a boolean tensor with exactly `count` True, at the lowest scores.

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
    threshold = scores.kthvalue(count).values
    chosen = scores < threshold
    ties = (scores == threshold).nonzero().flatten()
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen


def zeros_then_lowest(scores: Tensor, zero: Tensor, count: int) -> Tensor:
    """Return the `count` groups that go: those that are `zero` first, then the lowest scores.

    Examples
    --------
    >>> scores, zero = torch.tensor([0.3, 0.1, 0.2]), torch.tensor([True, False, False])
    >>> zeros_then_lowest(scores, zero, 2).tolist()
    [True, True, False]
    """
    zeros = int(zero.sum())
    among = zero if count <= zeros else ~zero
    chosen = zero & (count > zeros)
    positions = among.nonzero().flatten()
    needed = count if count <= zeros else count - zeros
    chosen[positions[lowest(scores[positions], needed)]] = True
    return chosen


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

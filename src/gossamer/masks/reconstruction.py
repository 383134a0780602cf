"""Pruning a layer so that its outputs stay close: SparseGPT."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.masks.patterns import Pattern
from gossamer.masks.products import Contraction
from gossamer.masks.saliency import ScoreContext, Solution
from gossamer.masks.selection import lowest, lowest_of_each

BLOCK = 128
"""How many columns of a weight are chosen from at a time, as in the paper."""
DAMPING = 0.01
"""What is added to the diagonal of a Hessian, as a share of its mean, as the authors do."""


def reconstructed(context: ScoreContext) -> Solution:
    """Choose which weights of a layer go, and change the others so that its outputs stay close.

    Column by column, what goes of a row is made up for by the weights to its right, as far as they
    can: it is the step of the optimal brain surgeon among them. Of each block of columns those go
    which cost least. What is zero goes first and stays zero, then what multiplies nothing but
    zeros, which cannot be made up for and need not be.

    A layer of R rows and C columns takes about 5 R C + 3 C^2 numbers of float64 beside its Hessian.

    References
    ----------
    Frantar and Alistarh (2023), "SparseGPT: Massive Language Models Can Be Accurately Pruned in
    One-Shot", ICML, arXiv 2301.00774, algorithm 1.
    """
    pattern, sparsity = context.pattern, context.sparsity
    assert pattern is not None
    assert sparsity is not None
    contractions = context.contractions
    weight = context.weight.to(torch.float64, copy=True).flatten()
    ranks = torch.where(weight == 0, 0, 2)
    for one in contractions:
        dead = one.hessian.diagonal(dim1=1, dim2=2) == 0
        own = ranks[one.elements]
        ranks[one.elements] = own.masked_fill(dead[:, None] & (own > 0), 1)
    runs = pattern.run
    gone = torch.zeros_like(weight, dtype=torch.bool)
    if runs is None:
        count = min(round(sparsity * len(weight)), len(weight) - (sparsity < 1))
        gone = (lowest(ranks.double().cpu(), count).to(gone.device)) & (ranks < 2)
        choose: Choose = _Shares(count - int(gone.sum()), len(weight) - int(gone.sum()))
    else:
        choose = partial(_of_runs, kept=runs[0], length=runs[1])
    for one in contractions:
        part, step = (one, BLOCK) if runs is None else _in_runs(one, runs[1], context, pattern)
        inside = part.elements
        solved = _by_columns(
            weight[inside], ranks[inside], gone[inside], _factor(part.hessian), choose, step
        )
        weight[inside], gone[inside] = solved
    shape = context.weight.shape
    return Solution(kept=~gone.view(shape), weight=weight.view(shape))


Choose = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From what weights of some columns cost, their rank and what is gone already to what is then."""


class _Shares:
    """Chooses from one block of columns after the other the same share of what may go."""

    def __init__(self, left: int, available: int) -> None:
        self._left, self._available = left, available

    def __call__(self, costs: Tensor, ranks: Tensor, gone: Tensor) -> Tensor:  # noqa: ARG002
        available = gone.numel() - int(gone.sum())
        count = round(self._left * available / self._available) if available else 0
        self._left, self._available = self._left - count, self._available - available
        going = lowest(costs.masked_fill(gone, torch.inf).flatten().cpu(), count)
        return going.view(gone.shape).to(gone.device) | gone


def _of_runs(costs: Tensor, ranks: Tensor, gone: Tensor, kept: int, length: int) -> Tensor:
    ordered = costs.masked_fill(ranks == 0, -2).masked_fill(ranks == 1, -1)
    return lowest_of_each(ordered.reshape(-1, length), length - kept).view(gone.shape)


def _by_columns(
    weights: Tensor, ranks: Tensor, gone: Tensor, factor: Tensor, choose: Choose, step: int
) -> tuple[Tensor, Tensor]:
    """Return what weights become ``[groups, rows, columns]``, and which of them go.

    Parameters
    ----------
    weights, ranks, gone
        Of that shape; a weight of rank 0 is zero and stays so.
    factor
        See `_factor`.
    step
        From how many columns is chosen at a time.
    """
    columns = weights.shape[2]
    block = max(BLOCK // step, 1) * step
    for start in range(0, columns, block):
        end = min(start + block, columns)
        corner = factor[:, start:end, start:end]
        # Columns first, so that one of them is a piece of memory.
        values = weights[..., start:end].mT.contiguous()
        errors = torch.zeros_like(values)
        for column in range(end - start):
            if column % step == 0:
                chosen = slice(start + column, min(start + column + step, end))
                scale = factor.diagonal(dim1=1, dim2=2)[:, None, chosen]
                costs = (values[:, column : column + step].mT / scale).square()
                gone[..., chosen] = choose(costs, ranks[..., chosen], gone[..., chosen])
            cleared = gone[..., start + column] | (ranks[..., start + column] == 0)
            error = values[:, column] / corner[:, column, column, None]
            errors[:, column] = error.masked_fill(~cleared, 0)
            values[:, column:] -= corner[:, column, column:, None] * errors[:, None, column]
            values[:, column].masked_fill_(cleared, 0)
        weights[..., start:end] = values.mT
        weights[..., end:] -= errors.mT @ factor[:, start:end, end:]
    return weights, gone


def _factor(hessian: Tensor) -> Tensor:
    """Return the upper triangular U with ``U^T U`` the inverse of damped Hessians.

    The square of its j-th diagonal entry is the first one of the inverse of the Hessian of the
    columns from j on, and its row j what a change there means for those.
    """
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    live = diagonal > 0
    mean = diagonal.sum(1) / live.sum(1).clamp(min=1)
    damped = hessian + torch.where(live, DAMPING * mean[:, None], 1.0).diag_embed()
    turned: Tensor = torch.linalg.cholesky(damped.flip(1, 2))
    unit = torch.eye(hessian.shape[1], dtype=hessian.dtype, device=hessian.device)
    found: Tensor = torch.linalg.solve_triangular(turned.flip(1, 2), unit, upper=True)
    return found


def _in_runs(
    one: Contraction, length: int, context: ScoreContext, pattern: Pattern
) -> tuple[Contraction, int]:
    """Order the columns of a contraction as a pattern has its runs, and say how wide these are.

    Runs of a weight without units may lie across the rows, each within one column.

    Raises
    ------
    InputError
        If they do neither.
    """
    shape = context.weight.shape
    places = torch.arange(shape.numel(), device=one.elements.device)
    ordered = pattern.groups(places.view(shape), context.layer).flatten()
    positions = torch.empty_like(places).scatter_(0, ordered, places)
    order = positions[one.elements[0, 0]].argsort()
    elements = one.elements[..., order]
    runs = positions[elements] // length
    for dimension, width in ((2, length), (1, 1)):
        if runs.shape[dimension] % length == 0:
            parts = torch.stack(torch.split(runs, length, dimension))
            if bool((parts == parts.narrow(dimension + 1, 0, 1)).all()):
                return Contraction(elements, one.hessian[:, order][..., order]), width
    raise InputError(
        f"{context.layer.name} has runs of {pattern} that its inputs are not taken in: exclude it, "
        "or choose another pattern or score"
    )

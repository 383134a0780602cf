"""What the references of each target say of each example, from sums made once for all targets.

Leaving out a target and its mate subtracts two rows from the sums of all models, so attacking
every model costs as much as attacking one does by brute force. Values are first centred on each
example's mean over all models, which keeps the subtraction exact to rounding.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage.design import Design, Scores

_LEAST_RESIDUAL = 1e-12
"""Only values that all agree exactly get here."""


@dataclass(frozen=True)
class Side:
    """The references that trained on each example, or those that did not."""

    count: NDArray[np.float64]
    """``[examples]``."""
    mean: NDArray[np.float64]
    """``[examples]``, of the centred values; 0 where there is no reference."""
    residual: NDArray[np.float64]
    """Sum of squared residuals around that mean, ``[examples]``."""

    @property
    def variance(self) -> NDArray[np.float64]:
        """Each example's own variance with count - 1 degrees of freedom, ``[examples]``."""
        return self.residual / np.maximum(self.count - 1, 1)

    @property
    def pooled_variance(self) -> float:
        """Squared residuals of all examples over their degrees of freedom, N (m - 1)."""
        freedom = np.maximum(self.count - 1, 0).sum()
        return float(self.residual.sum() / max(freedom, 1))


@dataclass(frozen=True)
class References:
    """Sums over the models of either side, from which any target's references are found."""

    design: Design
    targets: Scores
    """What is under attack, minus ``centre``, ``[models, examples]``: `centred`, unless `facing`
    says otherwise."""
    centre: NDArray[np.float64]
    """Each example's mean over all models, ``[examples]``."""
    centred: Scores
    """Values minus that mean, ``[models, examples]``."""
    counts: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Of models that did not (0) and did (1) train on each example, ``[examples]``."""
    sums: tuple[NDArray[np.float64], NDArray[np.float64]]
    squares: tuple[NDArray[np.float64], NDArray[np.float64]]

    def side(self, target: int, *, inside: bool) -> Side:
        """Return the references of a target that trained on each example, or did not."""
        count, total, square = (t[inside].copy() for t in (self.counts, self.sums, self.squares))
        memberships = self.design.left_out(self.design.members, target)
        values = self.design.left_out(self.centred, target)
        for member, value in zip(memberships, values, strict=True):
            there = member if inside else ~member
            gone = value * there
            count -= there
            total -= gone
            square -= gone * gone
        mean = np.where(count > 0, total / np.maximum(count, 1), 0.0)
        residual = np.where(count > 1, np.maximum(square - total * mean, 0.0), 0.0)
        return Side(count, mean, residual)

    @property
    def deviation(self) -> float:
        """Pooled standard deviation of a value around its example's mean of the same side."""
        residual = freedom = 0.0
        for count, total, square in zip(self.counts, self.sums, self.squares, strict=True):
            several = count > 1
            around = square - total * total / np.maximum(count, 1)
            residual += float(np.maximum(around, 0.0)[several].sum())
            freedom += float((count - 1)[several].sum())
        return math.sqrt(max(residual, _LEAST_RESIDUAL) / max(freedom, 1.0))

    def facing(self, targets: NDArray[np.floating[Any]]) -> "References":
        """Return the same references set against other targets, ``[models, examples]``."""
        return replace(self, targets=targets - self.centre)


def gather(values: NDArray[np.floating[Any]], design: Design) -> References:
    """Sum values, ``[models, examples]``, over the models of either side."""
    centre = values.mean(axis=0, dtype=np.float64)
    centred = values - centre
    inside = design.members.sum(axis=0).astype(np.float64)
    sums = np.where(design.members, centred, 0.0).sum(axis=0)
    squared = centred * centred
    squares = np.where(design.members, squared, 0.0).sum(axis=0)
    return References(
        design,
        centred,
        centre,
        centred,
        (design.models - inside, inside),
        (centred.sum(axis=0) - sums, sums),
        (squared.sum(axis=0) - squares, squares),
    )

"""Whose scores may fix the threshold of whom: never those that it judges."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gossamer.core.streams import stream
from gossamer.leakage.design import Design, Scores


@dataclass(frozen=True)
class Split:
    """Whose scores may fix the threshold of whose.

    With several models, thresholds come from those that are neither the target nor its mate.
    Where there are none, or the members of the others tell something of the target's members (so
    that such a threshold would have seen part of the answer), each target's examples are halved at
    random, members and non-members alike, and either half is judged at the threshold of the other.
    A *row* is what gets one threshold: a model, or one half of a model's examples.
    """

    folds: NDArray[np.int8] | None
    """``[models, examples]``, 0 or 1, where examples are halved."""
    allowed: NDArray[np.bool_]
    """``[rows, rows]``: whether the second may fix the threshold of the first."""

    def rows(self, scores: Scores) -> Scores:
        """Return scores, ``[models, examples]``, as rows, NaN where an example is not of one."""
        if self.folds is None:
            return scores
        return np.concatenate([np.where(self.folds == fold, scores, np.nan) for fold in (0, 1)])

    def members(self, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return memberships, ``[models, examples]``, as rows."""
        return members if self.folds is None else np.concatenate([members, members])

    def merge(self, rows: Scores) -> Scores:
        """Undo `rows`."""
        if self.folds is None:
            return rows
        first, second = np.split(rows, 2)
        return np.where(self.folds == 0, first, second)


def find_split(design: Design, seed: int) -> Split:
    """Return how thresholds are fixed for the models of a design."""
    others = design.units[:, None] != design.units
    if others.any() and design.kind in ("paired", "independent"):
        return Split(None, others)
    folds = np.empty(design.members.shape, dtype=np.int8)
    for model, inside in enumerate(design.members):
        for side, places in enumerate((np.flatnonzero(~inside), np.flatnonzero(inside))):
            order = stream(seed, "folds", model, side).permutation(places)
            folds[model, order] = np.arange(len(order)) % 2
    same = np.eye(design.models, dtype=bool)
    none = np.zeros_like(same)
    return Split(folds, np.block([[none, same], [same, none]]))

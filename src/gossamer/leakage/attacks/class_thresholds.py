"""Attacks with a threshold for each class."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage.attacks.attack import Case, Score, Targets, chosen
from gossamer.leakage.design import Members, Scores
from gossamer.leakage.output_statistics import Labels, Statistics
from gossamer.leakage.ranking import rank, transferred_best


def by_class(score: Callable[[Statistics], Scores]) -> Score:
    """Make an attack with thresholds of each class; 0 is the threshold."""

    def attack(case: Case, targets: Targets) -> Scores:
        rows = case.split.rows(score(case.statistics))
        members = case.split.members(case.design.members)
        shifted = measured_from_class_threshold(rows, members, case.labels, case.split.allowed)
        return chosen(case.split.merge(shifted), targets)

    return attack


def measured_from_class_threshold(
    scores: Scores, members: Members, labels: Labels, allowed: NDArray[np.bool_]
) -> Scores:
    """Return how far scores lie above the threshold of their class, fixed on other rows.

    Parameters
    ----------
    scores, members
        ``[rows, examples]``; NaN marks examples that are not of a row.
    labels
        ``[examples]``.
    allowed
        ``[rows, rows]``: whether the second row may tell the thresholds of the first.

    Returns
    -------
    array
        ``[rows, examples]``; 0 is the threshold, for every class.

    References
    ----------
    Song and Mittal (2021), "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security: thresholds of each class, learnt on shadow models.
    """
    shifted = np.empty_like(scores)
    for label in np.unique(labels):
        these = np.flatnonzero(labels == label)
        part = scores[:, these]
        ranked = [rank(row, inside) for row, inside in zip(part, members[:, these], strict=True)]
        shifted[:, these] = part - transferred_best(ranked, allowed)[:, None]
    return shifted

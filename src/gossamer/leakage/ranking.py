"""How well scores tell members from non-members: areas, rates and best thresholds, ties exact.

A higher score speaks for membership, and who scores at least a threshold is accused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.errors import InputError
from gossamer.leakage.design import Members, Scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """The scores of one target's members and of its non-members, each ascending."""

    inside: Floats
    outside: Floats


@dataclass(frozen=True)
class Best:
    """The threshold of highest balanced accuracy on given scores."""

    balanced_accuracy: float
    threshold: float
    """The lowest score that is accused."""


def rank(scores: Scores, members: Members) -> Ranked:
    """Sort one target's scores, ``[examples]``; NaN marks examples that cannot be attacked."""
    there = ~np.isnan(scores)
    return Ranked(np.sort(scores[members & there]), np.sort(scores[~members & there]))


def auc(ranked: Ranked) -> float:
    """Area under the ROC curve: how often a member outscores a non-member, ties counted half.

    References
    ----------
    Hanley and McNeil (1982), "The meaning and use of the area under a ROC curve", Radiology 143.

    Examples
    --------
    >>> auc(Ranked(np.array([1.0, 2.0]), np.array([0.0, 1.0])))
    0.875
    """
    below = np.searchsorted(ranked.outside, ranked.inside, "left").sum(dtype=np.int64)
    up_to = np.searchsorted(ranked.outside, ranked.inside, "right").sum(dtype=np.int64)
    return float(below + up_to) / (2.0 * len(ranked.inside) * len(ranked.outside))


def placements(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """Share of the other side that each member outscores, and that outscores each non-member.

    Ties count half. Their mean is the AUC; their variances give DeLong's interval. Scores need not
    be sorted: placements stand in the order of the scores.
    """

    def share(values: Floats, others: Floats) -> Floats:
        ascending = np.sort(others)
        below = np.searchsorted(ascending, values, "left")
        return (below + np.searchsorted(ascending, values, "right")) / (2.0 * len(others))

    return share(inside, outside), 1 - share(outside, inside)


def accused(ascending: Floats, thresholds: ArrayLike) -> NDArray[np.int64]:
    """Count the scores that reach each threshold."""
    return len(ascending) - np.searchsorted(ascending, thresholds, "left")


def allowed_count(count: int, fpr: float) -> int:
    """Return how many of ``count`` may be accused at a rate; rounding of the rate forgiven."""
    return int(np.floor(fpr * count * (1 + 1e-12) + 1e-9))


def curve(ranked: Ranked, rates: Floats) -> Floats:
    """Return the highest TPR whose FPR is at most each rate, on the target's own ROC curve.

    Parameters
    ----------
    rates
        False-positive rates, ``[rates]``.

    Returns
    -------
    array
        True-positive rates, ``[rates]``. Nothing is interpolated: a tie that holds more
        non-members than allowed is not accused at all.
    """
    count = len(ranked.outside)
    allowed = np.floor(rates * count * (1 + 1e-12) + 1e-9).astype(np.int64)
    padded = np.concatenate([[-np.inf], ranked.outside])
    thresholds = padded[count - np.minimum(allowed, count)]
    above = len(ranked.inside) - np.searchsorted(ranked.inside, thresholds, "right")
    return np.where(allowed >= count, 1.0, above / len(ranked.inside))


def best_threshold(scores: ArrayLike, members: ArrayLike) -> Best:
    """Find the threshold of highest balanced accuracy, exactly, from sorted scores.

    The threshold is chosen on the scores that it judges, so its accuracy is optimistic: above
    one half even for an attack that knows nothing.

    Parameters
    ----------
    scores
        ``[examples]``; who scores at least the threshold is accused.
    members
        ``[examples]``, booleans; some of each.

    Returns
    -------
    Best
        What scanning every distinct score as a threshold finds; the lowest of equally good ones.

    Raises
    ------
    InputError
        If the shapes differ, a score is NaN, or there are only members or only non-members.

    Examples
    --------
    >>> best_threshold([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    Best(balanced_accuracy=0.75, threshold=0.35)
    """
    values = np.asarray(scores, dtype=np.float64)
    inside = np.asarray(members, dtype=bool)
    if values.ndim != 1 or values.shape != inside.shape or np.isnan(values).any():
        raise InputError(
            f"scores: the shapes of scores and members are {values.shape} and {inside.shape}, "
            "expected one number, not NaN, and one membership an example."
        )
    positives = int(inside.sum())
    if not 0 < positives < inside.size:
        raise InputError(
            f"members: {positives} of {inside.size} examples are members, expected some of each."
        )
    return best_of(rank(values, inside))


def best_of(ranked: Ranked) -> Best:
    """Find the threshold of highest balanced accuracy on one target's own scores.

    A threshold is best just above the score of some non-member, or else accuses everybody: up to
    the next non-member it gains members only. So only non-members need to be tried.
    """
    inside, outside = ranked.inside, ranked.outside
    up_to = np.searchsorted(inside, outside, "right")
    # In whole numbers, so that equally good thresholds are equal. Of non-members that tie, the
    # last one counts; before it too many are taken to be accused, which never wins.
    wrongly = np.arange(len(outside) - 1, -1, -1)
    gain = (len(inside) - up_to) * len(outside) - wrongly * len(inside)
    place = int(np.argmax(gain))
    if gain[place] == 0:
        return Best(0.5, float(min(inside[0], outside[0])))
    higher = [inside[up_to[place]], *outside[place + 1 : place + 2]]
    accuracy = 0.5 + int(gain[place]) / (2.0 * len(inside) * len(outside))
    return Best(accuracy, float(min(higher)))


def transferred_best(
    rows: Sequence[Ranked], allowed: NDArray[np.bool_], candidates: int = 256
) -> Floats:
    """Fix each row's threshold where balanced accuracy is highest on the rows allowed to it.

    Parameters
    ----------
    rows
        Ranked scores, one a target.
    allowed
        ``[rows, rows]``: whether the second may tell the threshold of the first.
    candidates
        How many quantiles of each row's scores are tried; the optimum is flat.

    Returns
    -------
    array
        Thresholds, ``[rows]``.

    References
    ----------
    Salem et al. (2019), "ML-Leaks", NDSS: thresholds from shadow models.
    """
    grids = [_quantiles(row, candidates) for row in rows]
    owners = np.repeat(np.arange(len(rows)), [len(grid) for grid in grids])
    grid = np.concatenate(grids)
    inside = np.stack([accused(row.inside, grid) for row in rows])
    outside = np.stack([accused(row.outside, grid) for row in rows])
    weights = allowed.astype(np.int64)
    positives = weights @ np.array([len(row.inside) for row in rows])
    negatives = weights @ np.array([len(row.outside) for row in rows])
    gain = (weights @ inside) / np.maximum(positives, 1)[:, None]
    gain -= (weights @ outside) / np.maximum(negatives, 1)[:, None]
    gain[~allowed[:, owners]] = -np.inf
    thresholds: Floats = grid[gain.argmax(axis=1)]
    return thresholds


def transferred_tail(rows: Sequence[Ranked], allowed: NDArray[np.bool_], fpr: float) -> Floats:
    """Fix each row's threshold so that it accuses a share ``fpr`` of the allowed non-members.

    Returns
    -------
    array
        Thresholds, ``[rows]``: the lowest that accuse at most that share of the pooled
        non-members of the rows allowed.
    """
    most = allowed_count(sum(len(row.outside) for row in rows), fpr) + 1
    tails = [row.outside[-most:] for row in rows]
    thresholds = np.empty(len(rows))
    for target, others in enumerate(allowed):
        size = sum(len(row.outside) for row, there in zip(rows, others, strict=True) if there)
        pool = np.concatenate([tail for tail, there in zip(tails, others, strict=True) if there])
        place = allowed_count(size, fpr)
        thresholds[target] = (
            -np.inf
            if place >= len(pool)
            else _just_above(np.partition(pool, -1 - place)[-1 - place])
        )
    return thresholds


def precision(tpr: float, fpr: float, prior: float) -> float | None:
    """Return the share of the accused that are members; None if nobody is accused.

    References
    ----------
    Jayaraman et al. (2021), "Revisiting membership inference under realistic assumptions", PoPETs:
    members are rare outside of the laboratory, so that a balanced prior flatters an attack.

    Examples
    --------
    >>> precision(0.1, 0.01, 0.5) > 0.9, precision(0.1, 0.01, 0.01) < 0.1
    (True, True)
    """
    caught, wrongly = prior * tpr, (1 - prior) * fpr
    return None if caught + wrongly == 0 else caught / (caught + wrongly)


def _quantiles(row: Ranked, count: int) -> Floats:
    merged: Floats = np.sort(np.concatenate([row.inside, row.outside]))
    places = np.linspace(0, len(merged) - 1, min(count, len(merged))).astype(np.intp)
    return merged[places]


def _just_above(value: Any) -> float:
    return float(np.nextafter(value, np.inf))

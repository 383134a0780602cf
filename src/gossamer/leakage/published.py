"""The published measure of study 1, as meant and as it was computed."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.errors import InputError
from gossamer.core.labels import read_labels
from gossamer.leakage.given_arrays import checked_logits
from gossamer.leakage.ranking import Best, accused, best_threshold


def best_threshold_attack(
    member_probabilities: ArrayLike,
    member_labels: ArrayLike,
    nonmember_probabilities: ArrayLike,
    nonmember_labels: ArrayLike,
) -> Best:
    """Find the best threshold on the probability of the true class: what was meant.

    The threshold is chosen on the data that it judges, so the figure is optimistic.

    Parameters
    ----------
    member_probabilities, nonmember_probabilities
        ``[examples, classes]`` of one model.
    member_labels, nonmember_labels
        True classes, ``[examples]``.

    Returns
    -------
    Best
        Highest balanced accuracy, and its threshold on the probability.

    Raises
    ------
    InputError
        If shapes do not fit.

    Examples
    --------
    >>> best_threshold_attack([[0.9, 0.1]], [0], [[0.4, 0.6]], [0])
    Best(balanced_accuracy=1.0, threshold=0.9)
    """
    members, inside = _checked(member_probabilities, member_labels, "member")
    others, outside = _checked(nonmember_probabilities, nonmember_labels, "nonmember")
    scores = [members[np.arange(len(inside)), inside], others[np.arange(len(outside)), outside]]
    return best_threshold(np.concatenate(scores), np.repeat([True, False], [*map(len, scores)]))


def published_one_hot_attack(
    member_probabilities: ArrayLike,
    member_labels: ArrayLike,
    nonmember_probabilities: ArrayLike,
    nonmember_labels: ArrayLike,
) -> float:
    """Compute the defective figure that was published; no measure of leakage.

    The published code indexed each example's probabilities with its one-hot label *vector*, so an
    example contributes a row with p(class 0) everywhere but p(class 1) at its label's place. Each
    row, sorted within itself, serves as a candidate threshold and is compared with all rows
    column by column; the counts over all columns are divided by the number of examples, so that a
    "recall" may exceed one. The figure is the highest (1 + "recall" - "false alarms") / 2.

    Parameters
    ----------
    member_probabilities, nonmember_probabilities
        ``[examples, classes]`` of one model.
    member_labels, nonmember_labels
        True classes, ``[examples]``.

    Returns
    -------
    float
        The published "maximum inference accuracy".

    Raises
    ------
    InputError
        If shapes do not fit.

    Examples
    --------
    >>> published_one_hot_attack([[0.9, 0.1]], [0], [[0.4, 0.6]], [0])
    1.0
    """
    inside = _rows(*_checked(member_probabilities, member_labels, "member"))
    outside = _rows(*_checked(nonmember_probabilities, nonmember_labels, "nonmember"))
    if inside.shape[1] != outside.shape[1]:
        raise InputError(
            f"probabilities: {inside.shape[1]} classes of members and {outside.shape[1]} of "
            "non-members, expected the same."
        )
    candidates = np.sort(np.concatenate([inside, outside]), axis=1)
    recall = _reaching(inside, candidates) / len(inside)
    alarms = _reaching(outside, candidates) / len(outside)
    return float((1 + recall - alarms).max() / 2)


def _checked(
    probabilities: ArrayLike, labels: ArrayLike, side: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    array = checked_logits(probabilities, f"{side} probabilities")
    if len(array) != 1:
        raise InputError(f"{side} probabilities: {len(array)} models were given, expected one.")
    _, examples, classes = array.shape
    return array[0], read_labels(f"{side} labels", labels, examples, classes=classes)


def _rows(probabilities: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Return what indexing probabilities with one-hot vectors gives, ``[examples, classes]``."""
    one_hot = labels[:, None] == np.arange(probabilities.shape[1])
    return np.where(one_hot, probabilities[:, [1]], probabilities[:, [0]])


def _reaching(rows: NDArray[Any], candidates: NDArray[Any]) -> NDArray[np.int64]:
    """Count, over all rows and columns, the entries that reach each candidate, ``[candidates]``."""
    ascending = np.sort(rows, axis=0)
    reaching = np.zeros(len(candidates), dtype=np.int64)
    for column, thresholds in zip(ascending.T, candidates.T, strict=True):
        reaching += accused(column, thresholds)
    return reaching

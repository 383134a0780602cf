"""Parts of a dataset, class by class: who is held out, and who goes into which half.

Every function returns sorted positions, so that what a part is does not depend on how it was
drawn, and draws from a stream of its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.core.streams import stream
from gossamer.data.dataset import Labels

Positions = NDArray[np.int64]

_ROUNDING = 1e-9
"""How far a share that is a whole number may lie from it."""


def stratified_split(
    labels: Labels, fraction: float, seed: int, purpose: str = "validation"
) -> tuple[Positions, Positions]:
    """Split positions into kept and held-out ones, with the same mixture of classes in both.

    Exactly ``round(fraction * examples)`` are held out, of each class within one of its
    proportional share. Classes whose share is below one come first when shares are rounded up,
    and those of which nothing would be kept come last.

    Parameters
    ----------
    labels
        Class numbers, ``[examples]``.
    fraction
        Share to hold out, from 0 (nothing) to below 1.
    seed
        The seed of the trial.
    purpose
        What the held-out part is for; each purpose has its own stream.

    Returns
    -------
    kept, held_out
        Sorted positions, ``[examples - k]`` and ``[k]``; disjoint, together all.

    Raises
    ------
    InputError
        If the fraction is out of range, leaves one side empty, or a class has one example only.

    Examples
    --------
    >>> kept, held_out = stratified_split(np.array([0, 1] * 10), 0.2, seed=0)
    >>> len(kept), len(held_out)
    (16, 4)
    """
    if not 0 <= fraction < 1:
        raise InputError(f"{purpose}: fraction is {fraction}, expected a number from 0 to below 1.")
    if fraction == 0:
        return np.arange(len(labels)), np.arange(0)
    counts = _class_counts(purpose, labels)
    total = round(fraction * len(labels))
    if not 0 < total < len(labels):
        raise InputError(
            f"{purpose}: fraction {fraction} of {len(labels)} examples leaves one side empty, "
            "expected at least one example on both; use another fraction or 0."
        )
    held_out = _draw(labels, _apportion(counts, total, fraction * counts), seed, purpose)
    return _others(held_out, len(labels)), held_out


def stratified_sample(labels: Labels, count: int, seed: int) -> Positions:
    """Choose a fixed part with the mixture of classes of the whole, to measure on.

    Parameters
    ----------
    labels
        Class numbers, ``[examples]``.
    count
        How many to choose, from 1 to all.
    seed
        The seed of the trial.

    Returns
    -------
    Positions
        Sorted positions, ``[count]``, of each class within one of its proportional share.

    Raises
    ------
    InputError
        If the count is out of range.

    Examples
    --------
    >>> len(stratified_sample(np.array([0, 1] * 10), 6, seed=0))
    6
    """
    if not 1 <= count <= len(labels):
        raise InputError(
            f"sample: count is {count}, expected from 1 to the {len(labels)} examples there are."
        )
    counts = np.unique_counts(labels).counts
    return _draw(labels, _apportion(counts, count, counts * count / len(labels)), seed, "sample")


def complementary_halves(labels: Labels, seed: int) -> tuple[Positions, Positions]:
    """Split positions into two halves with the same mixture of classes.

    Two networks trained on the two halves are each other's shadow models: what is a member for
    one is none for the other.

    Parameters
    ----------
    labels
        Class numbers, ``[examples]``.
    seed
        The seed that the two trials of a pair share.

    Returns
    -------
    first, second
        Sorted positions, ``[examples // 2]`` and the rest; disjoint, together all.

    Raises
    ------
    InputError
        If a class has one example only.

    Examples
    --------
    >>> first, second = complementary_halves(np.array([0, 1] * 10), seed=0)
    >>> len(first), len(second), len(np.union1d(first, second))
    (10, 10, 20)
    """
    counts = _class_counts("halves", labels)
    first = _draw(labels, _apportion(counts, len(labels) // 2, counts / 2), seed, "halves")
    return first, _others(first, len(labels))


def _class_counts(purpose: str, labels: Labels) -> NDArray[np.int64]:
    classes, counts = np.unique_counts(labels)
    if (counts < 2).any():
        raise InputError(
            f"{purpose}: class {classes[np.argmin(counts)]} has one example, "
            "expected at least 2 of each class to have it on both sides."
        )
    return counts


def _apportion(
    counts: NDArray[np.int64], total: int, shares: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Round shares, ``[classes]``, to whole numbers of the given total (largest remainder).

    Ties go to the lower class. Every number is its share rounded up or down, and a whole share
    stays; a class that would get nothing is rounded up first, one that would be used up last.
    """
    floors: NDArray[np.int64] = np.floor(shares + _ROUNDING).astype(np.int64)
    whole = np.abs(shares - floors) <= _ROUNDING
    rank = np.select([whole, floors == 0, floors == counts - 1], [3, 0, 2], default=1)
    order = np.lexsort((floors - shares, rank))
    floors[order[: total - floors.sum()]] += 1
    return floors


def _draw(labels: Labels, numbers: NDArray[np.int64], seed: int, purpose: str) -> Positions:
    """Draw so many examples of each class, ``[classes]``; return their sorted positions."""
    order = stream(seed, purpose).permutation(len(labels))
    grouped = order[np.argsort(labels[order], kind="stable")]
    counts = np.unique_counts(labels).counts
    rank_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(grouped[rank_in_class < np.repeat(numbers, counts)])


def _others(positions: Positions, count: int) -> Positions:
    return np.delete(np.arange(count), positions)

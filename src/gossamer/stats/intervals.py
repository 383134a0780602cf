"""Means over seeds with their Student-t intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from gossamer.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; low and high are None with fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; None with fewer than two values."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent values with a two-sided Student-t interval.

    Parameters
    ----------
    values
        One number a seed; finite.
    confidence
        Coverage of the interval, between 0 and 1.

    Raises
    ------
    InputError
        If there is no value, or one is not finite.

    References
    ----------
    Student (1908), "The probable error of a mean", Biometrika 6.

    Examples
    --------
    >>> interval = mean_interval([1.0, 2.0, 3.0])
    >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)
    (2.0, -0.484, 4.484)
    >>> mean_interval([1.0]).low is None
    True
    """
    if not 0 < confidence < 1:
        raise InputError(f"the confidence must lie between 0 and 1, not {confidence}")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise InputError("an interval needs at least one value, all of them finite numbers")
    mean = math.fsum(array) / array.size
    if array.size == 1:
        return Interval(mean, None, None, 1)
    error = float(array.std(ddof=1)) / math.sqrt(array.size)
    reach = float(special.stdtrit(array.size - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - reach, mean + reach, int(array.size))


def simultaneous_confidence(count: int, confidence: float = 0.95) -> float:
    """Coverage that each of several intervals needs so that all of them hold together.

    Bonferroni's bound: whichever of the intervals is picked, after looking, it holds.

    References
    ----------
    Dunn (1961), "Multiple comparisons among means", Journal of the American Statistical
    Association 56.

    Examples
    --------
    >>> simultaneous_confidence(1), round(simultaneous_confidence(10), 9)
    (0.95, 0.995)
    """
    if count < 1:
        raise InputError(f"a simultaneous confidence needs at least one interval, not {count}")
    return 1 - (1 - confidence) / count


def paired_difference(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval:
    """Mean of ``first - second`` over paired seeds, with its interval.

    Raises
    ------
    InputError
        If the two do not have one value for each seed.

    Examples
    --------
    >>> paired_difference([0.92, 0.95, 0.93], [0.90, 0.91, 0.92]).mean > 0
    True
    """
    if len(first) != len(second):
        raise InputError(
            f"a paired difference needs the same seeds on both sides, not {len(first)} and "
            f"{len(second)} values"
        )
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], confidence)

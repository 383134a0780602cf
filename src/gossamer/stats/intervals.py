"""Means over seeds with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gossamer.core.errors import InputError

SHAPE_FROM = 8
"""Of fewer values nothing can be said about the shape of their distribution."""

_SKEWED = 0.05
"""Level of the test for skewness; a wrong alarm costs a somewhat wider interval."""

_APART = 8.0
"""Standard deviations of the larger group by which two groups of values lie apart."""


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


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, least_deviation: float = 0.0
) -> Interval:
    """Mean of independent values with a two-sided interval.

    It is Student's. Of skewed values that covers too rarely on one side; where eight values or more
    are skewed by d'Agostino's test, either end is the wider of Student's and Hall's, which allows
    for skewness. How often these cover is in docs/statistics.md.

    Parameters
    ----------
    values
        One number a seed; finite.
    confidence
        Coverage of the interval, between 0 and 1.
    least_deviation
        What the standard deviation counts as where it is smaller; see `rounding_deviation`.

    Raises
    ------
    InputError
        If there is no value, or one is not finite.

    References
    ----------
    Student (1908), "The probable error of a mean", Biometrika 6; d'Agostino (1970),
    "Transformation to normality of the null distribution of g1", Biometrika 57; Hall (1992), "On
    the removal of skewness by transformation", Journal of the Royal Statistical Society B 54.

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
    error = max(float(array.std(ddof=1)), least_deviation) / math.sqrt(array.size)
    reach = float(special.stdtrit(array.size - 1, (1 + confidence) / 2))
    skewness = _skewness(array)
    below, above = (_without_skewness(one, skewness, array.size) for one in (reach, -reach))
    low, high = mean - error * max(reach, below), mean + error * max(reach, -above)
    return Interval(mean, low, high, int(array.size))


def _skewness(values: NDArray[np.float64]) -> float:
    """Return the skewness, corrected for the number of values; 0 where it may be chance.

    It is what `scipy.stats.skew` and `skewtest` give, which take a hundred times as long for the
    few values of an interval: a report of a large study has ten thousand of them.
    """
    n = values.size
    if n < SHAPE_FROM or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return 0.0
    apart = values - values.mean()
    apart /= np.abs(apart).max()  # so that no power of it is too small or too large
    skewness = float((apart**3).mean()) / math.pow((apart**2).mean(), 1.5)
    if abs(_skewness_score(skewness, n)) <= special.ndtri(1 - _SKEWED / 2):
        return 0.0
    return skewness * math.sqrt(n * (n - 1)) / (n - 2)


def _skewness_score(skewness: float, n: int) -> float:
    """Return the score of d'Agostino's test, which is normal where the values are."""
    y = skewness * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    kurtosis = 3 * (n**2 + 27 * n - 70) / (n - 2) * (n + 1) / (n + 5) * (n + 3) / (n + 7) / (n + 9)
    width = math.sqrt(2 * (kurtosis - 1)) - 1
    return math.asinh(y / math.sqrt(2 / (width - 1))) / math.sqrt(math.log(width) / 2)


def _without_skewness(t: float, skewness: float, count: int) -> float:
    """Return the Student statistic that Hall's transformation takes to `t`.

    With a = skewness / (3 root of count) the transformation is T + a T^2 + a^2 T^3 / 3 + a / 2,
    which is monotone: a cube, but for constants.
    """
    a = skewness / (3 * math.sqrt(count))
    if abs(a) < 1e-9:
        return t
    return (math.cbrt(1 + 3 * a * (t - a / 2)) - 1) / a


def two_groups(values: Sequence[float], least_deviation: float = 0.0) -> int | None:
    """Return how many values lie in the smaller of two groups that are far apart, or None.

    A mean over networks of two kinds, such as some that collapsed, is that of neither, and no
    interval of it covers what it should. They are seen from eight values on, where the widest
    gap between neighbours is eight standard deviations of the larger group; of eight normal
    values that happens once in 160 times, of twenty once in more than 20,000.

    Parameters
    ----------
    values
        One number a unit.
    least_deviation
        What the standard deviation counts as where it is smaller; see `rounding_deviation`.

    Examples
    --------
    >>> two_groups([0.1, 0.3, -0.2, 0.0, -30.0, 0.2, -0.1, 0.1])
    1
    >>> two_groups([0.1, 0.3, -0.2, 0.0, 0.5, 0.2, -0.1, 0.1]) is None
    True
    """
    if len(values) < SHAPE_FROM:
        return None
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    gaps = np.diff(ordered)
    below = int(gaps.argmax()) + 1
    larger = ordered[:below] if 2 * below >= ordered.size else ordered[below:]
    spread = max(float(larger.std(ddof=1)), least_deviation)
    return int(ordered.size - larger.size) if float(gaps.max()) > _APART * spread else None


def rounding_deviation(resolution: float, terms: int = 1) -> float:
    """Return the standard deviation that rounding alone gives a number, or a sum of such numbers.

    A share of n examples moves in steps of 1/n. That all seeds give the same one does not show
    that nothing varies, only that it varies by less than can be read off: the true value lies
    anywhere within half a step.

    Parameters
    ----------
    resolution
        The step between neighbouring values, at least 0.
    terms
        How many rounded numbers are added or subtracted.

    References
    ----------
    JCGM 100:2008, "Guide to the expression of uncertainty in measurement", F.2.2.1: "even if the
    repeated indications were all identical, the uncertainty of the measurement attributable to
    repeatability would not be zero"; after Sheppard (1898), Proceedings of the London
    Mathematical Society 29.

    Examples
    --------
    >>> round(rounding_deviation(1.0), 4), round(rounding_deviation(1.0, terms=2), 4)
    (0.2887, 0.4082)
    """
    return resolution * math.sqrt(terms / 12)


def binomial_half_width(share: float, count: int, confidence: float = 0.95) -> float:
    """Return half the width of the interval of a share of independent examples.

    It is Wilson's interval, which holds near 0 and 1 too.

    Parameters
    ----------
    share
        The share that was found, from 0 to 1.
    count
        Of how many examples, at least 1.
    confidence
        Coverage of the interval, between 0 and 1.

    References
    ----------
    Wilson (1927), "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22.

    Examples
    --------
    >>> round(binomial_half_width(0.9, 10_000), 4), round(binomial_half_width(1.0, 100), 4)
    (0.0059, 0.0185)
    """
    z = float(special.ndtri((1 + confidence) / 2))
    spread = math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return z * spread / (1 + z**2 / count)


def mutual_widening(count: int) -> float:
    """How many times as wide intervals are over units that are each other's references.

    Let every two of n units add the same independent deviation h, of variance s, to the mean of the
    n - 1 comparisons of either. Then the mean over units has the variance 2 s / (n (n - 1)), and
    units that were taken to be independent suggest s (n - 2) / (n (n - 1)^2). This is so where
    nothing leaks; where much does, references matter less, and the interval is somewhat too wide.
    With two units both results are of the same comparison, and there is no interval.

    Raises
    ------
    InputError
        If there are fewer than three units.

    References
    ----------
    Hoeffding (1948), "A class of statistics with asymptotically normal distribution", Annals of
    Mathematical Statistics 19.

    Examples
    --------
    >>> round(mutual_widening(4), 3), round(mutual_widening(1000), 3)
    (1.732, 1.415)
    """
    if count < 3:
        raise InputError(f"units that are each other's references must be three, not {count}")
    return math.sqrt(2 * (count - 1) / (count - 2))


def mutual_interval(
    values: Sequence[float], confidence: float = 0.95, least_deviation: float = 0.0
) -> Interval:
    """Mean of values of units that are each other's references, with its widened interval.

    Without an interval for fewer than three units; see `mutual_widening`.

    Examples
    --------
    >>> plain, wide = mean_interval([1.0, 2.0, 3.0]), mutual_interval([1.0, 2.0, 3.0])
    >>> wide.half_width / plain.half_width
    2.0
    """
    plain = mean_interval(values, confidence, least_deviation)
    if plain.low is None or plain.high is None or plain.count < 3:
        return Interval(plain.mean, None, None, plain.count)
    low, high = (mutual_widening(plain.count) * (e - plain.mean) for e in (plain.low, plain.high))
    return Interval(plain.mean, plain.mean + low, plain.mean + high, plain.count)


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


def bounded(interval: Interval, most: float) -> Interval:
    """Cut an interval to what is possible: from minus `most` to `most`.

    It covers as often as before, and the mean, which is possible itself, stays inside.

    Examples
    --------
    >>> bounded(Interval(0.25, -3.5, 4.0, 2), 1.0)
    Interval(mean=0.25, low=-1.0, high=1.0, count=2)
    """
    if interval.low is None or interval.high is None:
        return interval
    low, high = max(interval.low, -most), min(interval.high, most)
    return Interval(interval.mean, low, high, interval.count)

"""Power: which differences so many seeds can see, and how many seeds a difference needs."""

import math

from scipy import special

from gossamer.errors import InputError
from gossamer.stats.verdicts import Says

POWER = 0.8
"""How often a difference is to be seen that is there."""

MOST_UNITS = 1_000
"""Beyond so many a number of seeds is no plan any more."""


def smallest_detectable_difference(
    deviation: float, units: int, confidence: float = 0.95, power: float = POWER
) -> float:
    """Return the smallest mean that an interval is likely to tell from zero.

    The interval is Student's two-sided one; it tells a mean from zero if it lies on the mean's
    side of it. How often it does follows from the noncentral t distribution.

    Parameters
    ----------
    deviation
        Standard deviation of the paired differences, over the units.
    units
        Number of independent differences; at least 2.
    confidence
        Coverage of the interval, between 0 and 1.
    power
        How often the interval is to exclude zero, between 0 and 1.

    Returns
    -------
    float
        In the unit of `deviation`.

    Raises
    ------
    InputError
        If there are fewer than 2 units, or a number is out of its range.

    References
    ----------
    Owen (1965), "A special case of a bivariate non-central t-distribution", Biometrika 52.

    Examples
    --------
    >>> round(smallest_detectable_difference(1.0, 6), 3)
    1.435
    """
    if units < 2:
        raise InputError(f"power needs at least 2 seeds, not {units}")
    if not (0 <= deviation < math.inf and 0 < confidence < 1 and 0 < power < 1):
        raise InputError(
            "power needs a finite standard deviation of at least 0, and a confidence and a power "
            f"between 0 and 1, not {deviation}, {confidence} and {power}"
        )
    freedom = units - 1
    critical = special.stdtrit(freedom, (1 + confidence) / 2)
    noncentrality = float(special.nctdtrinc(freedom, 1 - power, critical))
    return noncentrality * deviation / math.sqrt(units)


def units_needed(
    deviation: float,
    distance: float,
    confidence: float = 0.95,
    power: float = POWER,
    most: int = MOST_UNITS,
) -> int | None:
    """Return how many units it takes to see a difference, or None if more than `most`.

    Parameters
    ----------
    deviation
        Standard deviation of the paired differences, over the units.
    distance
        How far the mean is from the value that the interval is to exclude.
    confidence, power
        As in `smallest_detectable_difference`.
    most
        Where to give up.

    Examples
    --------
    >>> units_needed(1.0, 0.5), units_needed(1.0, 0.0)
    (34, None)
    """
    fewest, enough = 2, most
    if not smallest_detectable_difference(deviation, enough, confidence, power) <= distance:
        return None
    while fewest < enough:
        middle = (fewest + enough) // 2
        if smallest_detectable_difference(deviation, middle, confidence, power) <= distance:
            enough = middle
        else:
            fewest = middle + 1
    return enough


def distance_to_verdict(says: Says, margin: float, mean: float) -> float:
    """Return how far a mean is from the nearest value whose exclusion decides the claim.

    See `verdicts.comparison_verdict`: ``higher`` is decided by an interval of this mean that
    excludes either zero or the margin, whichever is further off; the others have one bound.

    Examples
    --------
    >>> distance_to_verdict("higher", 0.5, 0.75), distance_to_verdict("higher", 0.5, 0.0)
    (0.75, 0.5)
    >>> distance_to_verdict("not-lower", 0.5, -0.25), distance_to_verdict("on-par", 2.0, -0.5)
    (0.25, 1.5)
    """
    if says in ("lower", "not-higher"):
        mean = -mean
    if says in ("higher", "lower"):
        return max(mean, margin - mean)
    if says in ("not-lower", "not-higher"):
        return abs(mean + margin)
    return abs(margin - abs(mean))

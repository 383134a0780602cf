"""Power: which distances so many seeds can see, and how many seeds a distance needs."""

import math

from scipy import special

from gossamer.core.errors import InputError
from gossamer.stats.intervals import mutual_widening
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
    side of it. How often it does follows from the noncentral t distribution. (That an interval is
    widened where chance makes normal values look skewed costs two points of power at most.)

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
    *,
    mutual: bool = False,
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
    mutual
        Whether units are each other's references, so that the interval of n of them is
        `gossamer.stats.intervals.mutual_widening` of n times as wide.

    Examples
    --------
    >>> units_needed(1.0, 0.5), units_needed(1.0, 0.0), units_needed(1.0, 0.5, mutual=True)
    (34, None, 66)
    """

    def is_enough(units: int) -> bool:
        widened = deviation * (mutual_widening(units) if mutual else 1)
        return smallest_detectable_difference(widened, units, confidence, power) <= distance

    fewest, enough = 3 if mutual else 2, most
    if not is_enough(enough):
        return None
    while fewest < enough:
        middle = (fewest + enough) // 2
        if is_enough(middle):
            enough = middle
        else:
            fewest = middle + 1
    return enough


def distance_to_threshold(says: Says, margin: float, mean: float) -> float:
    """Return how far a mean is from the nearest threshold of a claim.

    An interval that excludes the threshold decides the claim; see `verdicts.comparison_verdict`.

    Examples
    --------
    >>> distance_to_threshold("higher", 0.5, 0.75), distance_to_threshold("higher", 0.5, 0.0)
    (0.25, 0.5)
    >>> distance_to_threshold("not-lower", 0.5, -0.25), distance_to_threshold("on-par", 2.0, -0.5)
    (0.25, 1.5)
    """
    if says in ("higher", "not-higher"):
        return abs(mean - margin)
    if says in ("lower", "not-lower"):
        return abs(mean + margin)
    return abs(margin - abs(mean))


def power_at_each_threshold(says: Says) -> float:
    """Return how often an interval must exclude a threshold for a claim to be decided often enough.

    That is `POWER`; but "on-par" has two thresholds, and is supported if both are excluded.

    Examples
    --------
    >>> power_at_each_threshold("higher"), power_at_each_threshold("on-par")
    (0.8, 0.9)
    """
    return (1 + POWER) / 2 if says == "on-par" else POWER

"""Comparing two curves where one of their measures is equal."""

import math
from collections.abc import Sequence
from itertools import pairwise

from gossamer.core.errors import InputError


def value_at(
    position: float,
    positions: Sequence[float],
    values: Sequence[float],
    *,
    logarithmic: bool = False,
) -> float | None:
    """Return a curve's value where it first passes a position; None if it never does.

    The order of the points is the curve's own, such as that of training: it may pass a position
    several times, as accuracy does that has stopped rising, and only the first time counts.
    Between two points it is a straight line.

    Parameters
    ----------
    position
        Where to look.
    positions, values
        Shape [points], in the curve's order.
    logarithmic
        Interpolate over the logarithm of the position, as suits counts; all must be above 0.

    Raises
    ------
    InputError
        If there are not as many positions as values, or one has no logarithm.

    Examples
    --------
    >>> value_at(0.5, [0, 1], [10, 20]), value_at(2, [0, 1], [10, 20])
    (15.0, None)
    >>> value_at(0.5, [0, 1, 0], [10, 20, 90])
    15.0
    >>> round(value_at(100, [10, 1000], [1, 3], logarithmic=True), 9)
    2.0
    """
    if len(positions) != len(values):
        raise InputError(
            f"a curve needs one value for each position, not {len(values)} for {len(positions)}"
        )
    if logarithmic and (lowest := min(positions, default=1)) <= 0:
        raise InputError(f"a position of {lowest} has no logarithm: give counts above 0")
    points = list(zip(positions, values, strict=True))
    for (start, first), (end, last) in pairwise([*points[:1], *points]):
        if min(start, end) <= position <= max(start, end):
            return first + (last - first) * _share(position, start, end, logarithmic)
    return None


def _share(position: float, start: float, end: float, logarithmic: bool) -> float:
    """Return how far a position lies on the way from start to end."""
    if start == end:
        return 0.0
    if logarithmic:
        return math.log(position / start) / math.log(end / start)
    return (position - start) / (end - start)

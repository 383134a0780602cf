"""Comparing two curves where one of their measures is equal."""

from collections.abc import Sequence

import numpy as np

from gossamer.errors import InputError


def value_at(
    position: float,
    positions: Sequence[float],
    values: Sequence[float],
    *,
    logarithmic: bool = False,
) -> float | None:
    """Return a curve's value at a position, interpolated linearly; None outside of its range.

    Points of equal position count as one, with the mean of their values.

    Parameters
    ----------
    position
        Where to look.
    positions, values
        Shape [points], in any order.
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
    >>> round(value_at(100, [10, 1000], [1, 3], logarithmic=True), 9)
    2.0
    """
    if len(positions) != len(values):
        raise InputError(
            f"a curve needs one value for each position, not {len(values)} for {len(positions)}"
        )
    if not positions or not min(positions) <= position <= max(positions):
        return None
    if logarithmic and min(positions) <= 0:
        raise InputError(f"a position of {min(positions)} has no logarithm: give counts above 0")
    places, point = np.unique(np.asarray(positions, dtype=np.float64), return_inverse=True)
    means = np.bincount(point, weights=values) / np.bincount(point)
    if logarithmic:
        return float(np.interp(np.log(position), np.log(places), means))
    return float(np.interp(position, places, means))

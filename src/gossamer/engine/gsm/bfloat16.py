"""Numbers of 16 bits: the upper half of a float32, so 8 significant bits over the same range."""

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16]


def to_bfloat16(numbers: NDArray[np.float32]) -> Bits:
    """Round to the nearest bfloat16, ties to even; NaN stays NaN, and what is too large overflows.

    Parameters
    ----------
    numbers
        Of any shape.

    Returns
    -------
    NDArray[numpy.uint16]
        The bits of each.

    Examples
    --------
    >>> from_bfloat16(to_bfloat16(np.array([1.0, 1.00390625, 1.01171875], np.float32))).tolist()
    [1.0, 1.0, 1.015625]
    """
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    # Just less than half of the last place, and one more where that place is odd.
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 0x40  # A NaN must not round to infinity.
    return np.where(np.isnan(numbers), quiet, rounded).astype(np.uint16)


def from_bfloat16(bits: Bits) -> NDArray[np.float32]:
    """Return the numbers that the bits mean, exactly.

    Examples
    --------
    >>> from_bfloat16(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)

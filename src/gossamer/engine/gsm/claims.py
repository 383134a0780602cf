"""What a file may claim of itself: memory is to follow what it holds, not what it says.

Without these bounds, half a kilobyte could describe a network that takes gigabytes to read or to
run. Networks that were trained stay far below them.
"""

import math
from collections.abc import Sequence

from gossamer.core.errors import InputError
from gossamer.engine import Network, Shape, Value

LEAST_BITMAP_COLUMNS = 8
"""Fewer columns of sparse weights are never stored as a bitmap: a row takes eight bytes in memory,
and so has a byte of the file at least."""

MOST_NUMBERS_A_VALUE = 32
"""How many numbers of a dense matrix may be stored by a bitmap for each value beside it..."""

SMALL_MATRIX = 1024
"""... where there are more numbers than these, which take hardly more memory than their names."""

MOST_EXPANSION = 2**12
"""How many numbers the values of a network may hold for each number that the file stores or that an
example brings..."""

SMALL_VALUES = 2**24
"""... beyond these, which take 64 MiB."""


def dense_as_bitmap(numbers: int, held: int) -> bool:
    """Return whether so many of the numbers of a dense matrix may be stored alone.

    Examples
    --------
    >>> dense_as_bitmap(32_000, 1000), dense_as_bitmap(32_000, 999), dense_as_bitmap(1000, 0)
    (True, False, True)
    """
    return numbers <= max(SMALL_MATRIX, MOST_NUMBERS_A_VALUE * held)


def check_values(network: Network, shapes: Sequence[Shape], stored: int) -> None:
    """Check that what a network computes for one example stays in proportion.

    Parameters
    ----------
    network
        A sound one.
    shapes
        Of all of its values, as `check_network` returns them.
    stored
        How many bytes the arrays of the file take.

    Raises
    ------
    InputError
        If it would hold too much.

    Examples
    --------
    >>> check_values(Network((5,), (), 0), [(5,)], stored=0)
    """
    held = numbers_held(network, shapes)
    given = sum(map(math.prod, network.inputs))
    most = SMALL_VALUES + MOST_EXPANSION * (given + stored // 4)
    if held > most:
        raise InputError(
            f"network: its values hold {held} numbers for one example, padding included, expected "
            f"at most {most} for a file with {stored} bytes of arrays."
        )


def numbers_held(network: Network, shapes: Sequence[Shape]) -> int:
    """Return how many numbers the values of one example hold, padded images and sums included.

    Examples
    --------
    >>> from gossamer.engine import Pool, Pooling
    >>> pool = Pool(0, Pooling("max", (2, 2), (1, 1), (1, 1)))
    >>> numbers_held(Network((1, 4, 4), (pool,), 1), [(1, 4, 4), (1, 5, 5)])  # padded: 6 x 6
    77
    """
    known: dict[Value, Shape] = dict(enumerate(shapes))
    between = sum(layer.held(known) for layer in network.layers)
    return between + sum(map(math.prod, shapes))

"""Where the zeros are, as a file stores it: a bitmap, or the columns of each row.

A pattern is `starts` and `indices` as in `gossamer.engine.Weights`: group g of rows (one
row, or a block of four) holds the columns `indices[starts[g]:starts[g + 1]]`, which ascend.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.gsm.claims import LEAST_BITMAP_COLUMNS
from gossamer.engine.gsm.container import Stored

Bytes = NDArray[np.uint8]
_ROWS_TOGETHER = 8
"""Bits of so many groups fill whole bytes, whatever the number of columns."""
_BITS = 2**20
"""How many bits are unpacked at once: each takes a byte then."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Columns that are held, of `groups` times `columns`."""

    groups: int
    columns: int
    starts: NDArray[np.int64]
    indices: NDArray[np.int32]


def smallest_encoding(pattern: Pattern) -> str:
    """Return what stores a pattern in the fewest bytes, "bitmap" or "columns".

    Bitmaps of very few columns are refused by readers, and so are not chosen.

    Examples
    --------
    >>> starts = np.array([0, 1, 1], np.int64)
    >>> smallest_encoding(Pattern(2, 1000, starts, np.array([7], np.int32)))
    'columns'
    """
    if pattern.columns < LEAST_BITMAP_COLUMNS:
        return "columns"
    bitmap = bitmap_bytes(pattern.groups, pattern.columns)
    itemsize = _column_type(pattern.columns).itemsize
    columns = itemsize * (pattern.groups + len(pattern.indices))
    return "columns" if columns < bitmap else "bitmap"


def bitmap_bytes(groups: int, columns: int) -> int:
    """Return how many bytes a bitmap takes."""
    return -(-groups * columns // 8)


def to_bitmap(pattern: Pattern) -> Bytes:
    """Return one bit for each column of each group, row after row, the first in the lowest bit.

    Examples
    --------
    >>> starts = np.array([0, 2, 3], np.int64)
    >>> to_bitmap(Pattern(2, 3, starts, np.array([0, 2, 1], np.int32))).tolist()  # 101 010
    [21]
    """
    parts = []
    for first, last in _parts(pattern.groups, pattern.columns):
        held = slice(pattern.starts[first], pattern.starts[last])
        bits = np.zeros((last - first, pattern.columns), bool)
        group = np.repeat(np.arange(last - first), np.diff(pattern.starts[first : last + 1]))
        bits[group, pattern.indices[held]] = True
        parts.append(np.packbits(bits, bitorder="little"))
    return np.concatenate(parts)


def from_bitmap(bitmap: Bytes, groups: int, columns: int, stored: int) -> Pattern:
    """Undo `to_bitmap`.

    Parameters
    ----------
    bitmap
        The bits.
    groups, columns
        What they are about.
    stored
        How many of them are to be set; memory follows this number, which the values bear out.

    Raises
    ------
    InputError
        If there are more or fewer bits, or others are set.
    """
    if bitmap.size != bitmap_bytes(groups, columns):
        raise InputError(
            f"bitmap has {bitmap.size} bytes, expected {bitmap_bytes(groups, columns)} for "
            f"{groups} times {columns} bits."
        )
    found = int(np.bitwise_count(bitmap).sum(dtype=np.int64))
    beyond = bitmap.size and int(bitmap[-1]) >> ((groups * columns - 1) % 8 + 1)
    if found != stored or beyond:
        raise InputError(
            f"bitmap has {found} bits set, expected {stored}, one for each stored value, and none "
            "behind the last column."
        )
    starts = np.zeros(groups + 1, np.int64)
    indices = np.empty(stored, np.int32)
    for first, last in _parts(groups, columns):
        count = (last - first) * columns
        begin = first * columns // 8
        bits = np.unpackbits(
            bitmap[begin : begin + -(-count // 8)], count=count, bitorder="little"
        ).reshape(-1, columns)
        starts[first + 1 : last + 1] = starts[first] + np.cumsum(bits.sum(axis=1, dtype=np.int64))
        indices[starts[first] : starts[last]] = np.nonzero(bits)[1]
    return Pattern(groups, columns, starts, indices)


def to_columns(pattern: Pattern) -> tuple[Stored, Stored]:
    """Return how many columns each group holds, and these, as the smallest type that has room.

    Examples
    --------
    >>> starts = np.array([0, 2, 3], np.int64)
    >>> counts, indices = to_columns(Pattern(2, 3, starts, np.array([0, 2, 1], np.int32)))
    >>> counts[0], counts[1].tolist(), indices[1].tolist()
    ('uint8', [2, 1], [0, 2, 1])
    """
    dtype = _column_type(pattern.columns)
    counts = np.diff(pattern.starts).astype(dtype)
    return (dtype.name, counts), (dtype.name, pattern.indices.astype(dtype))


def from_columns(counts: NDArray[Any], indices: NDArray[Any], groups: int, columns: int) -> Pattern:
    """Undo `to_columns`; whether the columns ascend is for `check_network` to say.

    Raises
    ------
    InputError
        If the counts and the columns do not fit together.
    """
    if counts.shape != (groups,) or indices.ndim != 1:
        raise InputError(
            f"counts have shape {list(counts.shape)} and columns {list(indices.shape)}, expected "
            f"[{groups}] and one length."
        )
    starts = np.zeros(groups + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    if starts[-1] != indices.size:
        raise InputError(
            f"counts add up to {starts[-1]}, expected {indices.size}, as many as there are columns."
        )
    if indices.size and int(indices.max()) >= columns:
        raise InputError(f"columns go up to {indices.max()}, expected at most {columns - 1}.")
    return Pattern(groups, columns, starts, indices.astype(np.int32))


def _column_type(columns: int) -> np.dtype[Any]:
    """Return the type of a column number, and of a count of columns."""
    return np.min_scalar_type(columns)


def _parts(groups: int, columns: int) -> list[tuple[int, int]]:
    step = max(1, _BITS // (columns * _ROWS_TOGETHER)) * _ROWS_TOGETHER
    return [(first, min(first + step, groups)) for first in range(0, groups, step)]

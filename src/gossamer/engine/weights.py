"""Weights: a matrix in one of three layouts, packed and unpacked again."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gossamer.core.errors import InputError
from gossamer.engine.fields import Array, Floats

Layout = Literal["dense", "csr", "block"]
BLOCK_ROWS = 4
"""Rows that share one pattern where the layout of weights is "block"."""
NUMBERS_AT_ONCE = 2**24
"""How many numbers a step may hold at once beside its input and its result."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A matrix [rows, columns], stored by its layout.

    Rows are outputs. Columns are inputs; those of a convolution are numbered as in the flattened
    weight of PyTorch: channel within the group, then row and column of the kernel.

    - "dense": `values` is [rows, columns]; `starts` and `indices` are empty.
    - "csr": row r holds `values[starts[r]:starts[r + 1]]` at the columns `indices` of the same
      slice, which ascend. `values` is [nonzeros].
    - "block": rows 4 r to 4 r + 3 share the columns `indices[starts[r]:starts[r + 1]]`; `values` is
      [blocks, 4]. Rows beyond the last are padded with zeros.
    """

    layout: Layout
    rows: int
    columns: int
    values: Array
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    indices: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def stored(self) -> int:
        """How many numbers are stored, and so multiplied for each position of the output."""
        return int(self.values.size)


def dense(matrix: Array) -> Weights:
    """Return a matrix as it is, in its own precision."""
    rows, columns = matrix.shape
    return Weights("dense", rows, columns, matrix)


def pack_weights(matrix: Array, layout: Layout) -> Weights:
    """Store a matrix [rows, columns] by its layout; what is not zero is kept, exactly.

    Parameters
    ----------
    matrix
        Weights [rows, columns]; converted to float32.
    layout
        "dense", "csr" (single non-zeros), or "block" (columns of 4 rows that are not all zero).

    Examples
    --------
    >>> packed = pack_weights(np.array([[0.0, 2.0], [3.0, 0.0]]), "csr")
    >>> packed.starts.tolist(), packed.indices.tolist(), packed.values.tolist()
    ([0, 1, 2], [1, 0], [2.0, 3.0])
    """
    given = np.ascontiguousarray(matrix, np.float32)
    rows, columns = given.shape
    if layout == "dense":
        return dense(given)
    lanes = BLOCK_ROWS if layout == "block" else 1
    padded = np.zeros((-(-rows // lanes) * lanes, columns), np.float32)
    padded[:rows] = given
    groups = padded.reshape(-1, lanes, columns)
    row, column = np.nonzero((groups != 0).any(axis=1))
    values = groups[row, :, column]
    starts = np.zeros(len(groups) + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(groups)), out=starts[1:])
    if layout == "csr":
        values = values[:, 0]
    return Weights(layout, rows, columns, np.ascontiguousarray(values), starts, column.astype("i4"))


def unpack_weights(weights: Weights) -> Floats:
    """Return the matrix [rows, columns] that is stored.

    Examples
    --------
    >>> matrix = np.array([[0, 1], [0, 2], [0, 0], [3, 0], [0, 4]], np.float32)
    >>> bool((unpack_weights(pack_weights(matrix, "block")) == matrix).all())
    True
    """
    return np.asarray(unpack_rows(weights, 0, weights.rows), np.float32)


def unpack_rows(weights: Weights, start: int, stop: int, dtype: DTypeLike = np.float32) -> Array:
    """Return some of the rows, [stop - start, columns], of the matrix that is stored.

    Examples
    --------
    >>> unpack_rows(pack_weights(np.array([[0.0, 2.0], [3.0, 0.0]]), "csr"), 1, 2).tolist()
    [[3.0, 0.0]]
    """
    if weights.layout == "dense":
        return weights.values[start:stop].astype(dtype, copy=False)
    lanes = BLOCK_ROWS if weights.layout == "block" else 1
    first, last = start // lanes, -(-stop // lanes)
    held = slice(weights.starts[first], weights.starts[last])
    groups = np.zeros((last - first, lanes, weights.columns), dtype)
    row = np.repeat(np.arange(len(groups)), np.diff(weights.starts[first : last + 1]))
    groups[row, :, weights.indices[held]] = weights.values[held].reshape(-1, lanes)
    return groups.reshape(-1, weights.columns)[start - lanes * first : stop - lanes * first]


def parts(length: int, numbers_each: int) -> list[tuple[int, int]]:
    """Cut 0 to length into parts of bounded memory; all but the last hold whole blocks of rows."""
    step = max(1, NUMBERS_AT_ONCE // max(1, numbers_each))
    step = -(-step // BLOCK_ROWS) * BLOCK_ROWS
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def random_weights(
    random: np.random.Generator, columns: int, rows: int | None = None
) -> tuple[Weights, Floats]:
    """Return half empty weights of a random layout, and a bias, for a test of an operator."""
    layout: Layout = get_args(Layout)[int(random.integers(3))]
    matrix = random.standard_normal((rows or int(random.integers(1, 9)), columns))
    held = random.random(matrix.shape) < 0.5
    return pack_weights(matrix * held, layout), random.standard_normal(len(matrix)).astype("f4")


def expect_columns(weights: Weights, columns: int) -> None:
    """Refuse weights for another number of inputs.

    Raises
    ------
    InputError
        If they have more columns, or fewer.
    """
    if weights.columns != columns:
        raise InputError(
            f"weights have {weights.columns} columns, expected {columns} for the value that it "
            "reads."
        )

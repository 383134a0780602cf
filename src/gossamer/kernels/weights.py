"""Weights packed by their kind, and unpacked again."""

import numpy as np
from numpy.typing import NDArray

from gossamer.kernels.network import BLOCK_ROWS, Floats, Kind, Weights


def pack_weights(matrix: NDArray[np.floating], kind: Kind) -> Weights:
    """Store a matrix [rows, columns] by its kind; what is not zero is kept, exactly.

    Parameters
    ----------
    matrix
        Weights [rows, columns]; converted to float32.
    kind
        "dense", "sparse" (single non-zeros), or "block" (columns of 4 rows that are not all zero).

    Examples
    --------
    >>> packed = pack_weights(np.array([[0.0, 2.0], [3.0, 0.0]]), "sparse")
    >>> packed.starts.tolist(), packed.indices.tolist(), packed.values.tolist()
    ([0, 1, 2], [1, 0], [2.0, 3.0])
    """
    dense = np.ascontiguousarray(matrix, np.float32)
    rows, columns = dense.shape
    if kind == "dense":
        return Weights("dense", rows, columns, dense)
    lanes = BLOCK_ROWS if kind == "block" else 1
    padded = np.zeros((-(-rows // lanes) * lanes, columns), np.float32)
    padded[:rows] = dense
    groups = padded.reshape(-1, lanes, columns)
    row, column = np.nonzero((groups != 0).any(axis=1))
    values = groups[row, :, column]
    starts = np.zeros(len(groups) + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(groups)), out=starts[1:])
    if kind == "sparse":
        values = values[:, 0]
    return Weights(kind, rows, columns, np.ascontiguousarray(values), starts, column.astype("i4"))


def unpack_weights(weights: Weights) -> Floats:
    """Return the matrix [rows, columns] that is stored.

    Examples
    --------
    >>> matrix = np.array([[0, 1], [0, 2], [0, 0], [3, 0], [0, 4]], np.float32)
    >>> bool((unpack_weights(pack_weights(matrix, "block")) == matrix).all())
    True
    """
    return unpack_rows(weights, 0, weights.rows)


def unpack_rows(weights: Weights, start: int, stop: int) -> Floats:
    """Return some of the rows, [stop - start, columns], of the matrix that is stored.

    Examples
    --------
    >>> unpack_rows(pack_weights(np.array([[0.0, 2.0], [3.0, 0.0]]), "sparse"), 1, 2).tolist()
    [[3.0, 0.0]]
    """
    if weights.kind == "dense":
        return weights.values[start:stop]
    lanes = BLOCK_ROWS if weights.kind == "block" else 1
    first, last = start // lanes, -(-stop // lanes)
    held = slice(weights.starts[first], weights.starts[last])
    groups = np.zeros((last - first, lanes, weights.columns), np.float32)
    row = np.repeat(np.arange(len(groups)), np.diff(weights.starts[first : last + 1]))
    groups[row, :, weights.indices[held]] = weights.values[held].reshape(-1, lanes)
    return groups.reshape(-1, weights.columns)[start - lanes * first : stop - lanes * first]

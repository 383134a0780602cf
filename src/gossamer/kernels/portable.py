"""Networks run by NumPy alone: where no compiled kernel is there, and as the reference of tests.

Every layer computes what the function of PyTorch of the same name computes. Examples go through
in batches, and wide convolutions in strips, so that memory stays bounded.
"""

import math
from typing import assert_never, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from gossamer.kernels.checks import check_inputs, check_network
from gossamer.kernels.network import (
    BLOCK_ROWS,
    Concatenate,
    Convolution,
    Epilogue,
    Floats,
    Layer,
    Linear,
    Network,
    Pair,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Softmax,
    Weights,
    read_by,
    window_positions,
)
from gossamer.kernels.pointwise import activate
from gossamer.kernels.weights import unpack_rows

Array = NDArray[np.floating]
_NUMBERS = 2**24
"""How many numbers a step may hold at once beside its input and its result."""


def run_portable(
    network: Network, inputs: NDArray[np.floating], dtype: DTypeLike = np.float32
) -> Array:
    """Compute what a network gives for some examples.

    Parameters
    ----------
    network
        What to compute; it is checked first.
    inputs
        Examples [N, *input_shape]; N may be 0.
    dtype
        Computed in, and returned: `numpy.float32`, or `numpy.float64` for a reference.

    Returns
    -------
    NDArray
        [N, *output_shape].

    Raises
    ------
    InputError
        If the network is not sound, or the inputs have another shape.

    Examples
    --------
    >>> from gossamer.kernels.weights import pack_weights
    >>> weights = pack_weights(np.array([[1.0, 0.0], [0.0, 2.0]]), "sparse")
    >>> network = Network((2,), (Linear(0, weights),), output=1)
    >>> run_portable(network, np.array([[3.0, 4.0]])).tolist()
    [[3.0, 8.0]]
    """
    shapes = check_network(network)
    check_inputs(network, inputs)
    widest = max(math.prod(shape) for shape in shapes)
    size = max(1, _NUMBERS // widest)
    results = np.empty((len(inputs), *shapes[network.output]), dtype)
    # Overflow gives infinity and NaN here as it does in PyTorch, without a word.
    with np.errstate(all="ignore"):
        for start in range(0, len(inputs), size):
            batch = np.asarray(inputs[start : start + size], dtype)
            results[start : start + size] = _run_batch(network, batch)
    return results


def _run_batch(network: Network, inputs: Array) -> Array:
    """Compute one batch; a value is let go once nothing reads it any more."""
    last_reader = {number: i for i, layer in enumerate(network.layers) for number in read_by(layer)}
    values = {0: inputs}
    for i, layer in enumerate(network.layers):
        values[i + 1] = _run_layer(layer, values)
        for number in {i + 1, *read_by(layer)}:
            if last_reader.get(number, 0) <= i and number != network.output:
                del values[number]
    return values[network.output]


def _run_layer(layer: Layer, values: dict[int, Array]) -> Array:
    match layer:
        case Linear():
            return _finish(_linear(layer, values[layer.input]), layer.epilogue, values)
        case Convolution():
            return _finish(_convolve(layer, values[layer.input]), layer.epilogue, values)
        case Pool():
            return _pool(values[layer.input], layer.pooling)
        case Pointwise():
            return _finish(values[layer.input], layer.epilogue, values)
        case Concatenate():
            return np.concatenate([values[number] for number in layer.inputs], axis=1)
        case Reshape():
            given = values[layer.input]
            return given.reshape(len(given), *layer.shape)
        case Softmax():
            return _softmax(values[layer.input], logarithm=layer.logarithm)
        case _:
            assert_never(layer)


def _finish(sums: Array, epilogue: Epilogue, values: dict[int, Array]) -> Array:
    if epilogue.residual is not None:
        sums = sums + values[epilogue.residual]
    sums = activate(epilogue.activation, sums)
    if epilogue.scale is not None:
        sums = sums * _along_channels(epilogue.scale, sums)
    if epilogue.shift is not None:
        sums = sums + _along_channels(epilogue.shift, sums)
    return sums if epilogue.pooling is None else _pool(sums, epilogue.pooling)


def _along_channels(numbers: Floats, like: Array) -> Array:
    return numbers.astype(like.dtype).reshape(-1, *(1,) * (like.ndim - 2))


def _linear(layer: Linear, given: Array) -> Array:
    weights = layer.weights
    sums = np.empty((len(given), weights.rows), given.dtype)
    for start, stop in _parts(weights.rows, weights.columns):
        np.matmul(given, _dense(weights, start, stop, given.dtype).T, out=sums[:, start:stop])
    if layer.bias is not None:
        sums += layer.bias
    return sums


def _convolve(layer: Convolution, given: Array) -> Array:
    """Multiply the windows, unrolled to columns, by the weights: strip by strip, group by group."""
    weights, groups = layer.weights, layer.groups
    windows = _windows(
        _padded(given, layer.padding, 0.0), layer.kernel, layer.stride, layer.dilation
    )
    examples, channels, height, width = windows.shape[:4]
    sums = np.empty((examples, weights.rows, height, width), given.dtype)
    rows, inputs = weights.rows // groups, channels // groups
    for top, bottom in _parts(height, examples * weights.columns * width):
        for group in range(groups):
            strip = windows[:, group * inputs : (group + 1) * inputs, top:bottom]
            columns = strip.transpose(0, 1, 4, 5, 2, 3).reshape(examples, weights.columns, -1)
            for start, stop in _parts(rows, weights.columns):
                rows_here = slice(group * rows + start, group * rows + stop)
                matrix = _dense(weights, rows_here.start, rows_here.stop, given.dtype)
                products = np.matmul(matrix, columns)
                sums[:, rows_here, top:bottom] = products.reshape(examples, -1, bottom - top, width)
    if layer.bias is not None:
        bias = layer.bias.astype(given.dtype)
        sums += bias if bias.ndim == 3 else bias[:, None, None]
    return sums


def _dense(weights: Weights, start: int, stop: int, dtype: np.dtype[np.floating]) -> Array:
    return unpack_rows(weights, start, stop).astype(dtype, copy=False)


def _parts(length: int, numbers_each: int) -> list[tuple[int, int]]:
    """Cut 0 to length into parts of bounded memory; all but the last hold whole blocks of rows."""
    step = max(1, _NUMBERS // max(1, numbers_each))
    step = -(-step // BLOCK_ROWS) * BLOCK_ROWS
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _padded(given: Array, padding: Pair, filling: float, behind: Pair = (0, 0)) -> Array:
    """Return images with `padding` on all sides and some more behind the end."""
    if padding == behind == (0, 0):
        return given
    high, wide = padding
    margins = ((0, 0), (0, 0), (high, high + behind[0]), (wide, wide + behind[1]))
    return np.pad(given, margins, constant_values=filling)


def _windows(given: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """View images as windows, [N, channels, height, width, kernel height, kernel width]."""
    reach = tuple(dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1))
    windows = sliding_window_view(given, reach, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _pool(given: Array, pooling: Pooling) -> Array:
    size = cast("Pair", given.shape[2:])
    filling = -np.inf if pooling.kind == "max" else 0.0
    found = window_positions(
        size, pooling.kernel, pooling.stride, pooling.padding, pooling.dilation, pooling.ceil
    )
    behind = [
        max(0, _end(pooling, axis, found[axis]) - size[axis] - pooling.padding[axis])
        for axis in (0, 1)
    ]
    pooled = _padded(given, pooling.padding, filling, (behind[0], behind[1]))
    # A maximum or a sum over windows is one along the height, and then one along the width.
    for axis in (0, 1):
        pooled = _pool_along(pooled, pooling, axis, found[axis])
    if pooling.kind == "max":
        return pooled
    counts = np.outer(*(_counts(pooling, axis, size[axis], found[axis]) for axis in (0, 1)))
    return pooled / counts.astype(given.dtype)


def _pool_along(padded: Array, pooling: Pooling, axis: int, count: int) -> Array:
    """Take the maximum or the sum of all windows along the height (axis 0) or the width."""
    combine = np.maximum if pooling.kind == "max" else np.add
    stride, dilation = pooling.stride[axis], pooling.dilation[axis]
    moved = np.moveaxis(padded, 2 + axis, 0)
    reach = stride * (count - 1) + 1
    found = moved[:reach:stride].copy()
    for first in range(dilation, pooling.kernel[axis] * dilation, dilation):
        combine(found, moved[first : first + reach : stride], out=found)
    return np.moveaxis(found, 0, 2 + axis)


def _end(pooling: Pooling, axis: int, count: int) -> int:
    """Where the last of the windows ends, in numbers from the first pixel of the image."""
    reach = pooling.dilation[axis] * (pooling.kernel[axis] - 1) + 1
    return (count - 1) * pooling.stride[axis] + reach - pooling.padding[axis]


def _counts(pooling: Pooling, axis: int, size: int, count: int) -> NDArray[np.int64]:
    """By how many pixels along one axis an average divides, for each window.

    A window never counts what `ceil` adds behind the padding.
    """
    starts = np.arange(count) * pooling.stride[axis] - pooling.padding[axis]
    ends = np.minimum(starts + pooling.kernel[axis], size + pooling.padding[axis])
    if pooling.counts_padding:
        return ends - starts
    return np.minimum(ends, size) - np.maximum(starts, 0)


def _softmax(given: Array, *, logarithm: bool) -> Array:
    shifted = given - given.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    return cast("Array", shifted - np.log(total) if logarithm else exponentials / total)

"""Is a network sound? Every number of it is looked at before anything is computed from it.

The compiled kernels read and write memory where a `Network` tells them to; what passes here cannot
lead them astray, wherever it comes from.
"""

import math
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.kernels.network import (
    BLOCK_ROWS,
    Activation,
    ActivationName,
    Concatenate,
    Convolution,
    Epilogue,
    Kind,
    Layer,
    Linear,
    Network,
    Pair,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Shape,
    Softmax,
    Weights,
    window_positions,
)

MOST_NUMBERS = 2**28
"""The most numbers a value may hold, padding included, for one example: 1 GiB."""

MOST_WEIGHTS = 2**31 - 1
"""The most weights a layer may have, zeros included."""

MOST_LAYERS = 2**16
"""The most layers, and the most values that one of them may join."""

LONGEST = 2**16
"""The largest kernel, stride, padding or dilation."""

_LARGEST = float(np.finfo(np.float32).max)


def check_network(network: Network) -> tuple[Shape, ...]:
    """Check every number of a network.

    Parameters
    ----------
    network
        Layers, weights and all.

    Returns
    -------
    tuple[Shape, ...]
        The shape of every value: of the input, then of what each layer gives.

    Raises
    ------
    InputError
        If something does not fit; the sentence names the layer, from 0, and the field.

    Examples
    --------
    >>> from gossamer.kernels.weights import pack_weights
    >>> layer = Linear(0, pack_weights(np.ones((2, 3)), "dense"))
    >>> check_network(Network((3,), (layer,), output=1))
    ((3,), (2,))
    >>> check_network(Network((4,), (layer,), output=1))
    Traceback (most recent call last):
        ...
    gossamer.core.errors.InputError: layer 0 (Linear): weights have 3 columns, expected 4 for ...
    """
    if not isinstance(network.layers, tuple) or len(network.layers) > MOST_LAYERS:
        raise InputError(f"network: layers must be a tuple of at most {MOST_LAYERS} layers.")
    shapes = [_checked_shape("network: input_shape", network.input_shape)]
    for i, layer in enumerate(network.layers):
        shapes.append(_checked_layer(f"layer {i} ({type(layer).__name__})", layer, shapes))
    if not _is_whole(network.output, 0, len(shapes) - 1):
        raise InputError(
            f"network: output is {network.output!r}, expected the number of a value, "
            f"from 0 to {len(shapes) - 1}."
        )
    return tuple(shapes)


def check_inputs(network: Network, inputs: NDArray[Any]) -> None:
    """Check that examples have the shape that a network takes.

    Raises
    ------
    InputError
        If they are not [N, *input_shape] of real numbers.
    """
    if (
        not isinstance(inputs, np.ndarray)
        or inputs.shape[1:] != network.input_shape
        or (inputs.ndim == 0)
    ):
        wanted = ", ".join(str(length) for length in network.input_shape)
        found = list(inputs.shape) if isinstance(inputs, np.ndarray) else type(inputs).__name__
        raise InputError(f"inputs: shape {found}, expected [examples, {wanted}].")
    if inputs.dtype.kind not in "fiub":
        raise InputError(f"inputs: of type {inputs.dtype}, expected real numbers such as float32.")


def _checked_layer(where: str, layer: Layer, shapes: list[Shape]) -> Shape:
    """Check one layer and return the shape of its value."""
    match layer:
        case Linear():
            return _checked_linear(where, layer, shapes)
        case Convolution():
            return _checked_convolution(where, layer, shapes)
        case Pool():
            return _pooled(where, _image_read(where, layer.input, shapes), layer.pooling)
        case Pointwise():
            return _checked_pointwise(where, layer, shapes)
        case Concatenate():
            return _concatenated(where, layer, shapes)
        case Reshape():
            return _reshaped(where, layer, shapes)
        case Softmax():
            _check_is(where, "logarithm", layer.logarithm, bool)
            return _value_read(where, "input", layer.input, shapes)
        case _:
            raise InputError(f"{where}: is no layer that gossamer knows.")


def _checked_linear(where: str, layer: Linear, shapes: list[Shape]) -> Shape:
    shape = _value_read(where, "input", layer.input, shapes)
    if len(shape) != 1:
        raise InputError(
            f"{where}: reads a value of shape {list(shape)}, expected [features]; "
            "put a Reshape before it."
        )
    _check_weights(where, layer.weights, shape[0])
    if layer.bias is not None:
        _check_numbers(where, "bias", layer.bias, (layer.weights.rows,))
    return _checked_epilogue(where, layer.epilogue, (layer.weights.rows,), shapes)


def _checked_convolution(where: str, layer: Convolution, shapes: list[Shape]) -> Shape:
    channels, height, width = _image_read(where, layer.input, shapes)
    _check_is(where, "weights", layer.weights, Weights)
    for name, least in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        _check_pair(where, name, getattr(layer, name), least)
    _check_groups(where, layer, channels)
    columns = channels // layer.groups * math.prod(layer.kernel)
    _check_weights(where, layer.weights, columns)
    padded = (channels, height + 2 * layer.padding[0], width + 2 * layer.padding[1])
    _check_size(f"{where}: the padded input", padded)
    high, wide = _positions(
        where, (height, width), layer.kernel, layer.stride, layer.padding, layer.dilation
    )
    shape = (layer.weights.rows, high, wide)
    _check_size(where, shape)
    if layer.bias is not None:
        of_positions = isinstance(layer.bias, np.ndarray) and layer.bias.ndim == 3
        _check_numbers(where, "bias", layer.bias, shape if of_positions else shape[:1])
    return _checked_epilogue(where, layer.epilogue, shape, shapes)


def _check_groups(where: str, layer: Convolution, channels: int) -> None:
    if not _is_whole(layer.groups, 1, channels) or channels % layer.groups:
        raise InputError(
            f"{where}: groups is {layer.groups!r}, expected a divisor of the {channels} "
            "channels that it reads."
        )
    rows = layer.weights.rows
    if not _is_whole(rows, 1, MOST_WEIGHTS) or rows % layer.groups:
        raise InputError(
            f"{where}: weights have {rows!r} rows, expected a multiple of groups, {layer.groups}."
        )
    if layer.weights.kind == "block" and layer.groups > 1 and rows // layer.groups % BLOCK_ROWS:
        raise InputError(
            f"{where}: weights of kind block have {rows // layer.groups} rows a group, expected a "
            f"multiple of {BLOCK_ROWS}, so that no block spans two groups."
        )


def _checked_pointwise(where: str, layer: Pointwise, shapes: list[Shape]) -> Shape:
    shape = _value_read(where, "input", layer.input, shapes)
    _checked_epilogue(where, layer.epilogue, shape, shapes)
    if layer.epilogue.pooling is not None:
        raise InputError(f"{where}: epilogue has pooling, expected a Pool of its own.")
    return shape


def _concatenated(where: str, layer: Concatenate, shapes: list[Shape]) -> Shape:
    if not isinstance(layer.inputs, tuple) or not 1 <= len(layer.inputs) <= MOST_LAYERS:
        raise InputError(f"{where}: inputs is {layer.inputs!r:.80}, expected one value or more.")
    parts = [_value_read(where, "inputs", number, shapes) for number in layer.inputs]
    for part in parts:
        if part[1:] != parts[0][1:]:
            raise InputError(
                f"{where}: joins shapes {list(parts[0])} and {list(part)}, expected shapes that "
                "differ in their first length only."
            )
    shape = (sum(part[0] for part in parts), *parts[0][1:])
    _check_size(where, shape)
    return shape


def _reshaped(where: str, layer: Reshape, shapes: list[Shape]) -> Shape:
    given = _value_read(where, "input", layer.input, shapes)
    shape = _checked_shape(f"{where}: shape", layer.shape)
    if math.prod(shape) != math.prod(given):
        raise InputError(
            f"{where}: shape {list(shape)} holds {math.prod(shape)} numbers, expected "
            f"{math.prod(given)}, as the value of shape {list(given)} that it reads."
        )
    return shape


def _checked_epilogue(where: str, epilogue: Epilogue, shape: Shape, shapes: list[Shape]) -> Shape:
    _check_is(where, "epilogue", epilogue, Epilogue)
    if epilogue.residual is not None:
        added = _value_read(where, "residual", epilogue.residual, shapes)
        if added != shape:
            raise InputError(
                f"{where}: residual has shape {list(added)}, expected {list(shape)}, "
                "that of the sums."
            )
    _check_activation(where, epilogue.activation)
    for name in ("scale", "shift"):
        numbers = getattr(epilogue, name)
        if numbers is not None:
            _check_numbers(where, name, numbers, shape[:1])
    if epilogue.pooling is None:
        return shape
    if len(shape) != 3:
        raise InputError(
            f"{where}: pooling of a value of shape {list(shape)}, "
            "expected [channels, height, width]."
        )
    return _pooled(where, shape, epilogue.pooling)


def _check_activation(where: str, activation: Activation) -> None:
    _check_is(where, "activation", activation, Activation)
    if activation.name not in get_args(ActivationName):
        raise InputError(
            f"{where}: activation is {activation.name!r:.80}, expected one of "
            f"{', '.join(get_args(ActivationName))}."
        )
    alpha = activation.alpha
    if type(alpha) not in (int, float) or not abs(alpha) <= _LARGEST:
        raise InputError(f"{where}: alpha is {alpha!r:.80}, expected a finite number.")


def _pooled(where: str, shape: Shape, pooling: Pooling) -> Shape:
    """Check a pooling and return the shape of its result."""
    _check_is(where, "pooling", pooling, Pooling)
    if pooling.kind not in ("max", "average"):
        raise InputError(f"{where}: pooling is {pooling.kind!r:.80}, expected max or average.")
    for name, least in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        _check_pair(where, f"pooling {name}", getattr(pooling, name), least)
    for name in ("ceil", "counts_padding"):
        _check_is(where, f"pooling {name}", getattr(pooling, name), bool)
    if pooling.kind == "average" and pooling.dilation != (1, 1):
        raise InputError(f"{where}: pooling dilation is for max only, expected (1, 1).")
    if any(2 * pooling.padding[axis] > pooling.kernel[axis] for axis in (0, 1)):
        raise InputError(
            f"{where}: pooling padding is {pooling.padding}, expected at most half of the kernel, "
            f"{pooling.kernel}."
        )
    channels, height, width = shape
    padded = (channels, height + 2 * pooling.padding[0], width + 2 * pooling.padding[1])
    _check_size(f"{where}: the padded input", padded)
    high, wide = _positions(
        where, (height, width), pooling.kernel, pooling.stride, pooling.padding,
        pooling.dilation, pooling.ceil,
    )  # fmt: skip
    return (channels, high, wide)


def _positions(
    where: str,
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil: bool = False,
) -> Pair:
    found = window_positions(size, kernel, stride, padding, dilation, ceil)
    for axis, side in ((0, "height"), (1, "width")):
        if found[axis] < 1:
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            raise InputError(
                f"{where}: kernel reaches over {reach} pixels along the {side}, expected at most "
                f"{size[axis] + 2 * padding[axis]}, the padded {side}."
            )
    return found


def _check_weights(where: str, weights: Weights, columns: int) -> None:
    """Check packed weights that are to have so many columns."""
    _check_is(where, "weights", weights, Weights)
    if weights.kind not in get_args(Kind):
        raise InputError(
            f"{where}: weights are of kind {weights.kind!r:.80}, expected one of "
            f"{', '.join(get_args(Kind))}."
        )
    if not _is_whole(weights.columns, 1, MOST_WEIGHTS) or weights.columns != columns:
        raise InputError(
            f"{where}: weights have {weights.columns!r:.80} columns, expected {columns} for the "
            "value that it reads."
        )
    if not _is_whole(weights.rows, 1, MOST_WEIGHTS // columns):
        raise InputError(
            f"{where}: weights have {weights.rows!r:.80} rows of {columns} columns, expected one "
            f"row or more and at most {MOST_WEIGHTS} weights."
        )
    _check_size(where, (weights.rows,))
    if weights.kind == "dense":
        _check_array(where, "weights.starts", weights.starts, np.int64, (0,))
        _check_array(where, "weights.indices", weights.indices, np.int32, (0,))
        _check_numbers(where, "weights.values", weights.values, (weights.rows, columns))
    else:
        _check_pattern(where, weights)


def _check_pattern(where: str, weights: Weights) -> None:
    lanes = BLOCK_ROWS if weights.kind == "block" else 1
    groups = -(-weights.rows // lanes)
    starts, indices = weights.starts, weights.indices
    _check_array(where, "weights.starts", starts, np.int64, (groups + 1,))
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise InputError(f"{where}: weights.starts must begin with 0 and never descend.")
    stored = int(starts[-1])
    _check_array(where, "weights.indices", indices, np.int32, (stored,))
    if stored and not 0 <= int(indices.min()) <= int(indices.max()) < weights.columns:
        raise InputError(
            f"{where}: weights.indices go from {indices.min()} to {indices.max()}, expected "
            f"columns from 0 to {weights.columns - 1}."
        )
    ascends = np.ones(stored + 1, bool)
    ascends[1:stored] = np.diff(indices) > 0
    ascends[starts] = True  # Where a row begins, an index may be smaller than the one before.
    if not ascends.all():
        raise InputError(f"{where}: weights.indices must ascend within each row.")
    shape = (stored, lanes) if weights.kind == "block" else (stored,)
    _check_numbers(where, "weights.values", weights.values, shape)
    beyond = groups * lanes - weights.rows
    if beyond and weights.values[starts[-2] :, lanes - beyond :].any():
        raise InputError(f"{where}: weights.values must be 0 in the rows beyond the last.")


def _check_numbers(where: str, name: str, numbers: NDArray[Any], shape: Shape) -> None:
    _check_array(where, name, numbers, np.float32, shape)
    if not np.isfinite(numbers).all():
        position = int(np.argmin(np.isfinite(numbers)))
        raise InputError(
            f"{where}: {name} holds {numbers.ravel()[position]} at position {position}, expected "
            "finite numbers; train or repair the network first."
        )


def _check_array(
    where: str, name: str, array: NDArray[Any], dtype: type[np.generic], shape: Shape
) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = (
            f"{array.dtype} {list(array.shape)}"
            if isinstance(array, np.ndarray)
            else type(array).__name__
        )
        raise InputError(f"{where}: {name} is {found}, expected {dtype.__name__} {list(shape)}.")


def _check_pair(where: str, name: str, pair: Pair, least: int) -> None:
    if (
        not isinstance(pair, tuple)
        or len(pair) != 2
        or not all(_is_whole(number, least, LONGEST) for number in pair)
    ):
        raise InputError(
            f"{where}: {name} is {pair!r:.80}, expected two whole numbers from {least} to "
            f"{LONGEST}."
        )


def _check_is(where: str, name: str, value: object, wanted: type) -> None:
    if type(value) is not wanted:
        raise InputError(f"{where}: {name} is {value!r:.80}, expected {wanted.__name__}.")


def _image_read(where: str, number: int, shapes: list[Shape]) -> tuple[int, int, int]:
    shape = _value_read(where, "input", number, shapes)
    if len(shape) != 3:
        raise InputError(
            f"{where}: reads a value of shape {list(shape)}, expected [channels, height, width]."
        )
    return shape


def _value_read(where: str, name: str, number: int, shapes: list[Shape]) -> Shape:
    if not _is_whole(number, 0, len(shapes) - 1):
        raise InputError(
            f"{where}: {name} is {number!r:.80}, expected the number of a value computed before, "
            f"from 0 to {len(shapes) - 1}."
        )
    return shapes[number]


def _checked_shape(name: str, shape: Shape) -> Shape:
    if (
        not isinstance(shape, tuple)
        or len(shape) not in (1, 3)
        or not all(_is_whole(length, 1, MOST_NUMBERS) for length in shape)
    ):
        raise InputError(
            f"{name} is {shape!r:.80}, expected one length or three (channels, height, width), "
            "each 1 or more."
        )
    _check_size(name, shape)
    return shape


def _check_size(name: str, shape: Shape) -> None:
    if math.prod(shape) > MOST_NUMBERS:
        raise InputError(
            f"{name} has shape {list(shape)}, expected at most {MOST_NUMBERS} numbers an example."
        )


def _is_whole(number: object, least: int, most: int) -> bool:
    return type(number) is int and least <= number <= most

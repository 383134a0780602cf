"""Is a network sound? Every number of it is looked at before anything is computed from it.

The compiled kernels read and write memory where a `Network` tells them to; what passes here cannot
lead them astray, wherever it comes from. Fields are checked by their types; how they fit together
is for `Operator.infer_shape` to say.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.engine.fields import (
    LONGEST,
    MOST_AXES,
    MOST_ENDS,
    MOST_LAYERS,
    MOST_NUMBERS,
    MOST_WEIGHTS,
    Pair,
    Shape,
    Value,
    is_array,
    is_values,
    least,
    typed_fields,
)
from gossamer.engine.network import Network
from gossamer.engine.operator import OPERATORS, Operator
from gossamer.engine.weights import BLOCK_ROWS, Layout, Weights

_LARGEST = float(np.finfo(np.float32).max)


def check_network(network: Network) -> tuple[Shape, ...]:
    """Check every number of a network.

    Parameters
    ----------
    network
        Operators, weights and all.

    Returns
    -------
    tuple[Shape, ...]
        The shape of every value: of the inputs, then of what each operator gives.

    Raises
    ------
    InputError
        If something does not fit; the sentence names the layer, from 0, and the field.

    Examples
    --------
    >>> from gossamer.engine import Linear, pack_weights
    >>> layer = Linear(0, pack_weights(np.ones((2, 3)), "dense"))
    >>> check_network(Network((3,), (layer,), 1))
    ((3,), (2,))
    >>> check_network(Network((4,), (layer,), 1))
    Traceback (most recent call last):
        ...
    gossamer.core.errors.InputError: layer 0 (Linear): weights have 3 columns, expected 4 for ...
    """
    if not isinstance(network.layers, tuple) or len(network.layers) > MOST_LAYERS:
        raise InputError(f"network: layers must be a tuple of at most {MOST_LAYERS} layers.")
    for name in ("inputs", "outputs"):
        if len(getattr(network, name)) not in range(1, MOST_ENDS + 1):
            raise InputError(f"network: {name} must be 1 to {MOST_ENDS}.")
    for i, shape in enumerate(network.inputs):
        _check_shape("network: input_shape" if i == 0 else f"network: input {i}", shape)
    shapes: dict[Value, Shape] = dict(enumerate(network.inputs))
    for i, layer in enumerate(network.layers):
        where = f"layer {i} ({type(layer).__name__})"
        value = len(shapes)
        try:
            shapes[value] = _checked(layer, shapes)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        _check_size(where, shapes[value])
    for output in network.outputs:
        if not _is_whole(output, 0, len(shapes) - 1):
            raise InputError(
                f"network: output is {output!r:.80}, expected the number of a value, "
                f"from 0 to {len(shapes) - 1}."
            )
    return tuple(shapes.values())


def check_inputs(network: Network, inputs: Sequence[NDArray[Any]]) -> int:
    """Check that examples have the shapes that a network takes; return how many there are.

    Raises
    ------
    InputError
        If they are not [N, *shape] of real numbers for each input.
    """
    if len(inputs) != len(network.inputs):
        raise InputError(
            f"inputs: {counted(len(inputs), 'array')}, expected {len(network.inputs)}."
        )
    for i, (array, shape) in enumerate(zip(inputs, network.inputs, strict=True)):
        name = "inputs" if len(inputs) == 1 else f"input {i}"
        if not isinstance(array, np.ndarray) or array.ndim == 0 or array.shape[1:] != shape:
            wanted = ", ".join(str(length) for length in ("examples", *shape))
            found = list(array.shape) if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"{name}: shape {found}, expected [{wanted}].")
        if array.dtype.kind not in "fiub":
            raise InputError(
                f"{name}: of type {array.dtype}, expected real numbers such as float32."
            )
        if len(array) != len(inputs[0]):
            raise InputError(
                f"{name}: {counted(len(array), 'example')}, expected {len(inputs[0])}, as many as "
                "of the input before."
            )
    return len(inputs[0])


def _checked(layer: Operator, shapes: Mapping[Value, Shape]) -> Shape:
    """Check one operator and return the shape of its value."""
    if type(layer) not in OPERATORS.values():
        raise InputError("is no layer that gossamer knows.")
    _check_fields("", layer, len(shapes))
    return layer.infer_shape(shapes)


def _check_fields(within: str, part: Any, values: int) -> None:
    """Check what each field of an operator, or of a part of one, holds by itself."""
    for name, field in typed_fields(type(part)).items():
        content = getattr(part, name)
        if content is not None or not field.optional:
            _check_field(f"{within}{name}", field.hint, content, values)


def _check_field(name: str, hint: Any, content: Any, values: int) -> None:
    if hint == Value:
        _check_value(name, content, values)
    elif is_values(hint):
        if not isinstance(content, tuple) or not 1 <= len(content) <= MOST_LAYERS:
            raise InputError(f"{name} is {content!r:.80}, expected one value or more.")
        for number in content:
            _check_value(name, number, values)
    elif hint == Shape:
        _check_shape(name, content)
    elif (smallest := least(hint)) is not None:
        _check_whole(name, content, smallest, get_args(hint)[0])
    elif get_origin(hint) is Literal:
        if content not in get_args(hint):
            raise InputError(
                f"{name} is {content!r:.80}, expected one of {', '.join(get_args(hint))}."
            )
    elif is_array(hint):
        _check_numbers(name, content)
    elif hint is float:
        if type(content) not in (int, float) or not abs(content) <= _LARGEST:
            raise InputError(f"{name} is {content!r:.80}, expected a finite number.")
    elif type(content) is not hint:
        raise InputError(f"{name} is {content!r:.80}, expected {hint.__name__}.")
    elif hint is Weights:
        _check_weights(name, content)
    elif is_dataclass(hint):
        _check_fields(f"{name} ", content, values)


def _check_value(name: str, number: Any, values: int) -> None:
    if not _is_whole(number, 0, values - 1):
        raise InputError(
            f"{name} is {number!r:.80}, expected the number of a value computed before, "
            f"from 0 to {values - 1}."
        )


def _check_whole(name: str, content: Any, smallest: int, kind: Any) -> None:
    """Check a whole number, two along the height and the width, or any number of them."""
    if kind is int:
        if not _is_whole(content, smallest, MOST_WEIGHTS):
            raise InputError(
                f"{name} is {content!r:.80}, expected a whole number from {smallest} on."
            )
        return
    two = kind == Pair
    lengths = range(2, 3) if two else range(1, LONGEST + 1)
    most = LONGEST if two else MOST_NUMBERS
    if (
        not isinstance(content, tuple)
        or len(content) not in lengths
        or not all(_is_whole(number, smallest, most) for number in content)
    ):
        wanted = "two whole numbers" if two else f"one to {LONGEST} whole numbers"
        raise InputError(f"{name} is {content!r:.80}, expected {wanted} from {smallest} to {most}.")


def _check_weights(name: str, weights: Weights) -> None:
    """Check packed weights."""
    if weights.layout not in get_args(Layout):
        raise InputError(
            f"{name} are of layout {weights.layout!r:.80}, expected one of "
            f"{', '.join(get_args(Layout))}."
        )
    rows, columns = weights.rows, weights.columns
    if not _is_whole(columns, 1, MOST_WEIGHTS) or not _is_whole(rows, 1, MOST_WEIGHTS // columns):
        raise InputError(
            f"{name} have {rows!r:.80} rows of {columns!r:.80} columns, expected one row or more "
            f"and at most {MOST_WEIGHTS} weights."
        )
    if weights.layout == "dense":
        _check_array(f"{name}.starts", weights.starts, np.int64, (0,))
        _check_array(f"{name}.indices", weights.indices, np.int32, (0,))
        _check_numbers(f"{name}.values", weights.values, (rows, columns))
    else:
        _check_pattern(name, weights)


def _check_pattern(name: str, weights: Weights) -> None:
    lanes = BLOCK_ROWS if weights.layout == "block" else 1
    groups = -(-weights.rows // lanes)
    starts, indices = weights.starts, weights.indices
    _check_array(f"{name}.starts", starts, np.int64, (groups + 1,))
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise InputError(f"{name}.starts must begin with 0 and never descend.")
    stored = int(starts[-1])
    _check_array(f"{name}.indices", indices, np.int32, (stored,))
    if stored and not 0 <= int(indices.min()) <= int(indices.max()) < weights.columns:
        raise InputError(
            f"{name}.indices go from {indices.min()} to {indices.max()}, expected columns from 0 "
            f"to {weights.columns - 1}."
        )
    ascends = np.ones(stored + 1, bool)
    ascends[1:stored] = np.diff(indices) > 0
    ascends[starts] = True  # Where a row begins, an index may be smaller than the one before.
    if not ascends.all():
        raise InputError(f"{name}.indices must ascend within each row.")
    shape = (stored, lanes) if weights.layout == "block" else (stored,)
    _check_numbers(f"{name}.values", weights.values, shape)
    beyond = groups * lanes - weights.rows
    if beyond and weights.values[starts[-2] :, lanes - beyond :].any():
        raise InputError(f"{name}.values must be 0 in the rows beyond the last.")


def _check_numbers(name: str, numbers: Any, shape: Shape | None = None) -> None:
    _check_array(name, numbers, np.float32, shape)
    if not np.isfinite(numbers).all():
        position = int(np.argmin(np.isfinite(numbers)))
        raise InputError(
            f"{name} holds {numbers.ravel()[position]} at position {position}, expected finite "
            "numbers; train or repair the network first."
        )


def _check_array(name: str, array: Any, dtype: type[np.generic], shape: Shape | None) -> None:
    """Check an array; where no shape is given, any will do."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name} is {type(array).__name__}, expected {dtype.__name__}.")
    expected = array.shape if shape is None else shape
    if array.dtype != dtype or array.shape != expected:
        raise InputError(
            f"{name} is {array.dtype} {list(array.shape)}, expected {dtype.__name__} "
            f"{list(expected)}."
        )


def _check_shape(name: str, shape: Any) -> None:
    if (
        not isinstance(shape, tuple)
        or not 1 <= len(shape) <= MOST_AXES
        or not all(_is_whole(length, 1, MOST_NUMBERS) for length in shape)
    ):
        raise InputError(
            f"{name} is {shape!r:.80}, expected one to {MOST_AXES} lengths, each 1 or more."
        )
    _check_size(name, shape)


def _check_size(name: str, shape: Shape) -> None:
    if math.prod(shape) > MOST_NUMBERS:
        raise InputError(
            f"{name} has shape {list(shape)}, expected at most {MOST_NUMBERS} numbers an example."
        )


def _is_whole(number: object, smallest: int, most: int) -> bool:
    return type(number) is int and smallest <= number <= most

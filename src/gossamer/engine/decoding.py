"""Causal networks computed one token at a time: what a step computes, and what it keeps.

A network that takes several lengths says of every value which axis grows with the tokens. At the
length 1 it computes one token alone, but for its attentions, which read the keys and values of the
tokens before, and for constants that each place has its own of, such as position embeddings. A step
is therefore that network, cut at its attentions, with the constants of its place given to it.

This holds where no other operator mixes tokens. Each is looked at: along which axes it mixes
numbers, and whether one of them is that of the tokens.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.check import check_network
from gossamer.engine.fields import Array, Shape, Value, read_by, renamed
from gossamer.engine.lengths import at_lengths
from gossamer.engine.network import Network
from gossamer.engine.operator import Operator
from gossamer.engine.ops.attention import Attention
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.linear import Linear
from gossamer.engine.ops.matmul import Matmul
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.slice import Slice
from gossamer.engine.signature import Signature, Varying


@dataclass(frozen=True, eq=False)
class Segment:
    """Operators between two attentions: which values they read and give."""

    network: Network
    reads: tuple[int, ...]
    gives: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Attended:
    """An attention that reads kept keys and values, and the value that it gives."""

    layer: Attention
    width: int
    depth: int
    gives: int


@dataclass(frozen=True, eq=False)
class Placed:
    """A constant of which each token has so many numbers along an axis."""

    numbers: Array
    axis: int
    each: int

    def at(self, place: int) -> Array:
        """Return what the token at a place has, [1, ...]."""
        part = slice(place * self.each, (place + 1) * self.each)
        return self.numbers[(slice(None),) * self.axis + (part,)][None]


@dataclass(frozen=True, eq=False)
class Steps:
    """What is computed for each token.

    Attributes
    ----------
    parts
        In order.
    placed
        Constants that differ from token to token, by the number of their value.
    outputs
        The numbers of the results, and along which axis of each as the model gives it, the batch
        among them, the tokens lie; None where it is of the last token alone.
    axis
        That of the input.
    """

    parts: tuple[Segment | Attended, ...]
    placed: Mapping[int, Placed]
    outputs: tuple[tuple[int, int | None], ...]
    axis: int


def steps_of(network: Network, signature: Signature) -> Steps:
    """Return what a network that takes several lengths computes for each token.

    Raises
    ------
    InputError
        If it takes one length only or further inputs, or an operator mixes tokens that is no causal
        attention, with its number and name.
    """
    if signature.lengths is None or len(signature.lengths.least) != 1:
        raise InputError(
            "decoder: the network takes no inputs of one length that varies; compress it with "
            "'dynamic_shapes' that let the number of tokens vary."
        )
    if len(network.inputs) != 1:
        raise InputError(
            f"decoder: the network takes {len(network.inputs)} inputs, expected its tokens alone."
        )
    (one, as_one), (two, as_two) = (at_lengths(network, signature, (length,)) for length in (1, 2))
    shapes = check_network(one)
    axes = _token_axes(shapes, check_network(two), one)
    placed: dict[int, Placed] = {}
    for found in signature.lengths.varying:
        if found.axis is not None:
            _note_array(network, found, placed)
    for number, layer in enumerate(one.layers):
        reason = _mixes(layer, axes, shapes, number + 1, two.layers[number], network.layers[number])
        if reason:
            raise _refused(number, layer, reason)
    parts = _parts(one, network, shapes, axes, placed)
    (axis,), given = (
        [_growing(spec.shape, other.shape) for spec, other in zip(ones, twos, strict=True)]
        for ones, twos in ((as_one.inputs, as_two.inputs), (as_one.outputs, as_two.outputs))
    )
    assert axis is not None  # a length without an input that has it is refused before
    return Steps(parts, placed, tuple(zip(one.outputs, given, strict=True)), axis)


def _growing(shape: Shape, other: Shape) -> int | None:
    """Return the axis, counted from the batch, along which shapes for one and two tokens differ."""
    axes = [axis for axis in range(len(shape)) if shape[axis] != other[axis]]
    return axes[0] + 1 if axes else None


def _refused(number: int, layer: Operator, reason: str) -> InputError:
    return InputError(
        f"decoder: layer {number} ({type(layer).__name__}) {reason}, so that tokens cannot be "
        "computed one at a time."
    )


def _token_axes(one: Sequence[Shape], two: Sequence[Shape], network: Network) -> list[int | None]:
    """Return along which axis of each value the tokens lie, from its shapes for one and two."""
    found: list[int | None] = []
    for value, (shape, other) in enumerate(zip(one, two, strict=True)):
        axes = [a for a in range(len(shape)) if other[a] != shape[a]]
        number = value - len(network.inputs)
        if len(axes) > 1:
            raise _refused(number, network.layers[number], "gives pairs of tokens")
        if axes and other[axes[0]] != 2 * shape[axes[0]]:
            raise _refused(number, network.layers[number], "joins tokens with something else")
        found.append(axes[0] if axes else None)
    return found


def _note_array(network: Network, varying: Varying, placed: dict[int, Placed]) -> None:
    """Note a constant of which each token has some numbers."""
    where, *path = varying.path[1:]
    if where != "layers" or varying.axis is None:
        return
    number = int(path[0])
    layer: Any = network.layers[number]
    numbers: Any = layer
    for step in path[1:]:
        numbers = getattr(numbers, str(step))
    first = numbers.take(range(min(varying.slope, numbers.shape[varying.axis])), varying.axis)
    times = numbers.shape[varying.axis] // max(1, first.shape[varying.axis])
    repeats = [times if axis == varying.axis else 1 for axis in range(numbers.ndim)]
    alike = np.array_equal(np.tile(first, repeats), numbers)
    if isinstance(layer, Attention) or (alike and not isinstance(layer, Constant)):
        return
    if not isinstance(layer, Constant) or varying.offset or varying.of:
        raise _refused(number, layer, f"has {path[-1]} that grow with the tokens")
    placed[len(network.inputs) + number] = Placed(numbers, varying.axis, varying.slope)


# --- does an operator mix tokens?

_EACH = frozenset({"binary", "constant", "expand", "function", "pointwise"})
"""Operators that compute each number from those at its place."""
_ALONG = frozenset({"concatenate", "resample", "take"})
"""Operators that mix what lies along their `axis`."""
_CHANNELS = frozenset({"channel_norm", "softmax"})
"""Operators that mix channels, the first axis."""


def _mixes(
    layer: Operator,
    axes: Sequence[int | None],
    shapes: Sequence[Shape],
    gives: int,
    at_two: Operator,
    longest: Operator,
) -> str:
    """Say how an operator mixes tokens; empty if it computes each by itself, or is causal."""
    read = [int(value) for value in read_by(layer)]
    if isinstance(layer, Attention):
        assert isinstance(longest, Attention)
        return _attention_mixes(longest, [axes[value] for value in read])
    growing = [value for value in read if axes[value] is not None]
    if isinstance(layer, Constant) or not growing:
        return ""
    axis, shape = axes[growing[0]], shapes[growing[0]]
    assert axis is not None
    if isinstance(layer, Matmul):
        ranks = (axes[int(layer.left)], axes[int(layer.right)])
        return "" if _is_by_row(layer, *ranks, len(shape)) else "mixes tokens"
    if any(axes[value] != axis for value in growing):
        return "reads tokens along different axes"
    if isinstance(layer, Slice):
        return _slice_mixes(layer, at_two, axis, shape)
    if layer.name in _EACH:
        return "" if axes[gives] == axis else "moves tokens"
    rule = _RULES.get(layer.name)
    return "mixes tokens" if rule is None or rule(layer, axis, shape, shapes[gives]) else ""


def _attention_mixes(layer: Attention, axes: Sequence[int | None]) -> str:
    query, key, value, *mask = axes
    if mask:
        return "has a mask that is computed"
    if key is None and value is None:
        return ""
    if (query, key, value) != (2, 2, 2):
        return "mixes tokens"
    if layer.causal:
        return ""
    kept = layer.kept
    if kept is None or np.triu(kept, 1).any():
        return "lets tokens attend to later ones"
    return ""


def _slice_mixes(layer: Slice, at_two: Operator, axis: int, shape: Shape) -> str:
    assert isinstance(at_two, Slice)
    if layer.axis != axis:
        return ""
    whole = (at_two.start, at_two.step, at_two.length) == (0, 1, 2 * shape[axis])
    last = shape[axis] == 1 and (layer.start, at_two.start, at_two.length) == (0, 1, 1)
    return "" if whole or last else "takes some tokens only"


def _reshape_mixes(_: Operator, axis: int, shape: Shape, result: Shape) -> bool:
    """Tell whether no axis begins behind as many numbers as that of the tokens did."""
    before = math.prod(shape[:axis])
    return all(math.prod(result[:number]) != before for number in range(len(result)))


_RULES: dict[str, Callable[[Any, int, Shape, Shape], bool]] = {
    **dict.fromkeys(_ALONG, lambda layer, axis, *_: layer.axis == axis),
    **dict.fromkeys(_CHANNELS, lambda _, axis, *__: axis == 0),
    "layer_norm": lambda layer, axis, shape, _: axis >= len(shape) - layer.axes,
    "reduce": lambda layer, axis, *_: axis in layer.axes,
    "permute": lambda *_: False,
    "reshape": _reshape_mixes,
    "embedding": lambda _, axis, shape, __: math.prod(shape[:axis]) != 1,
    "convolution": lambda layer, axis, *_: not _is_pointwise(layer, axis),
}


def _is_pointwise(layer: Convolution, axis: int) -> bool:
    """Tell whether a convolution computes each place along an axis by itself."""
    if axis == 0 or layer.epilogue.pooling is not None:
        return False
    at = axis - 1
    return (layer.kernel[at], layer.stride[at], layer.padding[at]) == (1, 1, 0)


def _is_by_row(layer: Matmul, left: int | None, right: int | None, rank: int) -> bool:
    """Tell whether a product computes tokens by themselves: its matrices, rows or columns."""
    if {left, right} <= {None, *range(rank - 2)}:
        return None in (left, right) or left == right
    rows = rank - 1 if layer.left_transposed else rank - 2
    columns = rank - 2 if layer.right_transposed else rank - 1
    return (left, right) in ((rows, None), (None, columns))


# --- parts of a step


def _parts(
    one: Network,
    longest: Network,
    shapes: Sequence[Shape],
    axes: Sequence[int | None],
    placed: Mapping[int, Placed],
) -> tuple[Segment | Attended, ...]:
    """Cut a network of one token at its attentions, which have the masks of the longest."""
    first = len(one.inputs)
    parts: list[Segment | Attended] = []
    waiting: list[int] = []
    for number, layer in enumerate(one.layers):
        value = first + number
        if value in placed:
            continue
        if not isinstance(layer, Attention) or axes[int(layer.key)] is None:
            waiting.append(value)
            continue
        if waiting:
            parts.append(_segment(one, shapes, waiting))
        waiting = []
        width = shapes[int(layer.key)][0] // layer.key_heads
        depth = shapes[int(layer.value)][0] // layer.key_heads
        masked = longest.layers[number]
        assert isinstance(masked, Attention)
        parts.append(Attended(masked, width, depth, value))
    if waiting:
        parts.append(_segment(one, shapes, waiting))
    return tuple(parts)


def _segment(one: Network, shapes: Sequence[Shape], values: Sequence[int]) -> Segment:
    """Return the operators that give some values as a network of its own."""
    first = len(one.inputs)
    inside = dict.fromkeys(values)
    layers = {value: one.layers[value - first] for value in values}
    read = dict.fromkeys(int(v) for layer in layers.values() for v in read_by(layer))
    reads = tuple(value for value in read if value not in inside)
    others = [layer for at, layer in enumerate(one.layers) if first + at not in inside]
    outside = {int(value) for layer in others for value in read_by(layer)} | {*one.outputs}
    gives = tuple(value for value in values if value in outside)
    names: dict[Value, Value] = {value: at for at, value in enumerate(reads)}
    written: list[Operator] = []
    for value, layer in layers.items():
        written += _for_one_position(
            renamed(layer, names), shapes, layer, len(reads) + len(written)
        )
        names[value] = len(reads) + len(written) - 1
    network = Network(
        tuple(shapes[value] for value in reads),
        tuple(written),
        tuple(int(names[value]) for value in gives),
    )
    return Segment(network, reads, gives)


def _for_one_position(
    layer: Operator, shapes: Sequence[Shape], before: Operator, value: int
) -> tuple[Operator, ...]:
    """Write a convolution of one position as a product, which is made for that.

    `before` is the operator with the values of the whole network, `value` the number of the next.
    """
    if not isinstance(layer, Convolution) or not isinstance(before, Convolution):
        return (layer,)
    columns = layer.weights.columns
    plain = layer.kernel == (1, 1) and layer.groups == 1 and layer.epilogue.pooling is None
    if not plain or shapes[int(before.input)] != (columns, 1, 1):
        return (layer,)
    rows = layer.weights.rows
    found: list[Operator] = [Reshape(layer.input, (columns,))]
    epilogue = layer.epilogue
    if epilogue.residual is not None:
        found.append(Reshape(epilogue.residual, (rows,)))
        epilogue = replace(epilogue, residual=value + 1)
    bias = None if layer.bias is None else layer.bias.reshape(-1)
    found.append(Linear(value, layer.weights, bias, epilogue))
    return (*found, Reshape(value + len(found) - 1, (rows, 1, 1)))

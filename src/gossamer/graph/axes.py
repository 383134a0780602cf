"""Following one axis of a tensor, such as the channels of a layer, through what acts on it.

An axis counts from the back: the units of a linear layer are axis -1 of its result, the channels
of a two-dimensional convolution axis -3, with or without a batch before them.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.graph.calls import Call, Shape, Value, found_in
from gossamer.graph.operations import POINTWISE, POOLS, SHIFTING, module_name

Axis = int | None
"""From the back, so negative; None where shapes are not known."""

LOST = 0
"""In place of an axis: the units no longer lie apart along any."""

REDUCING = frozenset({"mean", "sum", "amax", "amin", "std", "var", "logsumexp", "nanmean"})
_POINTWISE = {name.replace("_", "") for name in POINTWISE} | {"featurealphadropout"}
_SHIFTING = {name.replace("_", "") for name in SHIFTING} | {"logsumexp"}
_RESHAPING = frozenset({
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "viewas",
    "reshapeas",
})  # fmt: skip
_MOVING = frozenset({
    "transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "t", "T", "mT", "H",
    "mH",
})  # fmt: skip
_RESIZING = frozenset({"interpolate", "upsample", "upsamplingnearest2d", "upsamplingbilinear2d"})


def operation(call: Call) -> str:
    """Return what a call does, without underscores, whether by a module of PyTorch or a function.

    Empty for a module of one's own.
    """
    if call.module is None:
        return call.name.replace("_", "")
    own = not type(call.module).__module__.startswith("torch.nn.modules")
    return "" if own else module_name(call.module)


def is_pointwise(call: Call) -> bool:
    """Tell whether each element of a result comes from the elements at its place."""
    return operation(call) in _POINTWISE


def keeps_zero(call: Call) -> bool:
    """Tell whether units of zeros stay so, of a call that keeps units apart."""
    return operation(call) not in _SHIFTING


def scaled_by(call: Call) -> list[Value]:
    """Return the values of a product or quotient, element by element, that make it zero if zero."""
    if operation(call) in ("mul", "multiply"):
        return list(call.inputs)
    numerator = call.argument(0, "input")
    divides = operation(call) in ("div", "divide", "truediv")
    return [numerator] if divides and isinstance(numerator, Value) else []


def flattened_dimensions(call: Call) -> tuple[int, int]:
    """Return the first and the last dimension that a flattening joins."""
    if isinstance(call.module, nn.Flatten):
        return call.module.start_dim, call.module.end_dim
    first, last = call.argument(1, "start_dim"), call.argument(2, "end_dim")
    return 0 if first is None else int(first), -1 if last is None else int(last)


def followed(call: Call, axis: Axis, given: Value, result: Value) -> Axis:
    """Return where an axis of the one value that a call acts on lies in its result."""
    name = operation(call)
    if name in _POINTWISE:
        return axis
    if (last := _dimensions_acted_on(call, name, given)) is not None:
        return axis if axis is None or axis < -last else LOST
    if name in _RESHAPING:
        return _reshaped(call, axis, given.shape, result.shape)
    if name in _MOVING or name in REDUCING:
        return _rearranged(call, axis, given.shape)
    return LOST


def _dimensions_acted_on(call: Call, name: str, given: Value) -> float | None:
    """Return on how many last dimensions a pooling, resizing or padding acts; None for others."""
    if name in POOLS:
        return POOLS[name]
    if name in _RESIZING:
        return math.inf if given.shape is None else len(given.shape) - 2
    if name == "pad":
        padding = call.argument(1, "pad")
        return len(padding) // 2 if isinstance(padding, Sequence) else math.inf
    return None


def _reshaped(call: Call, axis: Axis, before: Shape | None, after: Shape | None) -> Axis:
    """Follow an axis to where as much lies before it and as much behind."""
    if axis is None or before is None:
        return None
    old, new = lengths(before), lengths(after)
    if old is not None and new is not None:
        ahead = math.prod(old[:axis])
        places = (
            place - len(new)
            for place, size in enumerate(new)
            if size == old[axis] and math.prod(new[:place]) == ahead
        )
        return next(places, LOST)
    joined = operation(call) == "flatten" and flattened_dimensions(call) == (len(before) + axis, -1)
    # What is joined to it has the length 1 where the result is as long as there are units.
    return -1 if joined else None


def lengths(shape: Shape | None) -> tuple[int, ...] | None:
    """Return a shape of which every length is known; None for another."""
    known = tuple(length for length in shape or () if length is not None)
    return None if shape is None or len(known) < len(shape) else known


def _rearranged(call: Call, axis: Axis, before: Shape | None) -> Axis:
    """Follow an axis by doing the same to a tensor of which every axis has a length of its own."""
    further = (call.args[1:], call.kwargs)
    kwargs = {key: value for key, value in call.kwargs.items() if key not in ("input", "self")}
    if axis is None or before is None or any(found_in(further, _is_value)):
        return None
    marks = [2 + place for place in range(len(before))]
    with contextlib.suppress(Exception):
        act: Any = getattr(torch.empty(marks, device="meta"), call.name)
        result = act if isinstance(act, Tensor) else act(*call.args[1:], **kwargs)
        if marks[axis] in result.shape:
            return list(result.shape).index(marks[axis]) - result.dim()
    return LOST


def _is_value(part: object) -> bool:
    return isinstance(part, Value)

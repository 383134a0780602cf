"""Functions of each number: activations, affine functions of each channel, and sums."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.activations import Activation, ActivationName
from gossamer.engine.epilogue import Epilogue
from gossamer.engine.fields import Array, Doubles, Shape, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    Rule,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.reshape import Reshape


@dataclass(frozen=True, eq=False)
class Pointwise(Operator):
    """An activation, an affine function of each channel or a sum that no operator before took in.

    The epilogue has no pooling.
    """

    name = "pointwise"

    input: Value
    epilogue: Epilogue

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        if self.epilogue.pooling is not None:
            raise InputError("epilogue has pooling, expected a Pool of its own.")
        return self.epilogue.infer_shape(shapes[self.input], shapes)

    def run(self, values: Mapping[Value, Array]) -> Array:
        return self.epilogue.run(values[self.input], values)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Pointwise"]:
        shape = random_shape(random)
        return shape, cls(0, replace(Epilogue.sampled(random, shape[0]), residual=0))


def affine(value: Value, scale: Array, shift: Array) -> Pointwise:
    """Return each channel (or feature) times a number, plus another; both [channels]."""
    return Pointwise(value, Epilogue(scale=scale, shift=shift))


def activate(value: Value, activation: Activation) -> Pointwise:
    """Return a function of each number."""
    return Pointwise(value, Epilogue(activation=activation))


def add(left: Value, right: Value) -> Pointwise:
    """Return two values of one shape, added."""
    return Pointwise(left, Epilogue(residual=right))


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805
_MOST_SCALED = 1e6
"""Largest bound of a clamp, and one over its smallest: beyond, small numbers would lose digits."""


def _batch_norm(call: Call) -> Lowered:
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    given = call.given("input")
    if given is None or mean is None or variance is None or call.arguments.get("training"):
        return ()
    weight, bias = call.constant("weight"), call.constant("bias")
    scale = 1 / np.sqrt(variance + float(call.arguments["eps"]))
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return (affine(given.value, scale, shift if bias is None else shift + bias),)


def _activated(call: Call, name: ActivationName, alpha: float = 1.0) -> Lowered:
    given = call.given("self")
    return () if given is None else (activate(given.value, Activation(name, alpha)),)


def _leaky_relu(call: Call) -> Lowered:
    return _activated(call, "leaky-relu", float(call.arguments["negative_slope"]))


def _prelu(call: Call) -> Lowered:
    slope = call.constant("weight")
    if slope is None or slope.size != 1:
        return ()
    return _activated(call, "leaky-relu", float(slope.flat[0]))


def _elu(call: Call) -> Lowered:
    alpha, scale = float(call.arguments["alpha"]), float(call.arguments["scale"])
    return () if call.arguments["input_scale"] != 1 else _scaled_elu(call, alpha, scale)


def _scaled_elu(call: Call, alpha: float, scale: float) -> Lowered:
    activated = _activated(call, "elu", alpha)
    if scale == 1 or not activated:
        return activated
    return (*activated, _uniform(call, call.step(0), scale, 0.0))


def _gelu(call: Call) -> Lowered:
    return _activated(call, "gelu-tanh" if call.arguments["approximate"] == "tanh" else "gelu")


def _hardsigmoid(call: Call) -> Lowered:
    given = call.given("self")
    if given is None:
        return ()
    return (
        _uniform(call, given.value, 1.0, 3.0),
        activate(call.step(0), Activation("relu6")),
        _uniform(call, call.step(1), 1 / 6, 0.0),
    )


def _clamp(call: Call, low: str, high: str) -> Lowered:
    """Return a clamp as what it leaves above 0 plus what it leaves below.

    One of the two is 0 for each number, so that nothing cancels; moving the bounds to those of
    ReLU6 instead would lose the digits of every number much smaller than they are.
    """
    given = call.given("self")
    least = _bound(call.arguments.get(low), -math.inf)
    most = _bound(call.arguments.get(high), math.inf)
    if given is None or least is None or most is None or not least <= 0 <= most or least == most:
        return ()
    finite = [abs(bound) for bound in (least, most) if bound and math.isfinite(bound)]
    if any(not 1 / _MOST_SCALED <= bound <= _MOST_SCALED for bound in finite):
        return ()
    above = _half_clamped(call, given.value, most, 0) if most else ()
    below = _half_clamped(call, given.value, least, len(above)) if least else ()
    if not (above and below):
        return above or below
    ends = (call.step(len(above) - 1), call.step(len(above) + len(below) - 1))
    return (*above, *below, add(*ends))


def _bound(found: Any, default: float) -> float | None:
    """Return the bound of a clamp; None if it is computed."""
    if found is None:
        return default
    return float(found) if isinstance(found, int | float) else None


def _half_clamped(call: Call, value: str, bound: float, first: int) -> Lowered:
    """Return what lies between 0 and a bound on either side of it, as operators from a step on."""
    if math.isinf(bound):
        width, activation = math.copysign(1.0, bound), Activation("relu")
    else:
        width, activation = bound / 6, Activation("relu6")
    if width == 1:
        return (activate(value, activation),)
    return (
        _uniform(call, value, 1 / width, 0.0),
        activate(call.step(first), activation),
        _uniform(call, call.step(first + 1), width, 0.0),
    )


def _uniform(call: Call, value: str, scale: float, shift: float) -> Pointwise:
    """Return an affine function that is the same for all channels of the value of a call."""
    channels = call.shape[0]
    return affine(value, np.full(channels, scale), np.full(channels, shift))


def _plus(call: Call, sign: float) -> Lowered:
    """Return self + factor * other, where one of them may be constant."""
    factor = sign * float(call.arguments.get("alpha", 1))
    left, right = call.constant("self"), call.constant("other")
    if right is not None:
        return _affine(call, "self", np.ones(()), right * factor)
    if left is not None:
        return _affine(call, "other", np.asarray(factor), left)
    given, other = call.given("self"), call.given("other")
    if given is None or other is None or given.shape != other.shape:
        return ()
    if factor == 1:
        return (add(given.value, other.value),)
    return (_uniform(call, other.value, factor, 0.0), add(given.value, call.step(0)))


def _rsub(call: Call) -> Lowered:
    other = call.constant("other")
    if other is None:
        return ()
    return _affine(call, "self", np.asarray(-float(call.arguments["alpha"])), other)


def _mul(call: Call) -> Lowered:
    for value, factor in (("self", "other"), ("other", "self")):
        constant = call.constant(factor)
        if constant is not None:
            return _affine(call, value, constant, np.zeros(()))
    return ()


def _div(call: Call) -> Lowered:
    divisor = call.constant("other")
    if divisor is None or not divisor.all() or call.arguments.get("rounding_mode"):
        return ()
    return _affine(call, "self", 1 / divisor, np.zeros(()))


def _neg(call: Call) -> Lowered:
    return _affine(call, "self", np.asarray(-1.0), np.zeros(()))


def _affine(call: Call, argument: str, scale: Doubles, shift: Doubles) -> Lowered:
    """Return scale * value + shift, of constants that PyTorch would broadcast over the value."""
    given = call.given(argument)
    if given is None or given.shape != call.shape:  # a constant made the value larger
        return ()
    shape = given.shape
    try:
        spread = [_spread(constant, shape) for constant in (scale, shift)]
    except ValueError:  # the constant differs from row to row
        return ()
    channels = [np.ascontiguousarray(part[:, 0]) for part in spread]
    if all((part == part[:, :1]).all() for part in spread):
        return (affine(given.value, *channels),)
    # One number for each place: the places are features for a moment.
    return (
        Reshape(given.value, (math.prod(shape),)),
        affine(call.step(0), spread[0].ravel(), spread[1].ravel()),
        Reshape(call.step(1), network_shape(shape)),
    )


def _spread(constant: Doubles, shape: Shape) -> Doubles:
    """Return a constant for every place of a value, [channels, places]."""
    behind = constant.shape[-len(shape) :] if constant.ndim > len(shape) else constant.shape
    return np.broadcast_to(constant.reshape(behind), shape).reshape(shape[0], -1)


_ACTIVATIONS: tuple[ActivationName, ...] = (
    "relu", "relu6", "silu", "hardswish", "sigmoid", "tanh",
)  # fmt: skip
_NORMALISATIONS: dict[str, Rule] = {
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "prelu": _prelu,
}
_BY_ROW: dict[str, Rule] = {
    **{name: partial(_activated, name=name) for name in _ACTIVATIONS},
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": partial(_scaled_elu, alpha=_SELU_ALPHA, scale=_SELU_SCALE),
    "hardsigmoid": _hardsigmoid,
    "hardtanh": partial(_clamp, low="min_val", high="max_val"),
    "clamp": partial(_clamp, low="min", high="max"),
    "clamp_min": partial(_clamp, low="min", high=""),
    "add": partial(_plus, sign=1.0),
    "sub": partial(_plus, sign=-1.0),
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
}
register(Pointwise, _NORMALISATIONS | _BY_ROW, row_by_row=_BY_ROW)

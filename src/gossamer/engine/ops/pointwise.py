"""Functions of each number: activations, affine functions of each channel, and sums."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

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
from gossamer.engine.ops.binary import Binary, BinaryName, binary
from gossamer.engine.ops.constant import Constant


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


def uniform(call: Call, value: Value, scale: float, shift: float = 0.0) -> Pointwise:
    """Return an affine function that is the same for all channels of the value of a call."""
    channels = network_shape(call.shape)[0]
    return affine(value, np.full(channels, scale), np.full(channels, shift))


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


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
    """Return what is above 0 plus what is below times a slope, which may be each channel's own."""
    given, slope = call.given("self"), call.constant("weight")
    if given is None or slope is None:
        return ()
    if slope.size == 1:
        return _activated(call, "leaky-relu", float(slope.flat[0]))
    return (
        activate(given.value, Activation("relu")),
        uniform(call, given.value, -1.0),
        activate(call.step(1), Activation("relu")),
        affine(call.step(2), -slope.reshape(-1), np.zeros(slope.size)),
        add(call.step(0), call.step(3)),
    )


def _rrelu(call: Call) -> Lowered:
    if call.arguments["training"]:
        return ()
    slope = (float(call.arguments["lower"]) + float(call.arguments["upper"])) / 2
    return _activated(call, "leaky-relu", slope)


def _elu(call: Call) -> Lowered:
    alpha, scale = float(call.arguments["alpha"]), float(call.arguments["scale"])
    return () if call.arguments["input_scale"] != 1 else _scaled_elu(call, alpha, scale)


def _scaled_elu(call: Call, alpha: float, scale: float) -> Lowered:
    activated = _activated(call, "elu", alpha)
    if scale == 1 or not activated:
        return activated
    return (*activated, uniform(call, call.step(0), scale, 0.0))


def _gelu(call: Call) -> Lowered:
    return _activated(call, "gelu-tanh" if call.arguments["approximate"] == "tanh" else "gelu")


def _hardsigmoid(call: Call) -> Lowered:
    given = call.given("self")
    if given is None:
        return ()
    return (
        uniform(call, given.value, 1.0, 3.0),
        activate(call.step(0), Activation("relu6")),
        uniform(call, call.step(1), 1 / 6, 0.0),
    )


def _plus(call: Call, sign: float) -> Lowered:
    """Return self + factor * other, where one of them may be constant."""
    factor = sign * float(call.arguments.get("alpha", 1))
    left, right = call.constant("self"), call.constant("other")
    spread: dict[float, BinaryName] = {1.0: "add", -1.0: "subtract"}
    larger = spread.get(factor)  # one of the two may make the other larger
    found: Lowered = ()
    if right is not None:
        found = _affine(call, "self", np.ones(()), right * factor)
    elif left is not None:
        found = _affine(call, "other", np.asarray(factor), left)
    if left is not None or right is not None:
        return found or (binary(call, larger) if larger else ())
    given, other = call.given("self"), call.given("other")
    if given is None or other is None or given.shape != other.shape:
        return binary(call, larger) if larger else ()
    if factor == 1:
        return (add(given.value, other.value),)
    return (uniform(call, other.value, factor), add(given.value, call.step(0)))


def _rsub(call: Call) -> Lowered:
    other = call.constant("other")
    if other is None:
        return ()
    return _affine(call, "self", np.asarray(-float(call.arguments["alpha"])), other)


def _mul(call: Call) -> Lowered:
    for value, factor in (("self", "other"), ("other", "self")):
        constant = call.constant(factor)
        if constant is not None and (found := _affine(call, value, constant, np.zeros(()))):
            return found
    return binary(call, "multiply")


def _div(call: Call) -> Lowered:
    divisor = call.constant("other")
    if call.arguments.get("rounding_mode"):
        return ()
    if divisor is None:
        return binary(call, "divide")
    if not divisor.all():
        return ()
    return _affine(call, "self", 1 / divisor, np.zeros(())) or binary(call, "divide")


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
    return placewise(given.value, network_shape(shape), spread[0], spread[1], call.step)


def placewise(
    value: Value, shape: Shape, scale: Array, shift: Array, name: Callable[[int], Value]
) -> tuple[Operator, ...]:
    """Return a value times a number for each place, plus another, where they change anything.

    `name` gives the values inside, counted from 0.
    """
    steps: list[Operator] = []
    if (scale != 1).any() or not shift.any():
        steps.append(Constant(value, np.ascontiguousarray(scale.reshape(shape)), shape))
        steps.append(Binary(value, name(0), "multiply"))
    if shift.any():
        steps.append(Constant(value, np.ascontiguousarray(shift.reshape(shape)), shape))
        place = len(steps) - 1
        steps.append(add(name(place - 1) if place else value, name(place)))
    return tuple(steps)


def _spread(constant: Doubles, shape: Shape) -> Doubles:
    """Return a constant for every place of a value, [channels, places]."""
    behind = constant.shape
    if constant.ndim > len(shape):
        behind = behind[constant.ndim - len(shape) :]
    spread = np.broadcast_to(constant.reshape(behind), shape)
    return spread.reshape(network_shape(shape)[0], -1)


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
    "rrelu": _rrelu,
    "elu": _elu,
    "selu": partial(_scaled_elu, alpha=_SELU_ALPHA, scale=_SELU_SCALE),
    "hardsigmoid": _hardsigmoid,
    "add": partial(_plus, sign=1.0),
    "sub": partial(_plus, sign=-1.0),
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
}
register(Pointwise, _NORMALISATIONS | _BY_ROW, row_by_row=_BY_ROW)

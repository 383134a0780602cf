"""Which functions of each number activations, normalisations and arithmetic are."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from torch import fx

from gossamer.compression.lowering.calls import Call, Lowered, Rule
from gossamer.compression.lowering.operations import (
    Activate,
    Affine,
    Doubles,
    Reshape,
    Sum,
    network_shape,
    numbers,
)
from gossamer.kernels.network import Activation, ActivationName, Shape

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805
_MOST_SCALED = 1e6
"""Largest bound of a clamp, and one over its smallest: beyond, small numbers would lose digits."""


def _batch_norm(call: Call) -> Lowered:
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    shape = call.shape("input")
    if shape is None or mean is None or variance is None or call.arguments.get("training"):
        return ()
    weight, bias = call.constant("weight"), call.constant("bias")
    scale = 1 / np.sqrt(variance + float(call.arguments["eps"]))
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return (Affine(call.name("input"), scale, shift if bias is None else shift + bias),)


def _activation(name: ActivationName) -> Callable[[Call], Lowered]:
    def rule(call: Call) -> Lowered:
        return (Activate(call.name("self"), Activation(name)),)

    return rule


def _leaky_relu(call: Call) -> Lowered:
    activation = Activation("leaky-relu", float(call.arguments["negative_slope"]))
    return (Activate(call.name("self"), activation),)


def _prelu(call: Call) -> Lowered:
    slope = call.constant("weight")
    if slope is None or slope.size != 1:
        return ()
    return (Activate(call.name("self"), Activation("leaky-relu", float(slope.flat[0]))),)


def _elu(call: Call) -> Lowered:
    alpha, scale = float(call.arguments["alpha"]), float(call.arguments["scale"])
    return () if call.arguments["input_scale"] != 1 else _scaled_elu(call, alpha, scale)


def _selu(call: Call) -> Lowered:
    return _scaled_elu(call, _SELU_ALPHA, _SELU_SCALE)


def _scaled_elu(call: Call, alpha: float, scale: float) -> Lowered:
    activate = Activate(call.name("self"), Activation("elu", alpha))
    return (activate,) if scale == 1 else (activate, _uniform(call, call.step(0), scale, 0.0))


def _gelu(call: Call) -> Lowered:
    tanh = call.arguments["approximate"] == "tanh"
    return (Activate(call.name("self"), Activation("gelu-tanh" if tanh else "gelu")),)


def _hardsigmoid(call: Call) -> Lowered:
    return (
        _uniform(call, call.name("self"), 1.0, 3.0),
        Activate(call.step(0), Activation("relu6")),
        _uniform(call, call.step(1), 1 / 6, 0.0),
    )


def _clamp(low: str, high: str) -> Callable[[Call], Lowered]:
    def rule(call: Call) -> Lowered:
        bounds = (call.arguments.get(low), call.arguments.get(high))
        if any(isinstance(bound, fx.Node) for bound in bounds):
            return ()
        return _clamped(call, *(None if b is None else float(b) for b in bounds))

    return rule


def _clamped(call: Call, low: float | None, high: float | None) -> Lowered:
    """Return a clamp as what it leaves above 0 plus what it leaves below.

    One of the two is 0 for each number, so that nothing cancels; moving the bounds to those of
    ReLU6 instead would lose the digits of every number much smaller than they are.
    """
    low = -math.inf if low is None else low
    high = math.inf if high is None else high
    if not low <= 0 <= high or low == high:
        return ()
    bounds = [abs(bound) for bound in (low, high) if bound and math.isfinite(bound)]
    if any(not 1 / _MOST_SCALED <= bound <= _MOST_SCALED for bound in bounds):
        return ()
    value = call.name("self")
    above = _half_clamped(call, value, high, 0) if high else ()
    below = _half_clamped(call, value, low, len(above)) if low else ()
    if not (above and below):
        return above or below
    ends = (call.step(len(above) - 1), call.step(len(above) + len(below) - 1))
    return (*above, *below, Sum(ends))


def _half_clamped(call: Call, value: str, bound: float, first: int) -> Lowered:
    """Return what lies between 0 and a bound on either side of it, as operations from a step on."""
    if math.isinf(bound):
        width, activation = math.copysign(1.0, bound), Activation("relu")
    else:
        width, activation = bound / 6, Activation("relu6")
    if width == 1:
        return (Activate(value, activation),)
    return (
        _uniform(call, value, 1 / width, 0.0),
        Activate(call.step(first), activation),
        _uniform(call, call.step(first + 1), width, 0.0),
    )


def _uniform(call: Call, value: str, scale: float, shift: float) -> Affine:
    """Return an affine function that is the same for all channels of the value of a call."""
    channels = call.shapes[call.node][0]
    return Affine(value, np.full(channels, scale), np.full(channels, shift))


def _add(call: Call) -> Lowered:
    return _plus(call, float(call.arguments.get("alpha", 1)))


def _sub(call: Call) -> Lowered:
    return _plus(call, -float(call.arguments.get("alpha", 1)))


def _plus(call: Call, factor: float) -> Lowered:
    """Return self + factor * other, where one of them may be constant."""
    left, right = call.constant("self"), call.constant("other")
    if right is not None:
        return _affine(call, "self", np.ones(()), right * factor)
    if left is not None:
        return _affine(call, "other", np.asarray(factor), left)
    if call.shape("self") != call.shape("other"):
        return ()
    if factor == 1:
        return (Sum((call.name("self"), call.name("other"))),)
    return (
        _uniform(call, call.name("other"), factor, 0.0),
        Sum((call.name("self"), call.step(0))),
    )


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
    return (_uniform(call, call.name("self"), -1.0, 0.0),)


def _affine(call: Call, value: str, scale: Doubles, shift: Doubles) -> Lowered:
    """Return scale * value + shift, of constants that PyTorch would broadcast over the value."""
    shape = call.shape(value)
    if shape is None or shape != call.shapes[call.node]:  # a constant made the value larger
        return ()
    try:
        spread = [_spread(constant, shape) for constant in (scale, shift)]
    except ValueError:  # the constant differs from row to row
        return ()
    channels = [np.ascontiguousarray(part[:, 0]) for part in spread]
    if all((part == part[:, :1]).all() for part in spread):
        return (Affine(call.name(value), *channels),)
    # One number for each place: the places are features for a moment.
    return (
        Reshape(call.name(value), (numbers(shape),)),
        Affine(call.step(0), spread[0].ravel(), spread[1].ravel()),
        Reshape(call.step(1), network_shape(shape)),
    )


def _spread(constant: Doubles, shape: Shape) -> Doubles:
    """Return a constant for every place of a value, [channels, places]."""
    behind = constant.shape[-len(shape) :] if constant.ndim > len(shape) else constant.shape
    return np.broadcast_to(constant.reshape(behind), shape).reshape(shape[0], -1)


RULES: Mapping[str, Rule] = {
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "relu": _activation("relu"),
    "relu6": _activation("relu6"),
    "silu": _activation("silu"),
    "hardswish": _activation("hardswish"),
    "sigmoid": _activation("sigmoid"),
    "tanh": _activation("tanh"),
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _elu,
    "selu": _selu,
    "hardsigmoid": _hardsigmoid,
    "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "clamp_min": _clamp("min", ""),
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
}

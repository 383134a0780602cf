"""Functions of each number that no epilogue has."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.activations import Activation, complementary_error
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, Rule, random_shape, register
from gossamer.engine.ops.binary import Binary, BinaryName, binary, operands
from gossamer.engine.ops.pointwise import activate, add, affine, uniform
from gossamer.engine.ops.reshape import same_numbers
from gossamer.engine.ops.slice import Slice

FunctionName = Literal[
    "abs", "at-least", "at-most", "ceil", "cos", "erf", "exp", "expm1", "floor", "log", "log1p",
    "log-sigmoid", "mish", "nonnegative", "positive", "power", "reciprocal", "round", "rsqrt",
    "sign", "sin", "softplus", "sqrt", "square", "zero",
]  # fmt: skip


@dataclass(frozen=True)
class Function(Operator):
    """A function of each number; truth values are 1 and 0.

    `alpha` is the bound of `at-least` and `at-most`, the exponent of `power`, and the factor
    beta of softplus, log(1 + exp(beta x)) / beta.
    """

    name = "function"

    input: Value
    function: FunctionName
    alpha: float = 1.0

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        if self.function == "softplus" and self.alpha <= 0:
            raise InputError(f"alpha is {self.alpha}, expected more than 0 for softplus.")
        return shapes[self.input]

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        found = _FUNCTIONS[self.function](given, np.asarray(self.alpha, given.dtype))
        return np.asarray(found, given.dtype)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Function"]:
        partial_ones = ("log", "log1p", "rsqrt", "sqrt")  # which are not for numbers below 0
        names = [name for name in get_args(FunctionName) if name not in partial_ones]
        return random_shape(random), cls(0, names[int(random.integers(len(names)))], 2.0)


def _softplus(x: Array, beta: Array) -> Array:
    scaled = x * beta
    return (np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))) / beta


def _mish(x: Array, _: Array) -> Array:
    # With e = exp(x), tanh(log(1 + e)) is e (e + 2) / (e (e + 2) + 2).
    power = np.exp(np.minimum(x, 20))
    above = power * (power + 2)
    return np.where(x > 20, x, x * (above / (above + 2)))


_FUNCTIONS: Mapping[str, Callable[[Array, Array], NDArray[Any]]] = {
    "abs": lambda x, _: np.abs(x),
    "at-least": np.maximum,
    "at-most": np.minimum,
    "ceil": lambda x, _: np.ceil(x),
    "cos": lambda x, _: np.cos(x),
    "erf": lambda x, _: np.where(
        np.abs(x) < 0.5,
        1 - complementary_error(x),
        np.sign(x) * (1 - complementary_error(np.abs(x))),
    ),
    "exp": lambda x, _: np.exp(x),
    "expm1": lambda x, _: np.expm1(x),
    "floor": lambda x, _: np.floor(x),
    "log": lambda x, _: np.log(x),
    "log1p": lambda x, _: np.log1p(x),
    "log-sigmoid": lambda x, _: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))),
    "mish": _mish,
    "nonnegative": lambda x, _: x >= 0,
    "positive": lambda x, _: x > 0,
    "power": np.power,
    "reciprocal": lambda x, _: 1 / x,
    "round": lambda x, _: np.rint(x),
    "rsqrt": lambda x, _: 1 / np.sqrt(x),
    "sign": lambda x, _: np.where(np.isnan(x), 0, np.sign(x)),
    "sin": lambda x, _: np.sin(x),
    "softplus": _softplus,
    "sqrt": lambda x, _: np.sqrt(x),
    "square": lambda x, _: np.square(x),
    "zero": lambda x, _: x == 0,
}


def _applied(name: FunctionName) -> Rule:
    def rule(call: Call) -> Lowered:
        given = call.given("self")
        return () if given is None else (Function(given.value, name),)

    return rule


def _scaled(name: FunctionName, factor: float) -> Rule:
    """Return a function times a number."""

    def rule(call: Call) -> Lowered:
        given = call.given("self")
        if given is None:
            return ()
        return (Function(given.value, name), uniform(call, call.step(0), factor, 0.0))

    return rule


def _softplus_rule(call: Call) -> Lowered:
    """Return softplus; beyond its threshold PyTorch gives the number, as float32 then does."""
    given, beta = call.given("self"), float(call.arguments["beta"])
    if given is None or beta <= 0 or float(call.arguments["threshold"]) < 15:
        return ()
    return (Function(given.value, "softplus", beta),)


def _power(call: Call) -> Lowered:
    given, exponent = call.given("self"), call.arguments["exponent"]
    if given is None or not isinstance(exponent, int | float):
        return binary(call, "power", "self", "exponent")
    known: dict[float, FunctionName] = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
    if exponent in known:
        return (Function(given.value, known[exponent]),)
    return (Function(given.value, "power", float(exponent)),)


def _celu(call: Call) -> Lowered:
    """Return a celu(x / a) of a = 1, which is elu."""
    given, alpha = call.given("self"), float(call.arguments["alpha"])
    if given is None or alpha <= 0:
        return ()
    if alpha == 1:
        return (activate(given.value, Activation("elu")),)
    return (
        uniform(call, given.value, 1 / alpha, 0.0),
        activate(call.step(0), Activation("elu")),
        uniform(call, call.step(1), alpha, 0.0),
    )


MOST_WHOLE = 2**24
"""The largest whole number up to which float32 holds all."""
_MOST_SCALED = 1e6
"""Largest bound of a clamp, and one over its smallest: beyond, small numbers would lose digits."""


def _clamp(call: Call, low: str, high: str) -> Lowered:
    """Return a clamp as what it leaves above 0 plus what it leaves below, which kernels take in.

    One of the two is 0 for each number, so that nothing cancels; moving the bounds to those of
    ReLU6 instead would lose the digits of every number much smaller than they are.
    """
    given = call.given("self")
    least = _bound(call.arguments.get(low), -math.inf)
    most = _bound(call.arguments.get(high), math.inf)
    if given is None or least is None or most is None:
        return ()
    finite = [abs(bound) for bound in (least, most) if bound and math.isfinite(bound)]
    scaled = all(1 / _MOST_SCALED <= bound <= _MOST_SCALED for bound in finite)
    if given.type != "float32" and max(finite, default=0) > MOST_WHOLE:
        return ()
    whole = given.type != "float32"
    if whole or not least <= 0 <= most or least == most or not scaled:
        return _bounded(call, given.value, least, most)
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
        uniform(call, value, 1 / width, 0.0),
        activate(call.step(first), activation),
        uniform(call, call.step(first + 1), width, 0.0),
    )


def _bounded(call: Call, value: Value, least: float, most: float) -> Lowered:
    """Return a clamp by one bound after the other; the upper one holds where they cross."""
    found: list[Operator] = []
    bounds: tuple[tuple[FunctionName, float], ...] = (("at-least", least), ("at-most", most))
    for name, bound in bounds:
        if math.isfinite(bound):
            found.append(Function(value, name, bound))
            value = call.step(len(found) - 1)
    return tuple(found)


def _compared(kind: str) -> Rule:
    """Return a comparison; with a number, of the difference, which only equal numbers have as 0."""
    function, turned = _BOTH[kind]

    def rule(call: Call) -> Lowered:
        given, bound = call.given("self"), call.arguments["other"]
        if call.given("other") is not None or callable(bound):
            return binary(call, function, *(("other", "self") if turned else ("self", "other")))
        if given is None or not isinstance(bound, int | float) or not math.isfinite(bound):
            return ()
        if given.type != "float32" and abs(bound) > MOST_WHOLE:
            return ()  # float32 could not tell it from its neighbours
        sign = -1.0 if function in ("less", "less-equal") and not turned else 1.0
        found: list[Operator] = [uniform(call, given.value, sign, -sign * float(bound))]
        found.append(Function(call.step(0), _SIGNS[function]))
        if kind == "ne":
            found.append(Function(call.step(1), "zero"))
        return tuple(found)

    return rule


_BOTH: dict[str, tuple[BinaryName, bool]] = {
    "lt": ("less", False), "le": ("less-equal", False), "gt": ("less", True),
    "ge": ("less-equal", True), "eq": ("equal", False), "ne": ("not-equal", False),
}  # fmt: skip
_SIGNS: dict[BinaryName, FunctionName] = {
    "less": "positive", "less-equal": "nonnegative", "equal": "zero", "not-equal": "zero",
}  # fmt: skip


def _not(call: Call) -> Lowered:
    given = call.given("self")
    return () if given is None else (Function(given.value, "zero"),)


def _glu(call: Call) -> Lowered:
    """Return the first half of an axis times the sigmoid of the second."""
    given = call.given("self")
    axis = None if given is None else given.axis(call.arguments["dim"])
    if given is None or axis is None:
        return ()
    half = call.shape[call.arguments["dim"] % (len(call.shape) + 1) - 1]
    return (
        Slice(given.value, axis, half, half),
        activate(call.step(0), Activation("sigmoid")),
        Slice(given.value, axis, 0, half),
        Binary(call.step(2), call.step(1), "multiply"),
    )


def _masked_fill(call: Call) -> Lowered:
    """Return a number where a condition holds, elsewhere a value."""
    number = call.constant("value")
    if number is None or number.size != 1:
        return ()
    return _filled(call, "self", "mask", float(number.flat[0]))


def _where(call: Call) -> Lowered:
    """Return where a condition holds one value, elsewhere another; one of them may be a number.

    Each is 0 where the other is chosen, so that nothing is lost by adding them.
    """
    for number, value, turned in (("other", "self", True), ("self", "other", False)):
        found = call.constant(number)
        if found is not None and found.size == 1 and call.given(value) is not None:
            return _filled(call, value, "condition", float(found.flat[0]), turned=turned)
    given = operands(call, ("condition", "self", "other"))
    if given is None:
        return ()
    constants, (condition, chosen, other) = given
    first = len(constants)
    return (
        *constants,
        Function(condition, "zero"),
        Binary(chosen, call.step(first), "unless"),
        Binary(other, condition, "unless"),
        Binary(call.step(first + 1), call.step(first + 2), "add"),
    )


def _filled(call: Call, value: str, mask: str, number: float, *, turned: bool = False) -> Lowered:
    """Return a number where a mask is not 0, or is 0 if `turned`, elsewhere a value."""
    found = operands(call, (value, mask))
    if found is None or math.isnan(number):
        return ()
    steps: list[Operator] = [*found[0]]
    given, filled = found[1]
    opposite: Value = call.step(len(steps))
    steps.append(Function(filled, "zero"))
    if turned:
        filled, opposite = opposite, filled
    steps.append(Binary(given, filled, "unless"))
    kept = call.step(len(steps) - 1)
    if not number:
        return tuple(steps)
    if math.isinf(number):  # the logarithm of 1 is 0, that of 0 minus infinity
        steps.append(Function(opposite, "log"))
        function: BinaryName = "add" if number < 0 else "subtract"
        return (*steps, Binary(kept, call.step(len(steps) - 1), function))
    channels = _channels(call, mask)
    steps.append(affine(filled, np.full(channels, number), np.zeros(channels)))
    return (*steps, Binary(kept, call.step(len(steps) - 1), "add"))


def _no_nan(call: Call) -> Lowered:
    """Return a number for what is none, and the largest for what is infinite."""
    given, number = call.given("self"), call.arguments.get("nan") or 0.0
    if given is None or any(call.arguments.get(name) is not None for name in ("posinf", "neginf")):
        return ()
    largest = float(np.finfo(np.float32).max)
    kept: Lowered = (
        Binary(given.value, given.value, "equal"),
        Function(call.step(0), "zero"),
        Binary(given.value, call.step(1), "unless"),
        Function(call.step(2), "at-least", -largest),
        Function(call.step(3), "at-most", largest),
    )
    if not number:
        return kept
    return (*kept, uniform(call, call.step(1), float(number)), add(call.step(4), call.step(5)))


def _converted(call: Call) -> Lowered:
    """Return numbers as another type holds them: as they are, or whether they are not 0."""
    given = call.given("self")
    if given is None or call.type != "bool" or given.type == "bool":
        return same_numbers(call)
    return (Function(given.value, "zero"), Function(call.step(0), "zero"))


def _channels(call: Call, mask: str) -> int:
    """Return how many channels a mask has in a network."""
    given, constant = call.given(mask), call.constant(mask)
    if given is not None:
        return given.shape[0] if given.shape else 1
    assert constant is not None
    behind = constant.shape[-len(call.shape) :] if constant.ndim >= len(call.shape) else ()
    return behind[0] if behind else 1


_NAMES: tuple[FunctionName, ...] = (
    "abs", "ceil", "cos", "erf", "exp", "expm1", "floor", "log", "log1p", "mish", "reciprocal",
    "round", "rsqrt", "sign", "sin", "sqrt", "square",
)  # fmt: skip
_RULES: dict[str, Rule] = {
    **{name: _applied(name) for name in _NAMES},
    "log_sigmoid": _applied("log-sigmoid"),
    "log2": _scaled("log", 1 / math.log(2)),
    "log10": _scaled("log", 1 / math.log(10)),
    "hardtanh": partial(_clamp, low="min_val", high="max_val"),
    "clamp": partial(_clamp, low="min", high="max"),
    "clamp_min": partial(_clamp, low="min", high=""),
    "clamp_max": partial(_clamp, low="", high="max"),
    "softplus": _softplus_rule,
    "pow": _power,
    "celu": _celu,
    "logical_not": _not,
    "bitwise_not": _not,
    "nan_to_num": _no_nan,
    **{name: _compared(name) for name in _BOTH},
}
_CONVERTING: dict[str, Rule] = dict.fromkeys(("to", "_to_copy", "type_as"), _converted)
register(
    Function,
    {**_RULES, **_CONVERTING, "glu": _glu, "masked_fill": _masked_fill, "where": _where},
    row_by_row=(*_RULES, "_to_copy"),
    any_type=_CONVERTING,
)

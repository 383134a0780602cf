"""One number of all that lie along some axes: sums, means, extremes, norms."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Indices, Shape, Value
from gossamer.engine.operator import (
    Call,
    Given,
    Lowered,
    Operator,
    Rule,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.binary import Binary, operands
from gossamer.engine.ops.function import Function
from gossamer.engine.ops.pointwise import uniform
from gossamer.engine.ops.reshape import Reshape

ReductionName = Literal[
    "argmax", "argmin", "maximum", "mean", "minimum", "norm", "product", "sum", "variance"
]


@dataclass(frozen=True)
class Reduce(Operator):
    """What all numbers along some axes come to; these axes are of length 1 then.

    `norm` is the root of the sum of squares, `variance` the mean square of what lies off the mean.
    The place of the largest or smallest number is counted from 0, along one axis: the first of
    several that are alike, or of the NaN, if there are any.
    """

    name = "reduce"

    input: Value
    reduction: ReductionName
    axes: Indices

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        expect_axis(given, max(self.axes))
        if len(set(self.axes)) != len(self.axes):
            raise InputError(f"axes are {list(self.axes)}, expected each axis once.")
        if self.reduction in _PLACES and len(self.axes) != 1:
            raise InputError(f"axes are {list(self.axes)}, expected one axis for {self.reduction}.")
        return tuple(1 if axis in self.axes else length for axis, length in enumerate(given))

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        along = tuple(axis + 1 for axis in self.axes)
        if self.reduction in _PLACES:
            find = np.argmax if self.reduction == "argmax" else np.argmin
            found: Array = find(given, axis=along[0], keepdims=True).astype(given.dtype)
            return found
        # Many numbers: in float64, as the compiled kernels add them up.
        exact = np.asarray(_REDUCTIONS[self.reduction](given.astype(np.float64), along))
        return exact.astype(given.dtype)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Reduce"]:
        shape = random_shape(random)
        name = get_args(ReductionName)[int(random.integers(len(get_args(ReductionName))))]
        count = 1 if name in _PLACES else int(random.integers(1, len(shape) + 1))
        return shape, cls(0, name, tuple(map(int, random.permutation(len(shape))[:count])))


_PLACES = frozenset({"argmax", "argmin"})
_REDUCTIONS: Mapping[str, Callable[[NDArray[Any], tuple[int, ...]], NDArray[Any]]] = {
    "maximum": lambda x, axes: x.max(axes, keepdims=True),
    "mean": lambda x, axes: x.mean(axes, keepdims=True),
    "minimum": lambda x, axes: x.min(axes, keepdims=True),
    "norm": lambda x, axes: np.sqrt(np.square(x).sum(axes, keepdims=True)),
    "product": lambda x, axes: x.prod(axes, keepdims=True),
    "sum": lambda x, axes: x.sum(axes, keepdims=True),
    "variance": lambda x, axes: x.var(axes, keepdims=True),
}


def axes_of(call: Call, given: Given) -> tuple[int, ...]:
    """Return the axes that a call reduces over; empty if the batch is among them."""
    dims = call.arguments.get("dim")
    if dims is None:  # all of them, the batch as well
        return ()
    axes = [given.axis(dim) for dim in (dims if isinstance(dims, list | tuple) else [dims])]
    return () if None in axes else tuple(axis for axis in axes if axis is not None)


def reduced(call: Call, reduction: ReductionName) -> Lowered:
    """Return a reduction over any axes but the batch."""
    given = call.given("self")
    axes = () if given is None else axes_of(call, given)
    if given is None or not axes:
        return ()
    return (Reduce(given.value, reduction, axes), Reshape(call.step(0), network_shape(call.shape)))


def _reduction(name: ReductionName) -> Rule:
    return partial(reduced, reduction=name)


def _of_truths(name: ReductionName) -> Rule:
    """Return whether any, or all, are true."""

    def rule(call: Call) -> Lowered:
        given = call.given("self")
        return reduced(call, name) if given is not None and given.type == "bool" else ()

    return rule


def _variance(call: Call, *, rooted: bool) -> Lowered:
    given = call.given("self")
    axes = () if given is None else axes_of(call, given)
    if given is None or not axes:
        return ()
    size = network_shape(given.shape)
    count = math.prod(size[axis] for axis in axes)
    off = call.arguments.get("correction")
    off = float(call.arguments.get("unbiased", True)) if off is None else float(off)
    if count <= off:
        return ()
    found: list[Operator] = [
        Reduce(given.value, "variance", axes),
        Reshape(call.step(0), network_shape(call.shape)),
        uniform(call, call.step(1), count / (count - off)),
    ]
    return (*found, Function(call.step(2), "sqrt")) if rooted else tuple(found)


def _norm(call: Call) -> Lowered:
    given, order = call.given("self"), call.arguments.get("ord", call.arguments.get("p"))
    order = 2 if order is None else order
    if given is None or call.arguments.get("dtype") is not None:
        return ()
    if order == 2:
        return reduced(call, "norm")
    axes = axes_of(call, given)
    names: dict[float, ReductionName] = {1: "sum", math.inf: "maximum", -math.inf: "minimum"}
    if not axes or order not in names:
        return ()
    return (
        Function(given.value, "abs"),
        Reduce(call.step(0), names[order], axes),
        Reshape(call.step(1), network_shape(call.shape)),
    )


def _logarithm_of_sums(call: Call) -> Lowered:
    """Return the logarithm of the sum of powers, of which none is above 1."""
    given = call.given("self")
    axes = () if given is None else axes_of(call, given)
    if given is None or not axes:
        return ()
    return (
        Reduce(given.value, "maximum", axes),
        # An infinite largest number is no number to be subtracted: 0 is.
        Binary(call.step(0), call.step(0), "subtract"),
        Function(call.step(1), "zero"),
        Function(call.step(2), "zero"),
        Binary(call.step(0), call.step(3), "unless"),
        Binary(given.value, call.step(4), "subtract"),
        Function(call.step(5), "exp"),
        Reduce(call.step(6), "sum", axes),
        Function(call.step(7), "log"),
        Binary(call.step(8), call.step(4), "add"),
        Reshape(call.step(9), network_shape(call.shape)),
    )


def _cosine(call: Call) -> Lowered:
    """Return the sum of products over both norms, neither of which is taken for less than eps."""
    whole = call.given("x1") or call.given("x2")
    rank = 0 if whole is None else len(whole.shape)
    found = operands(call, ("x1", "x2"), rank=rank)
    axis = None if whole is None else whole.axis(call.arguments["dim"])
    if found is None or axis is None:
        return ()
    constants, (one, other) = found
    given = [computed for name in ("x1", "x2") if (computed := call.given(name))]
    shapes = [network_shape(computed.shape) for computed in given]
    shapes += [constant.shape for constant in constants]
    if shapes[0][axis] != shapes[1][axis]:
        return ()  # the norm of one repeated number
    at, eps = len(constants), float(call.arguments["eps"])
    return (
        *constants,
        Reduce(one, "norm", (axis,)),
        Function(call.step(at), "at-least", eps),
        Reduce(other, "norm", (axis,)),
        Function(call.step(at + 2), "at-least", eps),
        Binary(call.step(at + 1), call.step(at + 3), "multiply"),
        Binary(one, other, "multiply"),
        Reduce(call.step(at + 5), "sum", (axis,)),
        Binary(call.step(at + 6), call.step(at + 4), "divide"),
        Reshape(call.step(at + 7), network_shape(call.shape)),
    )


_OF_ANY_TYPE: dict[str, Rule] = {
    "amin": _reduction("minimum"),
    "max": _reduction("maximum"),
    "min": _reduction("minimum"),
    "argmax": _reduction("argmax"),
    "argmin": _reduction("argmin"),
    "any": _of_truths("maximum"),
    "all": _of_truths("minimum"),
}
register(
    Reduce,
    {
        **_OF_ANY_TYPE,
        "prod": _reduction("product"),
        "var": partial(_variance, rooted=False),
        "std": partial(_variance, rooted=True),
        "linalg_vector_norm": _norm,
        "norm": _norm,
        "cosine_similarity": _cosine,
        "logsumexp": _logarithm_of_sums,
    },
    any_type=_OF_ANY_TYPE,
)

"""Functions of two computed numbers: gates, quotients, comparisons, the larger of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    Rule,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.constant import Constant

BinaryName = Literal[
    "add", "divide", "equal", "less", "less-equal", "maximum", "minimum", "multiply", "not-equal",
    "power", "subtract", "unless",
]  # fmt: skip


@dataclass(frozen=True)
class Binary(Operator):
    """A function of each number of two values; axes of length 1 are repeated in either of them.

    Truth values are 1 and 0; `unless` gives the left number where the right one is 0, else 0.
    """

    name = "binary"

    left: Value
    right: Value
    function: BinaryName

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        left, right = shapes[self.left], shapes[self.right]
        fits = len(left) == len(right) and all(
            a == b or 1 in (a, b) for a, b in zip(left, right, strict=True)
        )
        if not fits:
            raise InputError(
                f"reads shapes {list(left)} and {list(right)}, expected lengths that are the same "
                "or 1."
            )
        return tuple(map(max, left, right))

    def run(self, values: Mapping[Value, Array]) -> Array:
        left, right = values[self.left], values[self.right]
        return np.asarray(_FUNCTIONS[self.function](left, right), left.dtype)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Binary"]:
        names = [name for name in get_args(BinaryName) if name not in ("divide", "power")]
        return random_shape(random), cls(0, 0, names[int(random.integers(len(names)))])


_FUNCTIONS: Mapping[str, Callable[[Array, Array], NDArray[Any]]] = {
    "add": np.add,
    "divide": np.divide,
    "equal": np.equal,
    "less": np.less,
    "less-equal": np.less_equal,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "not-equal": np.not_equal,
    "power": np.power,
    "subtract": np.subtract,
    "unless": lambda left, right: np.where(right == 0, left, 0),
}


def binary(
    call: Call, function: BinaryName, left: str = "self", right: str = "other", first: int = 0
) -> Lowered:
    """Return a function of two values among the arguments of a call, one of them computed."""
    found = operands(call, (left, right), first)
    if found is None:
        return ()
    constants, (one, other) = found
    return (*constants, Binary(one, other, function))


def operands(
    call: Call, names: Sequence[str], first: int = 0, rank: int | None = None
) -> tuple[tuple[Constant, ...], tuple[Value, ...]] | None:
    """Return arguments of a call as values of as many axes, as many as its result has if not said.

    Constants are steps of the call from one on. None if an argument has other axes: PyTorch would
    put the batch of one beside another axis of the other.
    """
    rank = len(call.shape) if rank is None else rank
    given = [one for one in map(call.given, names) if one is not None]
    if not given or any(len(one.shape) != rank for one in given):
        return None
    constants: list[Constant] = []
    values: list[Value] = []
    for name in names:
        computed, numbers = call.given(name), call.constant(name)
        if computed is not None:
            values.append(computed.value)
            continue
        if numbers is not None and numbers.ndim == rank + 1 and len(numbers) == 1:
            numbers = numbers[0]
        if numbers is None or numbers.ndim > rank or not np.isfinite(numbers).all():
            return None
        shape = network_shape((1,) * (rank - numbers.ndim) + numbers.shape)
        values.append(call.step(first + len(constants)))
        constants.append(Constant(given[0].value, numbers.reshape(shape), shape))
    return tuple(constants), tuple(values)


def _binary(function: BinaryName, *, turned: bool = False) -> Rule:
    ends = ("other", "self") if turned else ("self", "other")
    return lambda call: binary(call, function, *ends)


register(
    Binary,
    {
        "maximum": _binary("maximum"),
        "minimum": _binary("minimum"),
        "logical_and": _binary("multiply"),
        "bitwise_and": _binary("multiply"),
        "__and__": _binary("multiply"),
        "logical_or": _binary("maximum"),
        "bitwise_or": _binary("maximum"),
        "__or__": _binary("maximum"),
        "logical_xor": _binary("not-equal"),
        "bitwise_xor": _binary("not-equal"),
        "__xor__": _binary("not-equal"),
    },
)

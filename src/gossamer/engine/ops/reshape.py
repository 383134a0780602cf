"""The same numbers under another shape."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, network_shape, random_shape, register


@dataclass(frozen=True)
class Reshape(Operator):
    """The same numbers in the same order under another shape; flattening, for instance."""

    name = "reshape"

    input: Value
    shape: Shape

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        if math.prod(self.shape) != math.prod(given):
            raise InputError(
                f"shape {list(self.shape)} holds {math.prod(self.shape)} numbers, expected "
                f"{math.prod(given)}, as the value of shape {list(given)} that it reads."
            )
        return self.shape

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        return given.reshape(len(given), *self.shape)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Reshape"]:
        shape = random_shape(random)
        turned = (shape[::-1], (math.prod(shape),), (1, math.prod(shape), 1))
        return shape, cls(0, turned[random.integers(3)])


def _reshape(call: Call) -> Lowered:
    """Return what gives the numbers of a value in the same order; the batch stays the first axis.

    The dimension of the batch is the same before and behind, so that no number changes example.
    """
    given = call.given("self")
    if given is None or math.prod(given.shape) != math.prod(call.shape):
        return ()
    return (Reshape(given.value, network_shape(call.shape)),)


def _moved(call: Call) -> Lowered:
    """Return a transposition that keeps the order of the numbers, as axes of size 1 move."""
    given, rank = call.given("self"), len(call.shape) + 1
    order = list(range(rank))
    if "dims" in call.arguments:
        order = [dim % rank for dim in call.arguments["dims"]]
    else:
        first, second = call.arguments["dim0"] % rank, call.arguments["dim1"] % rank
        order[first], order[second] = second, first
    if given is None or order[0] != 0:
        return ()
    wide = [axis for axis in order if axis and given.shape[axis - 1] > 1]
    return _reshape(call) if wide == sorted(wide) else ()


def _expand(call: Call) -> Lowered:
    given = call.given("self")
    return _reshape(call) if given is not None and given.shape == call.shape else ()


def _slice(call: Call) -> Lowered:
    """Return a slice that takes everything."""
    return _expand(call) if call.arguments["step"] == 1 else ()


def _first(call: Call) -> Lowered:
    return _reshape(call) if call.arguments["index"] == 0 else ()


_NAMES = (
    "flatten", "unflatten", "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "clone",
    "contiguous", "alias", "detach", "to", "_to_copy",
)  # fmt: skip
register(
    Reshape,
    {
        **dict.fromkeys(_NAMES, _reshape),
        "transpose": _moved,
        "permute": _moved,
        "slice": _slice,
        "expand": _expand,
        "getitem": _first,
    },
    row_by_row=("clone", "_to_copy"),
)

"""The same numbers under another shape."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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


def same_numbers(call: Call) -> Lowered:
    """Return the same numbers where another type holds them as they are."""
    given = call.given("self")
    kept = given is not None and (
        given.type == call.type
        or call.type == "float32"
        or (call.type in _WHOLE and given.type in (*_WHOLE, "bool"))
    )
    return _reshape(call) if kept else ()


_NAMES = (
    "flatten", "unflatten", "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "clone",
    "contiguous", "alias", "detach",
)  # fmt: skip
_WHOLE = ("int32", "int64")
_RULES: dict[str, Rule] = dict.fromkeys(_NAMES, _reshape)
register(Reshape, _RULES, row_by_row=("clone",), any_type=_RULES)

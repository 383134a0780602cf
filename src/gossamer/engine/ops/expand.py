"""Axes of length 1 repeated."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.reshape import Reshape


@dataclass(frozen=True)
class Expand(Operator):
    """A value whose axes of length 1 are repeated until it has another shape."""

    name = "expand"

    input: Value
    shape: Shape

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        fits = len(given) == len(self.shape) and all(
            have in (1, want) for have, want in zip(given, self.shape, strict=False)
        )
        if not fits:
            raise InputError(
                f"shape is {list(self.shape)}, expected {list(given)}, that of what it reads, but "
                "where a length is 1."
            )
        return self.shape

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        return np.broadcast_to(given, (len(given), *self.shape))

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Expand"]:
        shape = random_shape(random)
        single = tuple(1 if random.random() < 0.5 else length for length in shape)
        return single, cls(0, shape)


def _expand(call: Call) -> Lowered:
    given = call.given("self")
    if given is None or len(given.shape) != len(call.shape):  # an axis before the batch
        return ()
    if given.shape == call.shape:
        return (Reshape(given.value, network_shape(call.shape)),)
    return (Expand(given.value, network_shape(call.shape)),)


register(Expand, {"expand": _expand}, any_type=("expand",))

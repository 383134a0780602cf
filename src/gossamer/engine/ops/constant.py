"""Numbers that are the same for every example."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.engine.epilogue import expect_shape
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Operator, random_shape, register


@dataclass(frozen=True, eq=False)
class Constant(Operator):
    """The same numbers for every example, such as a class token; of `input` nothing is read."""

    name = "constant"

    input: Value
    numbers: Array
    shape: Shape

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:  # noqa: ARG002
        expect_shape("numbers", self.numbers, self.shape)
        return self.shape

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        return np.broadcast_to(self.numbers.astype(given.dtype), (len(given), *self.shape))

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Constant"]:
        shape = random_shape(random)
        return random_shape(random), cls(0, random.standard_normal(shape).astype("f4"), shape)


register(Constant)

"""The largest or smallest numbers along an axis in their order, or the places where they lie."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Axis, Count, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, Rule, random_shape, register


@dataclass(frozen=True)
class Sort(Operator):
    """So many numbers of those along an axis, in order, from one on; or their places.

    NaN counts as larger than all numbers, and of those alike the first comes first.
    """

    name = "sort"

    input: Value
    axis: Axis
    start: Axis
    length: Count
    descending: bool = False
    places: bool = False

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        expect_axis(given, self.axis)
        if self.start + self.length > given[self.axis]:
            raise InputError(
                f"takes the numbers {self.start} to {self.start + self.length - 1} of those along "
                f"axis {self.axis}, expected fewer than its length, {given[self.axis]}."
            )
        return (*given[: self.axis], self.length, *given[self.axis + 1 :])

    def run(self, values: Mapping[Value, Array]) -> Array:
        given, axis = values[self.input], self.axis + 1
        # What is no number comes last in NumPy; turned round, so that of those alike the last does.
        turned = np.flip(given, axis) if self.descending else given
        order = np.argsort(turned, axis, kind="stable")
        if self.descending:
            order = np.flip(given.shape[axis] - 1 - order, axis)
        chosen = np.take(order, range(self.start, self.start + self.length), axis)
        found: Array = np.take_along_axis(given, chosen, axis)
        return chosen.astype(given.dtype) if self.places else found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Sort"]:
        shape = random_shape(random)
        axis = int(random.integers(len(shape)))
        start = int(random.integers(shape[axis]))
        length = int(random.integers(1, shape[axis] - start + 1))
        descending, places = (bool(one) for one in random.integers(2, size=2))
        return shape, cls(0, axis, start, length, descending, places)

    def drawn(self, random: np.random.Generator, shape: Shape) -> Array:
        return random.integers(-3, 3, shape).astype(np.float64)


def _ranked(call: Call) -> Lowered:
    given = call.given("given")
    axis = None if given is None else given.axis(call.arguments["dim"])
    if given is None or axis is None:
        return ()
    start, length = call.arguments["first"], call.arguments["count"]
    asked = (call.arguments["descending"], call.arguments["places"])
    return (Sort(given.value, axis, start, length, *asked),)


_RULES: dict[str, Rule] = {"gossamer::ranked": _ranked}
register(Sort, _RULES, any_type=_RULES)

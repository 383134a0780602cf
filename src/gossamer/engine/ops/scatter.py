"""Numbers that are put at computed places along an axis."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Axis, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, Rule, random_shape, register
from gossamer.engine.ops.binary import operands
from gossamer.engine.ops.gather import expect_places


@dataclass(frozen=True)
class Scatter(Operator):
    """A value with the numbers of another put at places along an axis, the last of which stays.

    A place that is not there is refused, as is one below 0.
    """

    name = "scatter"

    input: Value
    places: Value
    source: Value
    axis: Axis

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, axis = shapes[self.input], self.axis
        expect_axis(given, axis)
        places = shapes[self.places]
        fits = len(places) == len(given) and all(
            at == axis or length == given[at] for at, length in enumerate(places)
        )
        if not fits:
            raise InputError(
                f"reads shapes {list(given)} and {list(places)}, expected the same lengths along "
                f"all axes but {axis}."
            )
        source = shapes[self.source]
        if len(source) != len(places) or any(
            one not in (1, length) for one, length in zip(source, places, strict=True)
        ):
            raise InputError(
                f"source has the shape {list(source)}, expected {list(places)}, or 1 in it."
            )
        return given

    def run(self, values: Mapping[Value, Array]) -> Array:
        given, places = values[self.input], values[self.places]
        axis = self.axis + 1
        expect_places(places, 0, given.shape[axis])
        found: Array = given.copy()
        source = np.broadcast_to(values[self.source], places.shape)
        for at in range(places.shape[axis]):  # one after the other, as some may be the same
            one = (slice(None),) * axis + (slice(at, at + 1),)
            np.put_along_axis(found, places[one].astype(np.int64), source[one], axis)
        return found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Scatter"]:
        shape = random_shape(random)
        return shape, cls(0, 0, 0, int(random.integers(len(shape))))

    def drawn(self, random: np.random.Generator, shape: Shape) -> Array:
        return random.integers(0, shape[self.axis + 1], shape).astype(np.float64)


def _scattered(call: Call) -> Lowered:
    """Return numbers that are put at as many places, of all numbers along the other axes."""
    places = call.given("index")
    name = "src" if "src" in call.arguments else "value"
    found = operands(call, ("self", "index", name))
    axis = None if places is None else places.axis(call.arguments["dim"])
    if found is None or axis is None or places is None or call.arguments.get("reduce"):
        return ()
    dim = call.arguments["dim"] % (len(call.shape) + 1) - 1
    source = call.given(name)
    if source is not None and source.shape != places.shape:
        return ()  # PyTorch takes its beginning
    whole = [b for at, b in enumerate(places.shape) if at != dim]
    if whole != [a for at, a in enumerate(call.shape) if at != dim]:
        return ()
    constants, (given, at_places, numbers) = found
    return (*constants, Scatter(given, at_places, numbers, axis))


_RULES: dict[str, Rule] = {"scatter": _scattered}
register(Scatter, _RULES, any_type=_RULES)

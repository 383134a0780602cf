"""What lies at computed places along an axis."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Axis, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, Rule, random_shape, register
from gossamer.engine.ops.binary import operands


@dataclass(frozen=True)
class Gather(Operator):
    """For each place, what lies there along an axis of the input.

    Both have as many axes; behind and before that one, each length is the same or 1, which is
    repeated. A place that is not there is refused; those below 0 are if `from_end` is false, and
    otherwise counted from the end, as where PyTorch indexes.
    """

    name = "gather"

    input: Value
    places: Value
    axis: Axis
    from_end: bool = False

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, places, axis = shapes[self.input], shapes[self.places], self.axis
        expect_axis(given, axis)
        fits = len(given) == len(places) and all(
            at == axis or a == b or 1 in (a, b)
            for at, (a, b) in enumerate(zip(given, places, strict=True))
        )
        if not fits:
            raise InputError(
                f"reads shapes {list(given)} and {list(places)}, expected lengths that are the "
                f"same or 1 along all axes but {axis}."
            )
        found = list(map(max, given, places))
        found[axis] = places[axis]
        return tuple(found)

    def run(self, values: Mapping[Value, Array]) -> Array:
        given, places = values[self.input], values[self.places]
        axis = self.axis + 1
        length = given.shape[axis]
        expect_places(places, -length if self.from_end else 0, length)
        shape = list(np.broadcast_shapes(*(_but(one.shape, axis) for one in (given, places))))
        whole = [*shape[:axis], length, *shape[axis + 1 :]]
        chosen = [*shape[:axis], places.shape[axis], *shape[axis + 1 :]]
        counted = np.broadcast_to(places.astype(np.int64) % length, chosen)
        found: Array = np.take_along_axis(np.broadcast_to(given, whole), counted, axis)
        return found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Gather"]:
        shape = random_shape(random)
        return shape, cls(0, 0, int(random.integers(len(shape))), bool(random.integers(2)))

    def drawn(self, random: np.random.Generator, shape: Shape) -> Array:
        length = shape[self.axis + 1]
        least = -length if self.from_end else 0
        return random.integers(least, length, shape).astype(np.float64)


def expect_places(places: Array, least: int, length: int) -> None:
    """Refuse places that are not there.

    Raises
    ------
    InputError
        If one is not whole, below the least, or not below the length of its axis.
    """
    sound = (places >= least) & (places < length) & (places == np.floor(places))
    if not sound.all():
        raise InputError(
            f"a computed place is {places[~sound].ravel()[0]:g}, expected a whole number from "
            f"{least} to {length - 1} along an axis of length {length}."
        )


def _but(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _gathered(call: Call) -> Lowered:
    """Return `gather` of places for each number along the other axes, which PyTorch cuts short."""
    given, places = call.given("self"), call.given("index")
    axis = None if given is None else given.axis(call.arguments["dim"])
    if given is None or places is None or axis is None or len(given.shape) != len(places.shape):
        return ()
    dim = call.arguments["dim"] % (len(given.shape) + 1) - 1
    if any(a != b for at, (a, b) in enumerate(zip(given.shape, places.shape, strict=True))
           if at != dim):  # fmt: skip
        return ()
    return (Gather(given.value, places.value, axis),)


def _chosen(call: Call) -> Lowered:
    """Return what lies at places of each example, of which those below 0 count from the end."""
    found = operands(call, ("given", "places"))
    given = call.given("given") or call.given("places")
    axis = None if given is None else given.axis(call.arguments["dim"])
    if found is None or axis is None:
        return ()
    constants, (value, places) = found
    return (*constants, Gather(value, places, axis, from_end=True))


_RULES: dict[str, Rule] = {"gather": _gathered, "gossamer::at_places": _chosen}
register(Gather, _RULES, any_type=_RULES)

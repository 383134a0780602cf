"""What lies at given places along an axis, in any order and any number of times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import LONGEST, Array, Axis, Indices, Shape, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    Rule,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.reshape import Reshape

Places = Sequence[int] | NDArray[np.signedinteger]


@dataclass(frozen=True)
class Take(Operator):
    """What lies at these places along an axis; a place may be taken more than once."""

    name = "take"

    input: Value
    axis: Axis
    indices: Indices

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, axis = shapes[self.input], self.axis
        expect_axis(given, axis)
        if max(self.indices) >= given[axis]:
            raise InputError(
                f"indices go up to {max(self.indices)}, expected places below the length of axis "
                f"{axis}, {given[axis]}."
            )
        return (*given[:axis], len(self.indices), *given[axis + 1 :])

    def run(self, values: Mapping[Value, Array]) -> Array:
        return np.take(values[self.input], self.indices, axis=self.axis + 1)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Take"]:
        shape = random_shape(random)
        axis = int(random.integers(len(shape)))
        indices = random.integers(0, shape[axis], int(random.integers(1, 6)))
        return shape, cls(0, axis, tuple(map(int, indices)))


def taken(call: Call, value: Value, places: Mapping[int, Places], first: int = 0) -> Lowered:
    """Return what takes places along several axes of a network, as steps of a call from one on."""
    found: list[Operator] = []
    for axis, indices in places.items():
        if not 1 <= len(indices) <= LONGEST:
            return ()
        found.append(Take(value, axis, tuple(map(int, indices))))
        value = call.step(first + len(found) - 1)
    return tuple(found)


def _turned(call: Call) -> Lowered:
    """Return a value whose axes are turned round, or rolled."""
    given, dims = call.given("self"), call.arguments["dims"]
    axes = [] if given is None else [given.axis(dim) for dim in dims]
    if given is None or not axes or None in axes:
        return ()
    shifts = call.arguments.get("shifts")
    size = network_shape(given.shape)
    places: dict[int, Places] = {}
    for number, axis in enumerate(axes):
        assert axis is not None
        along = np.arange(size[axis])
        if axis in places:
            return ()
        places[axis] = np.flip(along) if shifts is None else np.roll(along, shifts[number])
    return taken(call, given.value, places)


def _repeated(call: Call) -> Lowered:
    """Return a value several times along each axis, new axes before it among them."""
    given = call.given("self")
    times = call.arguments["repeats" if "repeats" in call.arguments else "dims"]
    if given is None or not all(isinstance(number, int) for number in times):
        return ()
    times = (1,) * (len(given.shape) + 1 - len(times)) + tuple(times)
    if len(times) != len(given.shape) + 1 or times[0] != 1:  # the batch
        return ()
    places: dict[int, Places] = {}
    for dim, number in enumerate(times[1:], start=1):
        axis = given.axis(dim)
        assert axis is not None
        if number != 1:
            places[axis] = np.tile(np.arange(given.shape[dim - 1]), number)
    return taken(call, given.value, places) or (
        (Reshape(given.value, network_shape(call.shape)),) if not places else ()
    )


def _each_repeated(call: Call) -> Lowered:
    """Return a value of which each number along an axis stands several times."""
    given, dim, times = call.given("self"), call.arguments.get("dim"), call.arguments["repeats"]
    if given is None or dim is None or not isinstance(times, int):
        return ()
    axis = given.axis(dim)
    if axis is None:
        return ()
    size = network_shape(given.shape)[axis]
    return taken(call, given.value, {axis: np.repeat(np.arange(size), times)})


def _indexed(call: Call) -> Lowered:
    """Return what places known in advance give, along one axis."""
    given, index = call.given("self"), call.arguments.get("index")
    if index is not None:
        places = {call.arguments["dim"]: call.constant("index")}
    else:
        listed = call.arguments["indices"]
        places = {dim: one() if callable(one) else one for dim, one in enumerate(listed)}
        places = {dim: found for dim, found in places.items() if found is not None}
    if given is None or len(places) != 1:
        return ()
    ((dim, found),) = places.items()
    axis = given.axis(dim)
    if axis is None or not isinstance(found, np.ndarray) or found.ndim != 1:
        return ()
    size = network_shape(given.shape)[axis]
    return taken(call, given.value, {axis: found.astype(np.int64) % size})


_RULES: dict[str, Rule] = {
    "flip": _turned,
    "roll": _turned,
    "repeat": _repeated,
    "tile": _repeated,
    "repeat_interleave": _each_repeated,
    "index_select": _indexed,
    "index": _indexed,
}
register(Take, _RULES, any_type=_RULES)

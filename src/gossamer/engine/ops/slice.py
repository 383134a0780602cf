"""Part of a value: every so many of what lies along an axis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Axis, Count, Shape, Value
from gossamer.engine.operator import (
    ANY_SIZE,
    Call,
    Lowered,
    Operator,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.reshape import Reshape


@dataclass(frozen=True)
class Slice(Operator):
    """So many of the numbers along an axis, each `step` behind the one before it."""

    name = "slice"

    input: Value
    axis: Axis
    start: Axis
    length: Count
    step: Count = 1

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, axis = shapes[self.input], self.axis
        expect_axis(given, axis)
        last = self.start + (self.length - 1) * self.step
        if last >= given[axis]:
            raise InputError(
                f"goes up to place {last} along axis {axis}, expected one below its length, "
                f"{given[axis]}."
            )
        return (*given[:axis], self.length, *given[axis + 1 :])

    def run(self, values: Mapping[Value, Array]) -> Array:
        before = (slice(None),) * (self.axis + 1)
        end = self.start + (self.length - 1) * self.step + 1
        return values[self.input][(*before, slice(self.start, end, self.step))]

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Slice"]:
        shape = random_shape(random)
        axis = int(random.integers(len(shape)))
        start = int(random.integers(shape[axis]))
        step = int(random.integers(1, 4))
        most = (shape[axis] - start - 1) // step + 1
        return shape, cls(0, axis, start, int(random.integers(1, most + 1)), step)


def _sliced(call: Call) -> Lowered:
    """Return a slice of PyTorch, whose ends may be negative or beyond the axis."""
    given, arguments = call.given("self"), call.arguments
    if given is None:
        return ()
    axis = given.axis(arguments["dim"])
    whole = given.shape == call.shape and arguments["step"] == 1
    if whole and (axis is None or not ANY_SIZE.get()):  # all of it, of the batch as well
        return (Reshape(given.value, network_shape(call.shape)),)
    size = network_shape(given.shape)
    if axis is None or not _is_whole(arguments["start"], arguments["end"]):
        return ()
    places = range(size[axis])[arguments["start"] : arguments["end"] : arguments["step"]]
    return (Slice(given.value, axis, places[0], len(places), places.step),)


def _is_whole(*ends: Any) -> bool:
    return all(end is None or isinstance(end, int) for end in ends)


def _selected(call: Call) -> Lowered:
    """Return what lies at one place of an axis, which goes."""
    given, index = call.given("self"), call.arguments["index"]
    axis = None if given is None else given.axis(call.arguments["dim"])
    if given is None or axis is None or not isinstance(index, int):
        return ()
    place = index % network_shape(given.shape)[axis]
    return (
        Slice(given.value, axis, place, 1),
        Reshape(call.step(0), network_shape(call.shape)),
    )


def _parted(call: Call) -> Lowered:
    """Return a value that is parted along an axis; what takes a part slices it."""
    given = call.given("self")
    if given is None or given.axis(call.arguments.get("dim", 0)) is None:
        return ()
    return (Reshape(given.value, network_shape(given.shape)),)


def _part(call: Call) -> Lowered:
    """Return one of the results of a function that gives several.

    `starts` says where each of the parts of a value that is parted begins; other functions have
    none, and what they are lowered to gives the first.
    """
    given, index, starts = call.given("self"), call.arguments["index"], call.arguments["starts"]
    if given is None:
        return ()
    if starts is None:
        return (Reshape(given.value, network_shape(call.shape)),) if index == 0 else ()
    axis = given.axis(call.arguments["dim"])
    if axis is None:
        return ()
    begin, end = starts[index], [*starts, network_shape(given.shape)[axis]][index + 1]
    return (
        Slice(given.value, axis, begin, end - begin),
        Reshape(call.step(0), network_shape(call.shape)),
    )


PARTING = ("split", "split_with_sizes", "unsafe_split", "chunk", "unbind", "tensor_split")
"""Functions that give a value in parts along an axis."""
register(
    Slice,
    {
        **dict.fromkeys(PARTING, _parted),
        "slice": _sliced,
        "select": _selected,
        "getitem": _part,
    },
    any_type=(*PARTING, "slice", "select", "getitem"),
)

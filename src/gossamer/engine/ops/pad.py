"""Zeros around an image.

The compiled kernels know them as a part of convolutions alone, and `passes` writes them so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gossamer.engine.epilogue import expect_axes
from gossamer.engine.fields import Array, Margins, Pair, Shape, Value
from gossamer.engine.operator import Call, Given, Lowered, Operator, network_shape, register
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.slice import Slice
from gossamer.engine.ops.take import taken


@dataclass(frozen=True)
class Pad(Operator):
    """Zeros before and after an image, along the height and the width."""

    name = "pad"

    input: Value
    before: Margins
    after: Margins

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, before, after = shapes[self.input], self.before, self.after
        expect_axes(given, "channels", "height", "width")
        return (given[0], given[1] + before[0] + after[0], given[2] + before[1] + after[1])

    def run(self, values: Mapping[Value, Array]) -> Array:
        sides = zip(self.before, self.after, strict=True)
        return np.pad(values[self.input], [(0, 0), (0, 0), *sides])

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Pad"]:
        above, left, below, right = map(int, random.integers(0, 4, 4))
        return (2, 3, 4), cls(0, (above, left), (below, right))


def _pad(call: Call) -> Lowered:
    """Return margins of an image or a sequence, or of whatever axis of another value."""
    given, mode = call.given("self"), call.arguments.get("mode", "constant")
    margins = {} if given is None else _margins(call, given)
    if given is None or None in margins:
        return ()
    size = network_shape(given.shape)
    if not margins:
        return (Reshape(given.value, size),)
    if mode != "constant":
        places = {a: _mirrored(mode, size[a], *around) for a, around in margins.items() if a}
        return taken(call, given.value, places) if None not in places else ()
    if call.arguments["value"]:
        return ()
    if 0 in margins or len(size) != 3 or min(map(min, margins.values())) < 0:
        return _each_padded(call, given, margins)
    (above, below), (left, right) = margins.get(1, (0, 0)), margins.get(2, (0, 0))
    return (Pad(given.value, (above, left), (below, right)),)


def _margins(call: Call, given: Given) -> dict[int | None, Pair]:
    """Return by axis how much is added before and behind it; None stands for the batch."""
    flat = call.arguments["pad"]
    sides = [(int(a), int(b)) for a, b in zip(flat[::2], flat[1::2], strict=True)]
    there = [(given.axis(-number), side) for number, side in enumerate(sides, start=1)]
    return {axis: side for axis, side in there if side != (0, 0)}


def _mirrored(mode: str, length: int, before: int, behind: int) -> NDArray[np.int64]:
    """Return which numbers of an axis stand where, with margins of its own numbers."""
    inner = np.arange(length)[max(0, -before) : length + min(0, behind)]
    margins = (max(0, before), max(0, behind))
    if mode == "reflect":
        return np.pad(inner, margins, "reflect")
    return np.pad(inner, margins, "edge" if mode == "replicate" else "wrap")


def _each_padded(call: Call, given: Given, margins: Mapping[int | None, Pair]) -> Lowered:
    """Return margins of one axis after the other, each as the height of an image for a moment."""
    found: list[Operator] = []
    size, value = list(network_shape(given.shape)), given.value
    for axis, (before, behind) in margins.items():
        assert axis is not None
        start, length = max(0, -before), size[axis] + min(0, before) + min(0, behind)
        if length < 1:
            return ()
        image = (math.prod(size[:axis]), length, math.prod(size[axis + 1 :]))
        size[axis] = length + max(0, before) + max(0, behind)
        for operator in (
            partial(Slice, axis=axis, start=start, length=length),
            partial(Reshape, shape=image),
            partial(Pad, before=(max(0, before), 0), after=(max(0, behind), 0)),
            partial(Reshape, shape=tuple(size)),
        ):
            found.append(operator(value))
            value = call.step(len(found) - 1)
    return tuple(found)


register(Pad, {"pad": _pad, "constant_pad_nd": _pad})

"""Zeros around an image.

The compiled kernels know them as a part of convolutions alone, and `passes` writes them so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.engine.epilogue import expect_axes
from gossamer.engine.fields import Array, Margins, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, register


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
    given, margins = call.given("self"), call.arguments["pad"]
    zeros = call.arguments.get("mode", "constant") == "constant" and not call.arguments["value"]
    if given is None or not 2 <= len(given.shape) <= 3 or not zeros or min(margins) < 0:
        return ()
    sides = [(int(a), int(b)) for a, b in zip(margins[::2], margins[1::2], strict=True)]
    while sides and sides[-1] == (0, 0):
        sides.pop()
    if len(sides) >= len(given.shape):  # pads the channels or the batch
        return ()
    width, height = [*sides, (0, 0), (0, 0)][:2]
    return (Pad(given.value, (height[0], width[0]), (height[1], width[1])),)


register(Pad, {"pad": _pad, "constant_pad_nd": _pad})

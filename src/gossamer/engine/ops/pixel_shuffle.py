"""Channels as pixels: each block of channels becomes one of pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axes
from gossamer.engine.fields import Array, Shape, Sizes, Value
from gossamer.engine.operator import Call, Lowered, Operator, register


@dataclass(frozen=True)
class PixelShuffle(Operator):
    """Every `block` height x `block` width channels that follow each other as pixels of one.

    The first of them is the upper left pixel of each block, the next the one to its right. As
    PyTorch's `pixel_shuffle`, along the height and the width each by its own factor.
    """

    name = "pixel_shuffle"

    input: Value
    block: Sizes

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        expect_axes(given, "channels", "height", "width")
        if given[0] % prod(self.block):
            raise InputError(
                f"block is {self.block}, expected a divisor of the {given[0]} channels that it "
                "reads."
            )
        high, wide = self.block
        return (given[0] // prod(self.block), given[1] * high, given[2] * wide)

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        (examples, channels, height, width), (high, wide) = given.shape, self.block
        parted = given.reshape(examples, channels // (high * wide), high, wide, height, width)
        moved = parted.transpose(0, 1, 4, 2, 5, 3)
        return moved.reshape(examples, -1, height * high, width * wide)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "PixelShuffle"]:
        channels, high, wide, height, width = map(int, random.integers(1, 4, 5))
        return (channels * high * wide, height, width), cls(0, (high, wide))


def _pixel_shuffle(call: Call) -> Lowered:
    given, factor = call.given("self"), call.arguments["upscale_factor"]
    if given is None or len(given.shape) != 3:
        return ()
    return (PixelShuffle(given.value, (factor, factor)),)


register(PixelShuffle, {"pixel_shuffle": _pixel_shuffle})

"""Products of weights and windows of an image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import NOTHING, Epilogue, expect_axes, expect_shape
from gossamer.engine.fields import Array, Count, Margins, Pair, Shape, Sizes, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    network_shape,
    pair,
    register,
    register_rules,
)
from gossamer.engine.ops.pad import Pad
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.take import taken
from gossamer.engine.weights import (
    BLOCK_ROWS,
    Weights,
    dense,
    expect_columns,
    parts,
    random_weights,
    unpack_rows,
)
from gossamer.engine.windows import padded, padded_numbers, placed, windows


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """A cross-correlation with zeros around, as PyTorch's `conv2d`.

    The bias is [channels out], or [channels out, height, width] of the sums before pooling, where
    it depends on the position.
    """

    name = "convolution"

    input: Value
    weights: Weights
    kernel: Sizes
    stride: Sizes = (1, 1)
    padding: Margins = (0, 0)
    dilation: Sizes = (1, 1)
    groups: Count = 1
    bias: Array | None = None
    epilogue: Epilogue = NOTHING

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        expect_axes(given, "channels", "height", "width")
        self._check_groups(given[0])
        expect_columns(self.weights, given[0] // self.groups * math.prod(self.kernel))
        padded_numbers(given, self.padding)
        sums = self._sums(given)
        expect_shape("bias", self.bias, sums[:1], sums)
        return self.epilogue.infer_shape(sums, shapes)

    def held(self, shapes: Mapping[Value, Shape]) -> int:
        given, pooling = shapes[self.input], self.epilogue.pooling
        pooled = 0
        if pooling is not None:
            sums = self._sums(given)
            pooled = math.prod(sums) + pooling.held(sums)
        return padded_numbers(given, self.padding) + pooled

    def run(self, values: Mapping[Value, Array]) -> Array:
        """Multiply the windows, as columns, by the weights: strip by strip, group by group."""
        given, weights, groups = values[self.input], self.weights, self.groups
        seen = windows(padded(given, self.padding), self.kernel, self.stride, self.dilation)
        examples, channels, height, width = seen.shape[:4]
        sums = np.empty((examples, weights.rows, height, width), given.dtype)
        rows, inputs = weights.rows // groups, channels // groups
        for top, bottom in parts(height, examples * weights.columns * width):
            for group in range(groups):
                strip = seen[:, group * inputs : (group + 1) * inputs, top:bottom]
                columns = strip.transpose(0, 1, 4, 5, 2, 3).reshape(examples, weights.columns, -1)
                for start, stop in parts(rows, weights.columns):
                    here = slice(group * rows + start, group * rows + stop)
                    matrix = unpack_rows(weights, here.start, here.stop, given.dtype)
                    products = np.matmul(matrix, columns)
                    sums[:, here, top:bottom] = products.reshape(examples, -1, bottom - top, width)
        if self.bias is not None:
            bias = self.bias.astype(given.dtype)
            sums += bias if bias.ndim == 3 else bias[:, None, None]
        return self.epilogue.run(sums, values)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Convolution"]:
        channels, groups, *kernel = map(int, random.integers(1, 4, 4))
        weights, bias = random_weights(random, channels * math.prod(kernel), 4 * groups)
        epilogue = Epilogue.sampled(random, len(bias), pooled=True)
        size = (kernel[0], kernel[1])
        operator = cls(0, weights, size, (1, 2), (1, 0), (1, 1), groups, bias, epilogue)
        return (channels * groups, kernel[0] + 2, kernel[1] + 2), operator

    def _sums(self, given: Shape) -> Shape:
        found = placed(given[1:], self.kernel, self.stride, self.padding, self.dilation)
        return (self.weights.rows, *found)

    def _check_groups(self, channels: int) -> None:
        rows, groups = self.weights.rows, self.groups
        if channels % groups:
            raise InputError(
                f"groups is {groups}, expected a divisor of the {channels} channels that it reads."
            )
        if rows % groups:
            raise InputError(f"weights have {rows} rows, expected a multiple of groups, {groups}.")
        if self.weights.layout == "block" and groups > 1 and rows // groups % BLOCK_ROWS:
            raise InputError(
                f"weights of layout block have {rows // groups} rows a group, expected a multiple "
                f"of {BLOCK_ROWS}, so that no block spans two groups."
            )


def _convolution(call: Call) -> Lowered:
    weight, given = call.constant("weight"), call.given("input")
    if weight is None or given is None or len(given.shape) != weight.ndim - 1:
        return ()
    kernel = pair(weight.shape[2:])
    dilation = pair(call.arguments["dilation"])
    before, after = _margins(call.arguments["padding"], kernel, dilation)
    even = before == after
    convolution = Convolution(
        given.value if even else call.step(0),
        dense(weight.reshape(len(weight), -1)),
        kernel,
        pair(call.arguments["stride"]),
        before if even else (0, 0),
        dilation,
        call.arguments["groups"],
        call.constant("bias"),
    )
    return (convolution,) if even else (Pad(given.value, before, after), convolution)


def _margins(padding: str | Sequence[int], kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Return how many zeros a convolution puts before and behind its input."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        totals = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1))
        before = (totals[0] // 2, totals[1] // 2)
        return before, (totals[0] - before[0], totals[1] - before[1])
    both = pair(padding, fill=0)
    return both, both


def _windows(call: Call) -> Lowered:
    """Return what each window of an image holds, as `unfold` puts it under its channel."""
    given = call.given("self")
    if given is None or len(given.shape) != 3:
        return ()
    kernel, stride, margin, dilation = (
        tuple(call.arguments[name]) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    channels, *size = given.shape
    along = []
    for length, taps, step, around, apart in zip(
        size, kernel, stride, margin, dilation, strict=True
    ):
        windows = (length + 2 * around - apart * (taps - 1) - 1) // step + 1
        along.append(np.arange(taps)[:, None] * apart + np.arange(windows) * step)
    rows, columns = along
    tall, wide = (length + 2 * around for length, around in zip(size, margin, strict=True))
    places = rows[:, None, :, None] * wide + columns[None, :, None, :]
    found = taken(call, call.step(1), {2: places.reshape(-1)}, 2)
    return found and (
        Pad(given.value, margin, margin),
        Reshape(call.step(0), (channels, 1, tall * wide)),
        *found,
        Reshape(call.step(2), network_shape(call.shape)),
    )


register(Convolution, {"conv1d": _convolution, "conv2d": _convolution})
register_rules({"im2col": _windows}, any_type=("im2col",), of="Convolution")

"""Windows over images: how many there are, what they see, and their largest or mean number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.fields import MOST_NUMBERS, Array, Margins, Pair, Shape, Sizes


@dataclass(frozen=True)
class Pooling:
    """Max or average over windows, as in PyTorch's `max_pool2d` and `avg_pool2d`.

    `counts_padding` says whether an average divides by the whole window at the border
    (`count_include_pad`); `dilation` is for the maximum alone.
    """

    kind: Literal["max", "average"]
    kernel: Sizes
    stride: Sizes
    padding: Margins = (0, 0)
    dilation: Sizes = (1, 1)
    ceil: bool = False
    counts_padding: bool = True

    def infer_shape(self, shape: Shape) -> Shape:
        """Return the shape of the result for an image.

        Raises
        ------
        InputError
            If it is no image, or the windows do not fit it.
        """
        if self.kind == "average" and self.dilation != (1, 1):
            raise InputError("pooling dilation is for max only, expected (1, 1).")
        if any(2 * self.padding[axis] > self.kernel[axis] for axis in (0, 1)):
            raise InputError(
                f"pooling padding is {self.padding}, expected at most half of the kernel, "
                f"{self.kernel}."
            )
        found = placed(shape[1:], self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        padded_numbers(shape, self.padding)
        return (shape[0], *found)

    def held(self, shape: Shape) -> int:
        """Return how many numbers are held beside an image of a shape and the result."""
        return padded_numbers(shape, self.padding)

    def run(self, given: Array) -> Array:
        """Pool images [N, channels, height, width]."""
        size = cast("Pair", given.shape[2:])
        found = window_positions(
            size, self.kernel, self.stride, self.padding, self.dilation, self.ceil
        )
        behind = [
            max(0, self._end(axis, found[axis]) - size[axis] - self.padding[axis])
            for axis in (0, 1)
        ]
        filling = -np.inf if self.kind == "max" else 0.0
        pooled = padded(given, self.padding, filling, (behind[0], behind[1]))
        # A maximum or a sum over windows is one along the height, and then one along the width.
        for axis in (0, 1):
            pooled = self._along(pooled, axis, found[axis])
        if self.kind == "max":
            return pooled
        counts = np.outer(*(self._counts(axis, size[axis], found[axis]) for axis in (0, 1)))
        return cast("Array", pooled / counts.astype(given.dtype))

    @classmethod
    def sampled(cls, random: np.random.Generator) -> "Pooling":
        """Return one with random fields for images of 5 to 6 pixels, for a test."""
        ceil, counts = (bool(flag) for flag in random.integers(0, 2, 2))
        size = (2, int(random.integers(2, 4)))
        return cls(
            "max" if random.random() < 0.5 else "average",
            size,
            (2, 1),
            (1, 0),
            (1, 1),
            ceil,
            counts,
        )

    def _along(self, padded: Array, axis: int, count: int) -> Array:
        """Take the maximum or the sum of all windows along the height (axis 0) or the width."""
        combine = np.maximum if self.kind == "max" else np.add
        stride, dilation = self.stride[axis], self.dilation[axis]
        moved = np.moveaxis(padded, 2 + axis, 0)
        reach = stride * (count - 1) + 1
        found = moved[:reach:stride].copy()
        for first in range(dilation, self.kernel[axis] * dilation, dilation):
            combine(found, moved[first : first + reach : stride], out=found)
        return np.moveaxis(found, 0, 2 + axis)

    def _end(self, axis: int, count: int) -> int:
        """Where the last of the windows ends, in numbers from the first pixel of the image."""
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (count - 1) * self.stride[axis] + reach - self.padding[axis]

    def _counts(self, axis: int, size: int, count: int) -> NDArray[np.int64]:
        """By how many pixels along one axis an average divides, for each window.

        A window never counts what `ceil` adds behind the padding.
        """
        starts = np.arange(count) * self.stride[axis] - self.padding[axis]
        ends = np.minimum(starts + self.kernel[axis], size + self.padding[axis])
        if self.counts_padding:
            return ends - starts
        return np.minimum(ends, size) - np.maximum(starts, 0)


def window_positions(
    size: Sequence[int],
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    ceil: bool = False,
) -> Pair:
    """Return how many windows fit along the height and the width, as PyTorch counts them.

    Examples
    --------
    >>> window_positions((28, 28), (3, 3), (2, 2), (1, 1))
    (14, 14)
    """
    found = []
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        room = size[axis] + 2 * padding[axis] - reach
        steps = -(-room // stride[axis]) if ceil else room // stride[axis]
        # A last window that would begin in the padding behind the end is left out.
        if ceil and steps * stride[axis] >= size[axis] + padding[axis]:
            steps -= 1
        found.append(steps + 1)
    return found[0], found[1]


def placed(
    size: Sequence[int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil: bool = False,
) -> Pair:
    """Return how many windows fit, one at least along each axis.

    Raises
    ------
    InputError
        If none fits, or the kernel is wider than the image with its padding.
    """
    found = window_positions(size, kernel, stride, padding, dilation, ceil)
    for axis, side in ((0, "height"), (1, "width")):
        if found[axis] < 1:
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            raise InputError(
                f"kernel reaches over {reach} pixels along the {side}, expected at most "
                f"{size[axis] + 2 * padding[axis]}, the padded {side}."
            )
    return found


def padded_numbers(shape: Shape, padding: Pair) -> int:
    """Return how many numbers an image takes beside itself once it has its padding.

    Raises
    ------
    InputError
        If they are too many.
    """
    if padding == (0, 0):
        return 0
    wider = (shape[0], shape[1] + 2 * padding[0], shape[2] + 2 * padding[1])
    if math.prod(wider) > MOST_NUMBERS:
        raise InputError(
            f"the padded input has shape {list(wider)}, expected at most {MOST_NUMBERS} numbers "
            "an example."
        )
    return math.prod(wider)


def padded(given: Array, padding: Pair, filling: float = 0.0, behind: Pair = (0, 0)) -> Array:
    """Return images with `padding` on all sides and some more behind the end."""
    if padding == behind == (0, 0):
        return given
    high, wide = padding
    margins = ((0, 0), (0, 0), (high, high + behind[0]), (wide, wide + behind[1]))
    return np.pad(given, margins, constant_values=filling)


def windows(given: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """View images as windows, [N, channels, height, width, kernel height, kernel width]."""
    reach = tuple(dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1))
    found = sliding_window_view(given, reach, axis=(2, 3))
    return found[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]

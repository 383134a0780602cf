"""Zeros around images, and the weights of convolutions that read nothing else."""

from dataclasses import replace

import numpy as np

from gossamer.engine.fields import Shape
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.pad import Pad
from gossamer.engine.weights import dense


def padded_by(convolution: Convolution, pad: Pad) -> Convolution | None:
    """Return the convolution that pads by itself; uneven margins are zeros in its kernel."""
    kernel = convolution.kernel
    before = [pad.before[axis] + convolution.padding[axis] for axis in (0, 1)]
    after = [pad.after[axis] + convolution.padding[axis] for axis in (0, 1)]
    padding = [max(pair) for pair in zip(before, after, strict=True)]
    dilation = [1 if kernel[axis] == 1 else convolution.dilation[axis] for axis in (0, 1)]
    missing = [(padding[axis] - before[axis], padding[axis] - after[axis]) for axis in (0, 1)]
    if any(gap % dilation[axis] for axis in (0, 1) for gap in missing[axis]):
        return None
    zeros = [(0, 0), (0, 0)] + [
        (missing[axis][0] // dilation[axis], missing[axis][1] // dilation[axis]) for axis in (0, 1)
    ]
    rows = convolution.weights.rows
    weight = np.pad(convolution.weights.values.reshape(rows, -1, *kernel), zeros)
    return replace(
        convolution,
        input=pad.input,
        weights=dense(weight.reshape(rows, -1)),
        kernel=(weight.shape[2], weight.shape[3]),
        padding=(padding[0], padding[1]),
        dilation=(dilation[0], dilation[1]),
    )


def without_far_taps(convolution: Convolution, shape: Shape) -> Convolution | None:
    """Drop the outer weights of a wide dilation that read nothing but zeros; None if there is none.

    `shape` is that of what the convolution reads.
    """
    height, width = shape[1:]
    taken = (_far(convolution, 0, height), _far(convolution, 1, width))
    if not any(taken):
        return None
    kernel, padding = list(convolution.kernel), list(convolution.padding)
    inner = []
    for axis in (0, 1):
        inner.append(slice(taken[axis], kernel[axis] - taken[axis]))
        kernel[axis] -= 2 * taken[axis]
        padding[axis] -= convolution.dilation[axis] * taken[axis]
    rows = convolution.weights.rows
    weight = convolution.weights.values.reshape(rows, -1, *convolution.kernel)[
        :, :, inner[0], inner[1]
    ]
    return replace(
        convolution,
        weights=dense(np.ascontiguousarray(weight).reshape(rows, -1)),
        kernel=(kernel[0], kernel[1]),
        padding=(padding[0], padding[1]),
    )


def _far(convolution: Convolution, axis: int, size: int) -> int:
    """Return how many weights at either end of a kernel never reach the image along an axis."""
    kernel, stride = convolution.kernel[axis], convolution.stride[axis]
    padding, dilation = convolution.padding[axis], convolution.dilation[axis]
    last = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride * stride
    found = 0
    while kernel - 2 * found >= 3 and padding - found * dilation >= dilation:
        first_reads = last - padding + found * dilation  # at most, by the last output
        last_reads = (kernel - 1 - found) * dilation - padding  # at least, by the first output
        if first_reads >= 0 or last_reads < size:
            break
        found += 1
    return found

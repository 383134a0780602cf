"""Transposed convolutions, as convolutions whose channels become pixels.

With a stride of s, the outputs at every s-th place are a convolution of the input with every s-th
weight. All of them together are one convolution of s times as many channels along each axis, and no
number is multiplied with the zeros that the definition puts between the inputs.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from gossamer.engine.fields import Array, Doubles, Pair, Value
from gossamer.engine.operator import Call, Lowered, Operator, network_shape, pair, register_rules
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.pad import Pad
from gossamer.engine.ops.pixel_shuffle import PixelShuffle
from gossamer.engine.ops.slice import Slice
from gossamer.engine.weights import dense


@dataclass(frozen=True, eq=False)
class _Along:
    """One axis of a transposed convolution.

    `taps` [stride, kernel of the convolution] says which of its weights each of the outputs of a
    block reads where, -1 for none. The convolution gives `blocks`, from an input of which `before`
    and `after` numbers are added at the ends, or left out where they are negative.
    """

    taps: Array
    blocks: int
    before: int
    after: int


def _along(size: int, result: int, kernel: int, stride: int, padding: int, dilation: int) -> _Along:
    """Return how an axis is computed: output o adds input i times the weight o + padding - s i."""
    reads = {
        (phase, (phase + padding - tap * dilation) // stride): tap
        for phase in range(stride)
        for tap in range(kernel)
        if (phase + padding - tap * dilation) % stride == 0
    }
    first, last = min(near for _, near in reads), max(near for _, near in reads)
    taps = np.full((stride, last - first + 1), -1)
    for (phase, near), tap in reads.items():
        taps[phase, near - first] = tap
    blocks = -(-result // stride)
    return _Along(taps, blocks, -first, blocks - 1 + last - (size - 1))


def _weights(weight: Doubles, groups: int, high: _Along, wide: _Along) -> Doubles:
    """Return the weights of the convolution [rows, columns] from those that PyTorch holds."""
    inputs, outputs = weight.shape[:2]
    padded = np.pad(weight, [(0, 0), (0, 0), (0, 1), (0, 1)])  # the place of no weight
    picked = padded[:, :, high.taps[:, None, :, None], wide.taps[None, :, None, :]]
    parted = picked.reshape(groups, inputs // groups, outputs, *picked.shape[2:])
    # Group, output and its place in the block; input, row and column of the kernel.
    moved = parted.transpose(0, 2, 3, 4, 1, 5, 6)
    rows = groups * outputs * len(high.taps) * len(wide.taps)
    return moved.reshape(rows, -1)


def _fitted(call: Call, value: Value, high: _Along, wide: _Along, size: Pair) -> list[Operator]:
    """Return what leaves out and adds what the convolution does not read, and reads zeros for."""
    found: list[Operator] = []
    for axis, along, length in ((1, high, size[0]), (2, wide, size[1])):
        start, left = max(0, -along.before), length + min(0, along.before) + min(0, along.after)
        if left < 1:
            return []
        if left != length:
            found.append(Slice(value, axis, start, left))
            value = call.step(len(found) - 1)
    before = (max(0, high.before), max(0, wide.before))
    after = (max(0, high.after), max(0, wide.after))
    return [*found, Pad(value, before, after)]


def _transposed(call: Call) -> Lowered:
    weight, given = call.constant("weight"), call.given("input")
    if weight is None or given is None or len(given.shape) != weight.ndim - 1 or weight.ndim > 4:
        return ()
    size, result = network_shape(given.shape)[1:], network_shape(call.shape)[1:]
    weight = weight if weight.ndim == 4 else weight[:, :, None]
    stride, dilation = pair(call.arguments["stride"]), pair(call.arguments["dilation"])
    padding, groups = pair(call.arguments["padding"], fill=0), call.arguments["groups"]
    high, wide = (
        _along(size[a], result[a], weight.shape[2 + a], stride[a], padding[a], dilation[a])
        for a in (0, 1)
    )
    found = _fitted(call, given.value, high, wide, (size[0], size[1]))
    if not found:  # nothing of the input is read
        return ()
    bias, last = call.constant("bias"), len(found) - 1
    convolution = Convolution(
        call.step(last),
        dense(_weights(weight, groups, high, wide)),
        (high.taps.shape[1], wide.taps.shape[1]),
        groups=groups,
        bias=None if bias is None else np.repeat(bias, prod(stride)),
    )
    found += [convolution, PixelShuffle(call.step(last + 1), stride)]
    for axis, along, length in ((1, high, result[0]), (2, wide, result[1])):
        if along.blocks * stride[axis - 1] != length:
            found.append(Slice(call.step(len(found) - 1), axis, 0, length))
    return tuple(found)


register_rules({"conv_transpose1d": _transposed, "conv_transpose2d": _transposed})

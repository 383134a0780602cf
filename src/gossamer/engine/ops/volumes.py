"""Three-dimensional convolutions and poolings, as those of images.

The planes of a volume are channels of one image. A convolution of volumes then is one of images
whose weights stand once for each plane of the result, with zeros for the planes that it does not
read; a pooling is one of each plane, and then one of what lies behind each other.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from gossamer.engine.fields import Doubles
from gossamer.engine.operator import Call, Lowered, register_rules
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.pool import Pool
from gossamer.engine.ops.resample import adaptive_mean
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.weights import dense
from gossamer.engine.windows import Pooling

_MOST_WEIGHTS = 2**24
"""Of a convolution of volumes, zeros included: 128 MiB while it is folded."""


def _three(numbers: Any) -> tuple[int, int, int]:
    """Return sizes along depth, height and width."""
    found = [int(number) for number in numbers] * (3 if len(numbers) == 1 else 1)
    return found[0], found[1], found[2]


def _convolution(call: Call) -> Lowered:
    weight, given = call.constant("weight"), call.given("input")
    padding = call.arguments["padding"]
    if weight is None or given is None or len(given.shape) != 4 or isinstance(padding, str):
        return ()
    stride, dilation = _three(call.arguments["stride"]), _three(call.arguments["dilation"])
    margin, groups = _three(padding), call.arguments["groups"]
    planes = (given.shape[1], call.shape[1])
    if weight.size // weight.shape[2] * planes[0] * planes[1] > _MOST_WEIGHTS:
        return ()
    matrix = _by_planes(weight, planes, (stride[0], margin[0], dilation[0]))
    bias = call.constant("bias")
    return (
        Reshape(given.value, (given.shape[0] * planes[0], *given.shape[2:])),
        Convolution(
            call.step(0),
            dense(matrix),
            (weight.shape[3], weight.shape[4]),
            stride[1:],
            margin[1:],
            dilation[1:],
            groups,
            None if bias is None else np.repeat(bias, planes[1]),
        ),
        Reshape(call.step(1), call.shape),
    )


def _by_planes(weight: Doubles, planes: tuple[int, int], along: Sequence[int]) -> Doubles:
    """Return weights [outputs x planes, inputs x planes x height x width of the kernel].

    `planes` are those that are read and given, `along` the stride, padding and dilation there.
    """
    rows, inputs, depth, high, wide = weight.shape
    stride, margin, dilation = along
    found = np.zeros((rows, planes[1], inputs, planes[0], high, wide))
    for plane in range(planes[1]):
        for tap in range(depth):
            read = plane * stride - margin + tap * dilation
            if 0 <= read < planes[0]:
                found[:, plane, :, read] = weight[:, :, tap]
    return found.reshape(rows * planes[1], inputs * planes[0] * high * wide)


def _pool(call: Call, kind: Literal["max", "average"]) -> Lowered:
    given, arguments = call.given("self"), call.arguments
    if given is None or len(given.shape) != 4 or arguments.get("divisor_override") is not None:
        return ()
    kernel = _three(arguments["kernel_size"])
    stride = _three(arguments["stride"] or kernel)
    margin, dilation = _three(arguments["padding"]), _three(arguments.get("dilation", (1,)))
    options = (bool(arguments["ceil_mode"]), bool(arguments.get("count_include_pad", True)))
    channels, depth, height, width = given.shape
    _, planes, high, wide = call.shape
    flat = Pooling(kind, kernel[1:], stride[1:], margin[1:], dilation[1:], *options)
    deep = Pooling(kind, (kernel[0], 1), (stride[0], 1), (margin[0], 0), (dilation[0], 1), *options)
    return (
        Reshape(given.value, (channels * depth, height, width)),
        Pool(call.step(0), flat),
        Reshape(call.step(1), (channels, depth, high * wide)),
        Pool(call.step(2), deep),
        Reshape(call.step(3), (channels, planes, high, wide)),
    )


def _adaptive_mean(call: Call) -> Lowered:
    given = call.given("self")
    return () if given is None or len(given.shape) != 4 else adaptive_mean(call, given)


register_rules(
    {
        "conv3d": _convolution,
        "max_pool3d": partial(_pool, kind="max"),
        "max_pool3d_with_indices": partial(_pool, kind="max"),
        "avg_pool3d": partial(_pool, kind="average"),
        "adaptive_avg_pool3d": _adaptive_mean,
        "_adaptive_avg_pool3d": _adaptive_mean,
    }
)

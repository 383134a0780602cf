"""Which windows poolings and reductions over places look at."""

import math
from collections.abc import Mapping

import numpy as np

from gossamer.compression.lowering.calls import Call, Lowered, Rule, pair
from gossamer.compression.lowering.operations import Affine, Operation, Pool, Reshape, network_shape
from gossamer.kernels.network import Pooling


def _max_pool(call: Call) -> Lowered:
    kernel = call.arguments["kernel_size"]
    pooling = Pooling(
        "max",
        pair(kernel),
        pair(call.arguments["stride"] or kernel),
        pair(call.arguments["padding"], fill=0),
        pair(call.arguments["dilation"]),
        bool(call.arguments["ceil_mode"]),
    )
    return _pooled(call, pooling)


def _average_pool(call: Call) -> Lowered:
    if call.arguments.get("divisor_override") is not None:
        return ()
    kernel = call.arguments["kernel_size"]
    pooling = Pooling(
        "average",
        pair(kernel),
        pair(call.arguments["stride"] or kernel),
        pair(call.arguments["padding"], fill=0),
        ceil=bool(call.arguments["ceil_mode"]),
        counts_padding=bool(call.arguments["count_include_pad"]),
    )
    return _pooled(call, pooling)


def _adaptive_max_pool(call: Call) -> Lowered:
    return _adaptive_pool(call, maximum=True)


def _adaptive_average_pool(call: Call) -> Lowered:
    return _adaptive_pool(call, maximum=False)


def _adaptive_pool(call: Call, *, maximum: bool) -> Lowered:
    shape = call.shape("self")
    if shape is None or len(shape) < 2:
        return ()
    size, target = network_shape(shape)[1:], pair(call.arguments["output_size"])
    if any(have % want for have, want in zip(size, target, strict=True)):
        return ()  # the windows would differ in size
    window = (size[0] // target[0], size[1] // target[1])
    return _pooled(call, Pooling("max" if maximum else "average", window, window))


def _pooled(call: Call, pooling: Pooling) -> Lowered:
    shape = call.shape("self")
    if shape is None or len(shape) < 2:
        return ()
    return (Pool(call.name("self"), pooling),)


def _mean(call: Call) -> Lowered:
    return _reduced(call, maximum=False, total=False)


def _sum(call: Call) -> Lowered:
    return _reduced(call, maximum=False, total=True)


def _amax(call: Call) -> Lowered:
    return _reduced(call, maximum=True, total=False)


def _reduced(call: Call, *, maximum: bool, total: bool) -> Lowered:
    """Return a reduction over whole axes of an image or a sequence as one pooling."""
    shape, dims = call.shape("self"), call.arguments["dim"]
    if shape is None or not dims:
        return ()
    rank = len(shape) + 1
    axes = {dim % rank for dim in dims}
    if min(axes) < 2:  # the batch, or the channels
        return ()
    size = [shape[axis - 1] if axis in axes else 1 for axis in range(2, rank)]
    window = pair(size)
    operations: list[Operation] = [
        Pool(call.name("self"), Pooling("max" if maximum else "average", window, window))
    ]
    if total:
        channels, places = shape[0], math.prod(size)
        operations.append(
            Affine(call.step(0), np.full(channels, float(places)), np.zeros(channels))
        )
    last = call.step(len(operations) - 1)
    return (*operations, Reshape(last, network_shape(call.shapes[call.node])))


RULES: Mapping[str, Rule] = {
    "max_pool1d": _max_pool,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool1d": _average_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool1d": _adaptive_average_pool,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "_adaptive_avg_pool2d": _adaptive_average_pool,
    "adaptive_max_pool1d": _adaptive_max_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
    "mean": _mean,
    "sum": _sum,
    "amax": _amax,
}

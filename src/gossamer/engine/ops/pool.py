"""The largest or the mean number of each window."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from gossamer.engine.epilogue import expect_axes
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import (
    ANY_SIZE,
    Call,
    Given,
    Lowered,
    Operator,
    network_shape,
    pair,
    register,
)
from gossamer.engine.ops.function import MOST_WHOLE
from gossamer.engine.ops.reduce import ReductionName, reduced
from gossamer.engine.ops.resample import adaptive_mean, adaptive_windows
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.take import taken
from gossamer.engine.windows import Pooling


@dataclass(frozen=True)
class Pool(Operator):
    """A pooling on its own."""

    name = "pool"

    input: Value
    pooling: Pooling

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        expect_axes(shapes[self.input], "channels", "height", "width")
        return self.pooling.infer_shape(shapes[self.input])

    def held(self, shapes: Mapping[Value, Shape]) -> int:
        return self.pooling.held(shapes[self.input])

    def run(self, values: Mapping[Value, Array]) -> Array:
        return self.pooling.run(values[self.input])

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Pool"]:
        return (2, 5, 6), cls(0, Pooling.sampled(random))


def _windowed(call: Call, kind: Literal["max", "average"]) -> Lowered:
    given = call.arguments
    if given.get("divisor_override") is not None:
        return ()
    kernel = given["kernel_size"]
    pooling = Pooling(
        kind,
        pair(kernel),
        pair(given["stride"] or kernel),
        pair(given["padding"], fill=0),
        pair(given.get("dilation", (1,))),
        bool(given["ceil_mode"]),
        bool(given.get("count_include_pad", True)),
    )
    return _pooled(call, pooling)


def _adaptive_pool(call: Call, kind: Literal["max", "average"]) -> Lowered:
    given = call.given("self")
    if given is None or not 2 <= len(given.shape) <= 3:
        return ()
    size, target = network_shape(given.shape)[1:], network_shape(call.shape)[1:]
    even = all(have % want == 0 for have, want in zip(size, target, strict=True))
    if even and (set(target) == {1} or not ANY_SIZE.get()):
        window = (size[0] // target[0], size[1] // target[1])
        return _pooled(call, Pooling(kind, window, window))
    if kind == "average":
        return adaptive_mean(call, given)
    return _adaptive_maximum(call, given, size, target)


def _adaptive_maximum(call: Call, given: Given, size: Shape, target: Shape) -> Lowered:
    """Return the largest of windows that differ in size by one, the smaller with a number twice."""
    places, window = {}, [1, 1]
    for axis in (0, 1):
        ends = adaptive_windows(size[axis], target[axis])
        window[axis] = max(end - begin for begin, end in ends)
        places[axis + 1] = np.concatenate(
            [np.minimum(begin + np.arange(window[axis]), end - 1) for begin, end in ends]
        )
    found = taken(call, given.value, places)
    kernel = (window[0], window[1])
    return found and (*found, Pool(call.step(len(found) - 1), Pooling("max", kernel, kernel)))


def _pooled(call: Call, pooling: Pooling) -> Lowered:
    given = call.given("self")
    if given is None or not 2 <= len(given.shape) <= 3:
        return ()
    return (Pool(given.value, pooling),)


def _reduced(call: Call, kind: Literal["max", "average"], *, total: bool = False) -> Lowered:
    """Return a reduction over whole axes of an image or a sequence as one pooling."""
    given, dims = call.given("self"), call.arguments["dim"]
    if kind == "average" and given is not None and not _adds_up(call, given):
        return ()
    rank = 0 if given is None else len(given.shape) + 1
    axes = {dim % rank for dim in dims or ()}
    # A sum is not a mean times a number, which would round what is whole.
    if total or given is None or len(given.shape) > 3 or not axes or min(axes) < 2:
        names: dict[str, ReductionName] = {"max": "maximum", "average": "mean"}
        return reduced(call, "sum" if total else names[kind])
    size = [given.shape[axis - 1] if axis in axes else 1 for axis in range(2, rank)]
    window = pair(size)
    return (
        Pool(given.value, Pooling(kind, window, window)),
        Reshape(call.step(0), network_shape(call.shape)),
    )


def _adds_up(call: Call, given: Given) -> bool:
    """Tell whether sums are those of float32: of real numbers, or of so few truth values."""
    if given.type == "float32" or call.type == "float32":
        return call.type == given.type
    # What whole numbers come to has been looked at.
    return given.type != "bool" or math.prod(given.shape) <= MOST_WHOLE


_MAXIMA = ("max_pool1d", "max_pool2d", "max_pool2d_with_indices")
_AVERAGES = ("avg_pool1d", "avg_pool2d")
_ADAPTIVE_MAXIMA = ("adaptive_max_pool1d", "adaptive_max_pool2d")
_ADAPTIVE_AVERAGES = ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
register(
    Pool,
    {
        **dict.fromkeys(_MAXIMA, partial(_windowed, kind="max")),
        **dict.fromkeys(_AVERAGES, partial(_windowed, kind="average")),
        **dict.fromkeys(_ADAPTIVE_MAXIMA, partial(_adaptive_pool, kind="max")),
        **dict.fromkeys(_ADAPTIVE_AVERAGES, partial(_adaptive_pool, kind="average")),
        "mean": partial(_reduced, kind="average"),
        "sum": partial(_reduced, kind="average", total=True),
        "amax": partial(_reduced, kind="max"),
    },
    any_type=("mean", "sum", "amax"),
)

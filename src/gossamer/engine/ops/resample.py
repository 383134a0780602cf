"""Weighted sums of numbers along an axis: interpolation, and means over windows of any size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Axis, Doubles, Shape, Value
from gossamer.engine.operator import (
    Call,
    Given,
    Lowered,
    Operator,
    random_shape,
    register,
)
from gossamer.engine.ops.take import taken
from gossamer.engine.weights import Weights, dense, pack_weights, unpack_weights


@dataclass(frozen=True, eq=False)
class Resample(Operator):
    """A matrix [length of the result, length] times the numbers along an axis."""

    name = "resample"

    input: Value
    axis: Axis
    matrix: Weights

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, axis = shapes[self.input], self.axis
        expect_axis(given, axis)
        if self.matrix.layout == "block":
            raise InputError("matrix is of layout block, expected dense or csr.")
        if self.matrix.columns != given[axis]:
            raise InputError(
                f"matrix has {self.matrix.columns} columns, expected {given[axis]}, the length of "
                f"axis {axis}."
            )
        return (*given[:axis], self.matrix.rows, *given[axis + 1 :])

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        moved = np.moveaxis(given, self.axis + 1, -2 if self.axis + 2 < given.ndim else -1)
        matrix = unpack_weights(self.matrix).astype(given.dtype, copy=False)
        if self.axis + 2 == given.ndim:
            found: Array = np.matmul(moved, matrix.T)
        else:
            found = np.moveaxis(np.matmul(matrix, moved), -2, self.axis + 1)
        return found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Resample"]:
        shape = random_shape(random)
        axis = int(random.integers(len(shape)))
        matrix = random.standard_normal((int(random.integers(1, 5)), shape[axis]))
        matrix[random.random(matrix.shape) < 0.5] = 0.0
        return shape, cls(0, axis, pack_weights(matrix.astype(np.float32), "csr"))


Interpolation = Callable[[int, int, float], Doubles]
"""The matrix [length of the result, length] for both, and how many numbers each one steps over."""


def _linear(length: int, result: int, step: float, *, corners: bool) -> Doubles:
    """Return the matrix of a linear interpolation; numbers beyond the ends are those at the ends.

    With `corners`, the first and the last of both lie in the same place, else the edges of their
    pixels.
    """
    places = _places(length, result, step, corners=corners).clip(0)
    left = np.minimum(places.astype(int), length - 1)
    share = places - left
    matrix = np.zeros((result, length))
    rows = np.arange(result)
    np.add.at(matrix, (rows, left), 1 - share)
    np.add.at(matrix, (rows, np.minimum(left + 1, length - 1)), share)
    return matrix


def _cubic(length: int, result: int, step: float, *, corners: bool) -> Doubles:
    """Return the matrix of a cubic convolution, with PyTorch's coefficient of -0.75."""
    places = _places(length, result, step, corners=corners)
    left = np.floor(places).astype(int)
    share = places - left
    matrix = np.zeros((result, length))
    for tap in (-1, 0, 1, 2):
        far = np.abs(share - tap)
        near = (1.25 * far - 2.25) * far * far + 1
        outer = ((-0.75 * far + 3.75) * far - 6) * far + 3
        columns = np.clip(left + tap, 0, length - 1)
        np.add.at(matrix, (np.arange(result), columns), np.where(far <= 1, near, outer))
    return matrix


def _places(length: int, result: int, step: float, *, corners: bool) -> Doubles:
    """Return where the numbers of the result lie between those that are read."""
    if corners:
        return np.arange(result, dtype=np.float64) * ((length - 1) / max(1, result - 1))
    return np.arange(0.5, result, dtype=np.float64) * step - 0.5


def _means(length: int, result: int, _: float) -> Doubles:
    """Return the matrix of means over windows that cover all, of sizes that differ by one."""
    matrix = np.zeros((result, length))
    for row, (begin, end) in enumerate(adaptive_windows(length, result)):
        matrix[row, begin:end] = 1 / (end - begin)
    return matrix


def adaptive_windows(length: int, result: int) -> list[tuple[int, int]]:
    """Return where the windows of PyTorch's adaptive poolings begin and end.

    Examples
    --------
    >>> adaptive_windows(7, 3)
    [(0, 3), (2, 5), (4, 7)]
    """
    return [(row * length // result, -(-(row + 1) * length // result)) for row in range(result)]


def resampled(
    call: Call, given: Given, interpolation: Interpolation, steps: Mapping[int, float]
) -> Lowered:
    """Return a value resampled along some axes of PyTorch to the lengths of the result."""
    found: list[Operator] = []
    value = given.value
    for dim, step in steps.items():
        axis, length, result = given.axis(dim), given.shape[dim - 1], call.shape[dim - 1]
        assert axis is not None
        found.append(Resample(value, axis, dense(interpolation(length, result, step))))
        value = call.step(len(found) - 1)
    return tuple(found)


def _steps(call: Call, given: Given, axes: int) -> dict[int, float]:
    """Return by dimension over how many numbers each step of an interpolation goes."""
    dims = range(len(given.shape) + 1 - axes, len(given.shape) + 1)
    factors = call.arguments.get("scale_factors") or [None] * axes
    return {
        dim: 1 / factor if factor else given.shape[dim - 1] / call.shape[dim - 1]
        for dim, factor in zip(dims, factors, strict=True)
    }


def _interpolated(call: Call, axes: int, kind: Callable[..., Doubles]) -> Lowered:
    given = call.given("input")
    if given is None or len(given.shape) != axes + 1:
        return ()
    interpolation = partial(kind, corners=bool(call.arguments["align_corners"]))
    return resampled(call, given, interpolation, _steps(call, given, axes))


def _nearest(call: Call, axes: int, middle: float) -> Lowered:
    """Return the nearest numbers."""
    given = call.given("input")
    if given is None or len(given.shape) != axes + 1:
        return ()
    places = {}
    for dim, step in _steps(call, given, axes).items():
        axis, length, result = given.axis(dim), given.shape[dim - 1], call.shape[dim - 1]
        assert axis is not None
        places[axis] = nearest(length, result, step, middle)
    return taken(call, given.value, places)


def nearest(length: int, result: int, step: float, middle: float) -> NDArray[np.signedinteger]:
    """Return the places of the nearest numbers, found in float32 as PyTorch finds them."""
    along = np.arange(result, dtype=np.float32)
    found = np.floor((along + np.float32(middle)) * np.float32(step))
    return np.asarray(np.minimum(found.astype(np.int64), length - 1), np.int64)


def adaptive_mean(call: Call, given: Given) -> Lowered:
    """Return means over windows that cover all of each axis behind the channels."""
    dims = range(2, len(given.shape) + 1)
    return resampled(call, given, _means, dict.fromkeys(dims, 1.0))


INTERPOLATIONS: Mapping[str, Interpolation] = {
    "linear": partial(_linear, corners=False),
    "linear-corners": partial(_linear, corners=True),
    "cubic": partial(_cubic, corners=False),
    "cubic-corners": partial(_cubic, corners=True),
    "means": _means,
}
"""Matrices for any lengths, by name."""
_LETTERS = {1: "linear", 2: "bilinear", 3: "trilinear"}
register(
    Resample,
    {
        **{
            f"upsample_{name}{axes}d": partial(_interpolated, axes=axes, kind=_linear)
            for axes, name in _LETTERS.items()
        },
        "upsample_bicubic2d": partial(_interpolated, axes=2, kind=_cubic),
        **{f"upsample_nearest{n}d": partial(_nearest, axes=n, middle=0.0) for n in (1, 2, 3)},
        **{
            f"_upsample_nearest_exact{n}d": partial(_nearest, axes=n, middle=0.5) for n in (1, 2, 3)
        },
    },
)

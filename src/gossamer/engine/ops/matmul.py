"""Products of matrices that are computed, both of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.fields import MOST_AXES, Array, Doubles, Shape, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    network_shape,
    random_shape,
    register,
    register_rules,
)
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.linear import matmul_with_weights
from gossamer.engine.ops.pointwise import add, affine
from gossamer.engine.ops.resample import Resample
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.weights import dense


@dataclass(frozen=True)
class Matmul(Operator):
    """Matrices [..., rows, inner] times matrices [..., inner, columns], both computed.

    Their last two axes change places first where a matrix is said to be transposed. The axes
    before them count matrices; one of length 1 is repeated, as by PyTorch's `matmul`.
    """

    name = "matmul"

    left: Value
    right: Value
    left_transposed: bool = False
    right_transposed: bool = False

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        left, right = shapes[self.left], shapes[self.right]
        if len(left) != len(right) or len(left) < 2:
            raise InputError(
                f"reads shapes {list(left)} and {list(right)}, expected as many axes in both, two "
                "or more."
            )
        rows, inner = left[-2:][:: -1 if self.left_transposed else 1]
        same, columns = right[-2:][:: -1 if self.right_transposed else 1]
        pairs = list(zip(left[:-2], right[:-2], strict=True))
        if inner != same or not all(a == b or 1 in (a, b) for a, b in pairs):
            raise InputError(
                f"reads shapes {list(left)} and {list(right)}, of which {rows} x {inner} times "
                f"{same} x {columns} is no product."
            )
        return (*(max(pair) for pair in pairs), rows, columns)

    def run(self, values: Mapping[Value, Array]) -> Array:
        left, right = values[self.left], values[self.right]
        left = left.swapaxes(-1, -2) if self.left_transposed else left
        right = right.swapaxes(-1, -2) if self.right_transposed else right
        found: Array = np.matmul(left, right)
        return found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Matmul"]:
        shape = (*random_shape(random)[:3], *map(int, random.integers(1, 9, 2)))
        first = random.random() < 0.5
        if random.random() < 0.3:  # a square one
            return (*shape[:-1], shape[-2]), cls(0, 0, first, first)
        return shape, cls(0, 0, first, not first)


def _matmul(call: Call) -> Lowered:
    """Return a product of which one factor, or none, is constant."""
    name = "other" if "other" in call.arguments else "mat2"
    left, right = call.given("self"), call.given(name)
    if left is not None and right is not None:
        return _both(call, left.value, left.shape, right.value, right.shape, 0)
    if right is not None:
        return _constant_times(call, name)
    return matmul_with_weights(call) or _times_constants(call, name)


def _both(call: Call, left: Value, first: Shape, right: Value, second: Shape, step: int) -> Lowered:
    """Return a product of two values of PyTorch, as steps of a call from one on."""
    # Otherwise PyTorch would put the batch of one beside another axis of the other.
    if not len(first) == len(second) == len(call.shape) >= 2 or len(first) > MOST_AXES:
        return ()
    if len(first) > 2:
        return (Matmul(left, right),)
    return (
        Reshape(left, first),
        Reshape(right, second),
        Matmul(call.step(step), call.step(step + 1)),
        Reshape(call.step(step + 2), network_shape(call.shape)),
    )


def _constant_times(call: Call, name: str) -> Lowered:
    """Return a constant matrix times a value: the sums along its last axis but one."""
    given, matrix = call.given(name), call.constant("self")
    if given is None or matrix is None or len(given.shape) != len(call.shape) or matrix.ndim < 2:
        return ()
    axis = given.axis(-2)
    if matrix.ndim == 2 and axis is not None:
        return (Resample(given.value, axis, dense(matrix)),)
    if (held := _held(matrix, given.shape)) is None:
        return ()
    shape = network_shape(held.shape)
    constant = Constant(given.value, held.reshape(shape), shape)
    product = _both(call, call.step(0), held.shape, given.value, given.shape, 1)
    return (constant, *product) if product else ()


def _times_constants(call: Call, name: str) -> Lowered:
    """Return a value times several constant matrices, such as one for each head."""
    given, matrix = call.given("self"), call.constant(name)
    held = None if given is None or matrix is None else _held(matrix, given.shape)
    if given is None or held is None:
        return ()
    shape = network_shape(held.shape)
    constant = Constant(given.value, held.reshape(shape), shape)
    product = _both(call, given.value, given.shape, call.step(0), held.shape, 1)
    return (constant, *product) if product else ()


def _held(matrix: Doubles, like: Shape) -> Doubles | None:
    """Return constant matrices with as many axes as one example of a value; None if they differ."""
    if matrix.ndim == len(like) + 1 and len(matrix) == 1:
        matrix = matrix[0]
    if not 2 <= matrix.ndim <= len(like):
        return None
    return matrix.reshape((1,) * (len(like) - matrix.ndim) + matrix.shape)


def _added(call: Call) -> Lowered:
    """Return a product of matrices of each example, times a number, plus another value."""
    beta, alpha = float(call.arguments["beta"]), float(call.arguments["alpha"])
    left, right, more = call.given("batch1"), call.given("batch2"), call.given("self")
    if left is None or right is None or (beta and (more is None or more.shape != call.shape)):
        return ()
    product = _both(call, left.value, left.shape, right.value, right.shape, 0)
    if not product:
        return ()
    rows = call.shape[0]
    scaled = affine(call.step(len(product) - 1), np.full(rows, alpha), np.zeros(rows))
    if not beta or more is None:
        return (*product, scaled)
    weighed = affine(more.value, np.full(rows, beta), np.zeros(rows))
    steps = (call.step(len(product)), call.step(len(product) + 1))
    return (*product, scaled, weighed, add(*steps))


register(Matmul, {"matmul": _matmul, "bmm": _matmul, "baddbmm": _added})
register_rules({"mm": matmul_with_weights}, row_by_row=("matmul", "mm"), of="Matmul")

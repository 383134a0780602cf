"""A matrix times features."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.engine.epilogue import NOTHING, Epilogue, expect_axes, expect_shape
from gossamer.engine.fields import Array, Doubles, Shape, Value
from gossamer.engine.operator import Call, Given, Lowered, Operator, network_shape, register
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.permute import Permute
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.weights import (
    Weights,
    dense,
    expect_columns,
    parts,
    random_weights,
    unpack_rows,
)


@dataclass(frozen=True, eq=False)
class Linear(Operator):
    """Weights times a value of shape (columns,), plus a bias [rows]."""

    name = "linear"

    input: Value
    weights: Weights
    bias: Array | None = None
    epilogue: Epilogue = NOTHING

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        expect_axes(given, "features", advice="; put a Reshape before it")
        expect_columns(self.weights, given[0])
        rows = (self.weights.rows,)
        expect_shape("bias", self.bias, rows)
        return self.epilogue.infer_shape(rows, shapes)

    def run(self, values: Mapping[Value, Array]) -> Array:
        given, weights = values[self.input], self.weights
        sums = np.empty((len(given), weights.rows), given.dtype)
        for start, stop in parts(weights.rows, weights.columns):
            matrix = unpack_rows(weights, start, stop, given.dtype)
            np.matmul(given, matrix.T, out=sums[:, start:stop])
        if self.bias is not None:
            sums += self.bias
        return self.epilogue.run(sums, values)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Linear"]:
        weights, bias = random_weights(random, int(random.integers(1, 9)))
        return (weights.columns,), cls(0, weights, bias, Epilogue.sampled(random, len(bias)))


def _linear(call: Call) -> Lowered:
    return _product(call, "input", call.constant("weight"), call.constant("bias"))


def matmul_with_weights(call: Call) -> Lowered:
    """Return a product with a constant matrix on the right."""
    matrix = call.constant("other" if "other" in call.arguments else "mat2")
    return _product(call, "self", None if matrix is None else matrix.T, None)


def _addmm(call: Call) -> Lowered:
    bias, matrix = call.constant("self"), call.constant("mat2")
    if bias is None or matrix is None or bias.ndim > 1:
        return ()
    bias = np.broadcast_to(bias * float(call.arguments["beta"]), matrix.shape[1:])
    return _product(call, "mat1", matrix.T * float(call.arguments["alpha"]), bias)


def _product(call: Call, name: str, matrix: Doubles | None, bias: Doubles | None) -> Lowered:
    given = call.given(name)
    if given is None or matrix is None or matrix.ndim != 2:
        return ()
    if len(given.shape) == 1:
        return (Linear(given.value, dense(matrix), bias),)
    return _over_positions(call, given, matrix, bias)


def _over_positions(call: Call, given: Given, matrix: Doubles, bias: Doubles | None) -> Lowered:
    """Return a product over the last axis, as a convolution of which the features are channels."""
    *positions, features = given.shape
    height = math.prod(positions[:-1])
    return (
        Reshape(given.value, (height, positions[-1], features)),
        Permute(call.step(0), (2, 0, 1)),
        Convolution(call.step(1), dense(matrix), (1, 1), bias=bias),
        Permute(call.step(2), (1, 2, 0)),
        Reshape(call.step(3), network_shape(call.shape)),
    )


_RULES = {"linear": _linear, "addmm": _addmm}
register(Linear, _RULES, row_by_row=_RULES)

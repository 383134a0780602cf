"""Programs as networks: what follows an operator with an epilogue directly goes into its epilogue.

The order within an epilogue is fixed (sum, activation, scale and shift, pooling), so that an
operator joins the one before it only if nothing of a later kind is in it, and if nothing else reads
what lies between.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from gossamer.engine.epilogue import Epilogue
from gossamer.engine.fields import Shape, Value, read_by, renamed
from gossamer.engine.network import Network, Program, weights_of
from gossamer.engine.operator import Operator
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.linear import Linear
from gossamer.engine.ops.pad import Pad
from gossamer.engine.ops.pointwise import Pointwise
from gossamer.engine.ops.pool import Pool
from gossamer.engine.weights import Layout, Weights, dense, pack_weights

REWRITTEN = (Pad,)
"""Operators that `fuse` writes as others."""

_Part = TypeVar("_Part")


def finished(program: Program) -> Network:
    """Return a program as a network: values by number, numbers in float32, all weights dense.

    Examples
    --------
    >>> linear = Linear("x", dense(np.array([[1.0, 2.0]])), np.zeros(1))
    >>> network = finished(Program({"x": (2,)}, {"y": linear}, ("y",)))
    >>> network.layers[0].input, network.layers[0].weights.values.dtype, network.layers[0].bias
    (0, dtype('float32'), None)
    """
    names = {name: i for i, name in enumerate([*program.inputs, *program.operators])}
    layers = tuple(_in_float32(renamed(one, names)) for one in program.operators.values())
    outputs = tuple(names[value] for value in program.outputs)
    return Network(tuple(program.inputs.values()), layers, outputs)


def _in_float32(part: _Part) -> _Part:
    """Return an operator, or a part of one, with its numbers in float32 and no bias of zeros."""
    changes: dict[str, Any] = {}
    for field in fields(part):  # type: ignore[arg-type]
        content = getattr(part, field.name)
        if field.name == "bias" and content is not None and not content.any():
            changes["bias"] = None
        elif isinstance(content, np.ndarray):
            changes[field.name] = np.ascontiguousarray(content, np.float32)
        elif isinstance(content, Weights):
            # The layout of weights is chosen later; other matrices are mostly zeros.
            layout: Layout = "dense" if field.name == "weights" else "csr"
            changes[field.name] = pack_weights(content.values, layout)
        elif is_dataclass(content):
            changes[field.name] = _in_float32(content)
    return replace(part, **changes)  # type: ignore[type-var]


def fuse(program: Program) -> Program:
    """Return a program that computes the same, of which each operator is one layer of a network."""
    program = _with_products_for_affines(program)
    reads = program.read_counts()
    fused: dict[Value, Operator] = {}  # by their last values, so that all that they read is there
    for name, operator in program.operators.items():
        before = _to_join(operator, fused, reads)
        fused[name] = operator if before is None else _joined(before, fused.pop(before), operator)
    return replace(program, operators=fused)


def _with_products_for_affines(program: Program) -> Program:
    """Write what no epilogue takes in as products of one weight a channel, which have epilogues.

    These are affine functions of images that something fusable follows, and margins of zeros. An
    affine function of features stays by itself: as a product it would be a square matrix of them.
    """
    reads, shapes = program.read_counts(), program.shapes()
    leading = {
        value
        for operator in program.operators.values()
        if isinstance(operator, Pool) or _stages(operator)[:1] in ((1,), (2,))
        for value in read_by(operator)
    }
    operators = dict(program.operators)
    for name, operator in program.operators.items():
        if isinstance(operator, Pad):
            operators[name] = _padding_product(operator, shapes[operator.input])
        elif (
            isinstance(operator, Pointwise)
            and _stages(operator) == (3,)
            and len(shapes[name]) == 3
            and reads[name] == 1
            and name in leading
            and not _may_join(operator, operator.input, program.operators, reads)
        ):
            operators[name] = _scaling_product(operator, shapes[name])
    return replace(program, operators=operators)


def _scaling_product(affine: Pointwise, shape: Shape) -> Convolution:
    scale, shift = affine.epilogue.scale, affine.epilogue.shift
    assert scale is not None
    return Convolution(affine.input, dense(scale[:, None]), (1, 1), groups=shape[0], bias=shift)


def _padding_product(pad: Pad, shape: Shape) -> Convolution:
    """Return the convolution of one weight of 1 for each channel that reaches into the margins."""
    padding = (max(pad.before[0], pad.after[0]), max(pad.before[1], pad.after[1]))
    zeros = [
        (padding[0] - pad.before[0], padding[0] - pad.after[0]),
        (padding[1] - pad.before[1], padding[1] - pad.after[1]),
    ]
    kernel = np.pad(np.ones((1, 1)), zeros)
    matrix = np.tile(kernel.reshape(1, -1), (shape[0], 1))
    size = (kernel.shape[0], kernel.shape[1])
    return Convolution(pad.input, dense(matrix), size, padding=padding, groups=shape[0])


def _stages(operator: Operator | None) -> tuple[int, ...]:
    """Return what an operator does to its sums, as the numbers of `Epilogue.stages`."""
    epilogue = getattr(operator, "epilogue", None)
    return epilogue.stages if isinstance(epilogue, Epilogue) else ()


def _to_join(
    operator: Operator, fused: Mapping[Value, Operator], reads: Mapping[Value, int]
) -> Value | None:
    """Return the value of the operator that another one joins, if any."""
    if not isinstance(operator, Pointwise | Pool):
        return None
    found = [value for value in read_by(operator) if _may_join(operator, value, fused, reads)]
    # The larger product keeps its sums in registers; the other operand is read from memory.
    return max(found, key=lambda value: _weights(fused[value]), default=None)


def _may_join(
    operator: Pointwise | Pool,
    value: Value,
    before: Mapping[Value, Operator],
    reads: Mapping[Value, int],
) -> bool:
    """Tell whether an operator may go into the epilogue of the one that gives a value."""
    found = before.get(value)
    if isinstance(operator, Pool):
        able = isinstance(found, Linear | Convolution)
        first = 4
    else:
        able = isinstance(found, Linear | Convolution | Pointwise)
        first = min(operator.epilogue.stages, default=4)
    return able and reads[value] == 1 and max(_stages(found), default=0) < first


def _weights(operator: Operator) -> int:
    weights = weights_of(operator)
    return 0 if weights is None else weights.stored


def _joined(value: Value, before: Operator, operator: Operator) -> Operator:
    """Return the operator that gave a value, which another one has joined."""
    assert isinstance(before, Linear | Convolution | Pointwise)
    epilogue = before.epilogue
    if isinstance(operator, Pool):
        return replace(before, epilogue=replace(epilogue, pooling=operator.pooling))
    assert isinstance(operator, Pointwise)
    later = operator.epilogue
    if later.residual is not None:  # a sum: either of the two may be what was joined
        other = later.residual if operator.input == value else operator.input
        epilogue = replace(epilogue, residual=other)
    if 2 in later.stages:
        epilogue = replace(epilogue, activation=later.activation)
    if 3 in later.stages:
        epilogue = replace(epilogue, scale=later.scale, shift=later.shift)
    return replace(before, epilogue=epilogue)

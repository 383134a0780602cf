"""Layers of the runtime from operations: what follows a product directly goes into its epilogue.

The order within a layer is fixed (sum, activation, scale and shift, pooling), so that an operation
joins the layer before it only if nothing of a later kind is in it, and if nothing else reads what
lies between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gossamer.compression.lowering.operations import (
    Activate,
    Affine,
    Concatenate,
    Doubles,
    Operation,
    Pad,
    Pool,
    Product,
    Program,
    Reshape,
    Softmax,
    Sum,
    Window,
    inputs_of,
    read_counts,
    value_shapes,
)
from gossamer.kernels import network
from gossamer.kernels.network import (
    IDENTITY,
    Activation,
    Epilogue,
    Floats,
    Layer,
    Network,
    Pooling,
    Shape,
)
from gossamer.kernels.weights import pack_weights

_ORDER: tuple[type[Operation], ...] = (Product, Sum, Activate, Affine, Pool)


@dataclass(frozen=True, eq=False)
class _Fused:
    """A first operation and what joined it, under the name of the value that comes out."""

    name: str
    first: Operation
    stage: int
    residual: str | None = None
    activation: Activation = IDENTITY
    scale: Doubles | None = None
    shift: Doubles | None = None
    pooling: Pooling | None = None


def fuse(program: Program) -> Network:
    """Return the network that computes a program, with all weights stored dense."""
    program = _with_products_for_affines(program)
    groups = _groups(program)
    number = {program.input: 0} | {group.name: i + 1 for i, group in enumerate(groups)}
    layers = tuple(_layer(group, number) for group in groups)
    return Network(program.input_shape, layers, number[program.output])


def fused_values(program: Program) -> list[str]:
    """Return the names of the values that the layers of `fuse` give, one for each in order."""
    return [group.name for group in _groups(_with_products_for_affines(program))]


def _with_products_for_affines(program: Program) -> Program:
    """Write what no epilogue takes in as products of one weight a channel, which have epilogues.

    These are affine functions of images that something fusable follows, and margins of zeros. An
    affine function of features stays by itself: as a product it would be a square matrix of them.
    """
    reads, shapes = read_counts(program), value_shapes(program)
    leading = {
        operation.input
        for operation in program.operations.values()
        if isinstance(operation, Activate | Pool)
    } | {n for op in program.operations.values() if isinstance(op, Sum) for n in op.inputs}
    operations = dict(program.operations)
    for name, operation in program.operations.items():
        if isinstance(operation, Pad):
            operations[name] = _padding_product(operation, shapes[operation.input])
        alone = isinstance(operation, Affine) and not _joins(program, name, reads)
        image = len(shapes[name]) == 3
        if (
            isinstance(operation, Affine)
            and image
            and alone
            and reads[name] == 1
            and name in leading
        ):
            operations[name] = _scaling_product(operation, shapes[name])
    return replace(program, operations=operations)


def _joins(program: Program, name: str, reads: Mapping[str, int]) -> bool:
    """Tell whether an operation that is no first one has a layer before it to join."""
    (before,) = inputs_of(program.operations[name])
    return reads[before] == 1 and isinstance(
        program.operations.get(before), Product | Sum | Activate
    )


def _scaling_product(affine: Affine, shape: Shape) -> Product:
    window = Window((1, 1), groups=shape[0])
    return Product(affine.input, affine.scale[:, None], affine.shift, window)


def _padding_product(pad: Pad, shape: Shape) -> Product:
    """Return the convolution of one weight of 1 for each channel that reaches into the margins."""
    padding = (max(pad.before[0], pad.after[0]), max(pad.before[1], pad.after[1]))
    zeros = [
        (padding[0] - pad.before[0], padding[0] - pad.after[0]),
        (padding[1] - pad.before[1], padding[1] - pad.after[1]),
    ]
    kernel = np.pad(np.ones((1, 1)), zeros)
    matrix = np.tile(kernel.reshape(1, -1), (shape[0], 1))
    window = Window((kernel.shape[0], kernel.shape[1]), padding=padding, groups=shape[0])
    return Product(pad.input, matrix, np.zeros(shape[0]), window)


def _groups(program: Program) -> list[_Fused]:
    """Return the layers to be, ordered by their last operations: then all they read is there."""
    reads = read_counts(program)
    groups: dict[str, _Fused] = {}
    for name, operation in program.operations.items():
        before = _group_to_join(operation, groups, reads)
        if before is None:
            groups[name] = _begun(name, operation)
        else:
            del groups[before.name]
            groups[name] = _joined(before, name, operation)
    return list(groups.values())


def _group_to_join(
    operation: Operation, groups: Mapping[str, _Fused], reads: Mapping[str, int]
) -> _Fused | None:
    if not isinstance(operation, Sum | Activate | Affine | Pool):
        return None
    found = [
        groups[name]
        for name in inputs_of(operation)
        if name in groups and reads[name] == 1 and _may_join(operation, groups[name])
    ]
    # The larger product keeps its sums in registers; the other operand is read from memory.
    return max(found, key=_weights_of, default=None)


def _may_join(operation: Operation, group: _Fused) -> bool:
    if isinstance(operation, Pool) and not isinstance(group.first, Product):
        return False
    return group.stage < _ORDER.index(type(operation))


def _weights_of(group: _Fused) -> int:
    return group.first.matrix.size if isinstance(group.first, Product) else 0


def _begun(name: str, operation: Operation) -> _Fused:
    stage = _ORDER.index(type(operation)) if type(operation) in _ORDER else len(_ORDER)
    match operation:
        case Sum(inputs=(_, right)):
            return _Fused(name, operation, stage, residual=right)
        case Activate(activation=activation):
            return _Fused(name, operation, stage, activation=activation)
        case Affine(scale=scale, shift=shift):
            return _Fused(name, operation, stage, scale=scale, shift=shift)
        case Pool():
            return _Fused(name, operation, len(_ORDER))
    return _Fused(name, operation, stage)


def _joined(group: _Fused, name: str, operation: Operation) -> _Fused:
    stage = _ORDER.index(type(operation))
    match operation:
        case Sum(inputs=(left, right)):
            other = right if left == group.name else left
            return replace(group, name=name, stage=stage, residual=other)
        case Activate(activation=activation):
            return replace(group, name=name, stage=stage, activation=activation)
        case Affine(scale=scale, shift=shift):
            return replace(group, name=name, stage=stage, scale=scale, shift=shift)
        case Pool(pooling=pooling):
            return replace(group, name=name, stage=stage, pooling=pooling)
    raise AssertionError(operation)


def _layer(group: _Fused, number: Mapping[str, int]) -> Layer:
    epilogue = Epilogue(
        residual=None if group.residual is None else number[group.residual],
        activation=group.activation,
        scale=_floats(group.scale),
        shift=_floats(group.shift),
        pooling=group.pooling,
    )
    match group.first:
        case Product(input=name) as product:
            return _product_layer(product, number[name], epilogue)
        case Pool(input=name, pooling=pooling):
            return network.Pool(number[name], pooling)
        case Concatenate(inputs=inputs):
            return network.Concatenate(tuple(number[name] for name in inputs))
        case Reshape(input=name, shape=shape):
            return network.Reshape(number[name], shape)
        case Softmax(input=name, logarithm=logarithm):
            return network.Softmax(number[name], logarithm)
        case first:
            return network.Pointwise(number[inputs_of(first)[0]], epilogue)


def _product_layer(product: Product, input_number: int, epilogue: Epilogue) -> Layer:
    weights = pack_weights(product.matrix, "dense")
    bias = _floats(product.bias) if product.bias.any() else None
    window = product.window
    if window is None:
        return network.Linear(input_number, weights, bias, epilogue)
    return network.Convolution(
        input_number,
        weights,
        window.kernel,
        window.stride,
        window.padding,
        window.dilation,
        window.groups,
        bias,
        epilogue,
    )


def _floats(array: Doubles | None) -> Floats | None:
    return None if array is None else np.ascontiguousarray(array, np.float32)

"""What a network computes, step by step, in float64 and not yet fused: between PyTorch and layers.

A `Program` names its values. Each operation gives one value and says which it reads; those that
hold no numbers of their own (`Pool`, `Concatenate`, `Reshape`, `Softmax`) mean what the layers of
`gossamer.kernels.network` of the same name mean. Shapes leave the batch out, and sequences
[channels, length] are images of height 1.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from gossamer.kernels.network import Activation, Pair, Pooling, Shape, window_positions

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Where a convolution looks, as in PyTorch's `conv2d`."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Product:
    """A linear layer, or a convolution where there is a window: matrix [rows, columns], bias."""

    input: str
    matrix: Doubles
    bias: Doubles
    window: Window | None = None


@dataclass(frozen=True, eq=False)
class Affine:
    """Each channel (or feature) times a number, plus another; both [channels]."""

    input: str
    scale: Doubles
    shift: Doubles


@dataclass(frozen=True)
class Activate:
    """A function of each number."""

    input: str
    activation: Activation


@dataclass(frozen=True)
class Sum:
    """Two values of one shape, added."""

    inputs: tuple[str, str]


@dataclass(frozen=True)
class Pad:
    """Zeros around an image: before and after it, along the height and the width."""

    input: str
    before: Pair
    after: Pair


@dataclass(frozen=True)
class Pool:
    """Max or average over windows."""

    input: str
    pooling: Pooling


@dataclass(frozen=True)
class Concatenate:
    """Values side by side along their channels or features."""

    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Reshape:
    """The same numbers in the same order."""

    input: str
    shape: Shape


@dataclass(frozen=True)
class Softmax:
    """Softmax over the channels or features, or its logarithm."""

    input: str
    logarithm: bool = False


Operation = Product | Affine | Activate | Sum | Pad | Pool | Concatenate | Reshape | Softmax


@dataclass(frozen=True, eq=False)
class Program:
    """Operations by the name of the value that each gives, in an order in which they can run."""

    input: str
    input_shape: Shape
    operations: Mapping[str, Operation]
    output: str


def inputs_of(operation: Operation) -> tuple[str, ...]:
    """Return the names of the values that an operation reads.

    Examples
    --------
    >>> inputs_of(Sum(("left", "right")))
    ('left', 'right')
    """
    if isinstance(operation, Sum | Concatenate):
        return operation.inputs
    return (operation.input,)


def read_counts(program: Program) -> Counter[str]:
    """Return how often each value is read; giving it out counts as well."""
    read = (name for operation in program.operations.values() for name in inputs_of(operation))
    return Counter([*read, program.output])


def value_shapes(program: Program) -> dict[str, Shape]:
    """Return the shape of every value, the input among them."""
    shapes = {program.input: program.input_shape}
    for name, operation in program.operations.items():
        shapes[name] = result_shape(operation, shapes)
    return shapes


def result_shape(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    """Return the shape of what an operation gives, from the shapes of what it reads.

    Examples
    --------
    >>> result_shape(Concatenate(("a", "b")), {"a": (2, 5, 5), "b": (3, 5, 5)})
    (5, 5, 5)
    """
    match operation:
        case Product(window=window):
            if window is None:
                return (len(operation.matrix),)
            size = shapes[operation.input][1:]
            placed = window_positions(
                size, window.kernel, window.stride, window.padding, window.dilation
            )
            return (len(operation.matrix), *placed)
        case Pool(pooling=pooling):
            channels, *area = shapes[operation.input]
            placed = window_positions(
                area,
                pooling.kernel,
                pooling.stride,
                pooling.padding,
                pooling.dilation,
                pooling.ceil,
            )
            return (channels, *placed)
        case Pad(before=before, after=after):
            channels, height, width = shapes[operation.input]
            return (channels, height + before[0] + after[0], width + before[1] + after[1])
        case Concatenate(inputs=inputs):
            return (sum(shapes[name][0] for name in inputs), *shapes[inputs[0]][1:])
        case Reshape(shape=shape):
            return shape
        case Affine() | Activate() | Softmax():
            return shapes[operation.input]
        case Sum(inputs=(name, _)):
            return shapes[name]
    assert_never(operation)


def network_shape(shape: Shape) -> Shape:
    """Return the shape that a value of PyTorch (without the batch) has in a network.

    Examples
    --------
    >>> network_shape((16,)), network_shape((3, 100)), network_shape((3, 32, 32))
    ((16,), (3, 1, 100), (3, 32, 32))
    """
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def numbers(shape: Shape) -> int:
    """Return how many numbers a value of that shape holds."""
    return math.prod(shape)

"""What the kernels run: a network as plain arrays, one layer after the other.

A `Network` is a list of layers in the order in which they are computed. Each reads values by
their number: number 0 is the input, number n what layer n - 1 gave. A value has one shape for all
examples, without the batch: (features,), or (channels, height, width). Everything is a frozen
value over NumPy arrays, so that a network can be checked, written to a file, and run without
PyTorch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Floats = NDArray[np.float32]
Pair = tuple[int, int]
"""Along the height, along the width."""

Kind = Literal["dense", "sparse", "block"]
ActivationName = Literal[
    "identity", "relu", "relu6", "leaky-relu", "elu", "gelu", "gelu-tanh", "silu", "hardswish",
    "sigmoid", "tanh",
]  # fmt: skip
BLOCK_ROWS = 4
"""Rows that share one pattern where the kind of weights is "block"."""


@dataclass(frozen=True)
class Activation:
    """A function of one number; `alpha` is the slope of leaky-relu below 0 and the scale of elu."""

    name: ActivationName = "identity"
    alpha: float = 1.0


IDENTITY = Activation()


@dataclass(frozen=True, eq=False)
class Weights:
    """A matrix [rows, columns], stored by its kind.

    Rows are outputs. Columns are inputs; those of a convolution are numbered as in the flattened
    weight of PyTorch: channel within the group, then row and column of the kernel.

    - "dense": `values` is [rows, columns]; `starts` and `indices` are empty.
    - "sparse": row r holds `values[starts[r]:starts[r + 1]]` at the columns `indices` of the same
      slice, which ascend. `values` is [nonzeros].
    - "block": rows 4 r to 4 r + 3 share the columns `indices[starts[r]:starts[r + 1]]`; `values` is
      [blocks, 4]. Rows beyond the last are padded with zeros.
    """

    kind: Kind
    rows: int
    columns: int
    values: Floats
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    indices: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def stored(self) -> int:
        """How many numbers are stored, and so multiplied for each position of the output."""
        return int(self.values.size)


@dataclass(frozen=True)
class Pooling:
    """Max or average over windows, as in PyTorch's `max_pool2d` and `avg_pool2d`.

    `counts_padding` says whether an average divides by the whole window at the border
    (`count_include_pad`); `dilation` is for the maximum alone.
    """

    kind: Literal["max", "average"]
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil: bool = False
    counts_padding: bool = True


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What happens to the sums of a layer before they are stored, in this order.

    The value number `residual` (of the same shape) is added, the activation applied, each channel
    multiplied by `scale` and `shift` added (both [channels]), and windows pooled.
    """

    residual: int | None = None
    activation: Activation = IDENTITY
    scale: Floats | None = None
    shift: Floats | None = None
    pooling: Pooling | None = None


@dataclass(frozen=True, eq=False)
class Linear:
    """Weights times a value of shape (columns,), plus a bias [rows]."""

    input: int
    weights: Weights
    bias: Floats | None = None
    epilogue: Epilogue = field(default_factory=Epilogue)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A cross-correlation with zeros around, as PyTorch's `conv2d`.

    The bias is [channels out], or [channels out, height, width] of the sums before pooling, where
    it depends on the position.
    """

    input: int
    weights: Weights
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: Floats | None = None
    epilogue: Epilogue = field(default_factory=Epilogue)


@dataclass(frozen=True, eq=False)
class Pool:
    """A pooling on its own."""

    input: int
    pooling: Pooling


@dataclass(frozen=True, eq=False)
class Pointwise:
    """An activation, an affine function of each channel or a sum that no layer before took in.

    The epilogue has no pooling.
    """

    input: int
    epilogue: Epilogue


@dataclass(frozen=True, eq=False)
class Concatenate:
    """Values side by side along their channels (or features)."""

    inputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same numbers in the same order under another shape; flattening, for instance."""

    input: int
    shape: Shape


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the channels or features, or its logarithm."""

    input: int
    logarithm: bool = False


Layer = Linear | Convolution | Pool | Pointwise | Concatenate | Reshape | Softmax


@dataclass(frozen=True, eq=False)
class Network:
    """Layers in the order in which they are computed; `output` is the number of the result."""

    input_shape: Shape
    layers: tuple[Layer, ...]
    output: int


def read_by(layer: Layer) -> tuple[int, ...]:
    """Return the numbers of the values that a layer reads.

    Examples
    --------
    >>> read_by(Concatenate((0, 2)))
    (0, 2)
    """
    if isinstance(layer, Concatenate):
        return layer.inputs
    epilogue = getattr(layer, "epilogue", None)
    if epilogue is None or epilogue.residual is None:
        return (layer.input,)
    return (layer.input, epilogue.residual)


def window_positions(
    size: Sequence[int],
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    ceil: bool = False,
) -> Pair:
    """Return how many windows fit along the height and the width, as PyTorch counts them.

    Examples
    --------
    >>> window_positions((28, 28), (3, 3), (2, 2), (1, 1))
    (14, 14)
    """
    found = []
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        room = size[axis] + 2 * padding[axis] - reach
        steps = -(-room // stride[axis]) if ceil else room // stride[axis]
        # A last window that would begin in the padding behind the end is left out.
        if ceil and steps * stride[axis] >= size[axis] + padding[axis]:
            steps -= 1
        found.append(steps + 1)
    return found[0], found[1]

"""From operations of PyTorch to operations of the runtime, one by one.

What stands in no table here, or is used in a way that the runtime does not know, is not lowered:
it stays in PyTorch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from gossamer.compression.lowering.operations import (
    Activate,
    Affine,
    Concatenate,
    Doubles,
    Operation,
    Pad,
    Pool,
    Product,
    Reshape,
    Softmax,
    Sum,
    Window,
    network_shape,
    numbers,
)
from gossamer.compression.lowering.tracing import operation_name, values_read
from gossamer.kernels.network import Activation, ActivationName, Pair, Pooling, Shape

Lowered = tuple[Operation, ...]
"""What a node becomes, in order; the last operation gives its value. Empty if it is not lowered."""

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@dataclass(frozen=True, eq=False)
class Call:
    """A node of the graph with its arguments by name.

    `shapes` holds the shape of one example of every value that a network may hold, `constants` what
    depends on parameters alone.
    """

    node: fx.Node
    arguments: Mapping[str, Any]
    shapes: Mapping[fx.Node, Shape]
    constants: Mapping[fx.Node, Tensor]

    def shape(self, argument: str) -> Shape | None:
        """Return the shape of a value among the arguments; None if it is none."""
        found = self.arguments.get(argument)
        return self.shapes.get(found) if isinstance(found, fx.Node) else None

    def name(self, argument: str) -> str:
        """Return the name of a value among the arguments."""
        return str(self.arguments[argument].name)

    def constant(self, argument: str) -> Doubles | None:
        """Return an argument that is a number, or depends on parameters alone."""
        found = self.arguments.get(argument)
        if isinstance(found, fx.Node):
            tensor = self.constants.get(found)
            return None if tensor is None else _doubles(tensor)
        return np.asarray(found, np.float64) if isinstance(found, (int, float)) else None

    def step(self, number: int) -> str:
        """Return the name of what an operation before the last gives."""
        return step_name(self.node, number)


def step_name(node: fx.Node, number: int) -> str:
    """Return the name of a value inside a node that becomes several operations."""
    return f"{node.name}.{number}"


def lower(
    node: fx.Node,
    shapes: Mapping[fx.Node, Shape],
    constants: Mapping[fx.Node, Tensor],
    *,
    in_rows: bool = False,
) -> Lowered:
    """Return the operations that compute what a node of the graph computes.

    Parameters
    ----------
    node
        A call of a function of PyTorch.
    shapes
        Shape of one example of every value that a network may hold.
    constants
        The value of every node that depends on parameters alone.
    in_rows
        Whether an example is a row along the last axis, whatever axes stand before it, instead of
        all behind the first axis. Then only what acts on each row by itself is lowered.
    """
    rule = _RULES.get(operation_name(node))
    if in_rows and operation_name(node) not in _ROW_BY_ROW:
        return ()
    values = values_read(node, constants)
    if rule is None or node not in shapes or not all(n in shapes for n in values):
        return ()
    return rule(Call(node, _arguments(node), shapes, constants))


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by the names of its schema, defaults among them."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return dict(zip(("self", "index"), node.args, strict=False))
    schema = node.target._schema.arguments
    bound = {a.name: a.default_value for a in schema if a.has_default_value()}
    bound |= {a.name: value for a, value in zip(schema, node.args, strict=False)}
    return bound | node.kwargs


def _doubles(tensor: Tensor) -> Doubles:
    return tensor.detach().cpu().to(torch.float64).numpy()


# --- linear operations


def _linear(call: Call) -> Lowered:
    weight, bias = call.constant("weight"), call.constant("bias")
    return _product(call, "input", weight, bias)


def _matmul(call: Call) -> Lowered:
    matrix = call.constant("other" if "other" in call.arguments else "mat2")
    return _product(call, "self", None if matrix is None else matrix.T, None)


def _addmm(call: Call) -> Lowered:
    bias, matrix = call.constant("self"), call.constant("mat2")
    if bias is None or matrix is None or bias.ndim > 1:
        return ()
    rows = matrix.shape[1]
    bias = np.broadcast_to(bias * float(call.arguments["beta"]), (rows,))
    return _product(call, "mat1", matrix.T * float(call.arguments["alpha"]), bias)


def _product(call: Call, value: str, matrix: Doubles | None, bias: Doubles | None) -> Lowered:
    shape = call.shape(value)
    if shape is None or len(shape) != 1 or matrix is None or matrix.ndim != 2:
        return ()
    bias = np.zeros(len(matrix)) if bias is None else bias
    return (Product(call.name(value), matrix, bias),)


def _convolution(call: Call) -> Lowered:
    weight, bias, shape = call.constant("weight"), call.constant("bias"), call.shape("input")
    if weight is None or shape is None or len(shape) != weight.ndim - 1:
        return ()
    kernel = _pair(weight.shape[2:])
    dilation = _pair(call.arguments["dilation"])
    before, after = _margins(call.arguments["padding"], kernel, dilation)
    padding = before if before == after else (0, 0)
    product = Product(
        call.name("input") if before == after else call.step(0),
        weight.reshape(len(weight), -1),
        np.zeros(len(weight)) if bias is None else bias,
        Window(
            kernel, _pair(call.arguments["stride"]), padding, dilation, call.arguments["groups"]
        ),
    )
    return (product,) if before == after else (Pad(call.name("input"), before, after), product)


def _margins(padding: str | Sequence[int], kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Return how many zeros a convolution puts before and behind its input."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        totals = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1))
        before = (totals[0] // 2, totals[1] // 2)
        return before, (totals[0] - before[0], totals[1] - before[1])
    assert not isinstance(padding, str)
    pair = _pair(padding, fill=0)
    return pair, pair


def _pair(numbers_: Sequence[int], fill: int = 1) -> Pair:
    """Return sizes along the height and the width; a sequence has the height 1."""
    return (fill, int(numbers_[0])) if len(numbers_) == 1 else (int(numbers_[0]), int(numbers_[1]))


def _batch_norm(call: Call) -> Lowered:
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    shape = call.shape("input")
    if shape is None or mean is None or variance is None or call.arguments.get("training"):
        return ()
    weight, bias = call.constant("weight"), call.constant("bias")
    scale = 1 / np.sqrt(variance + float(call.arguments["eps"]))
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return (Affine(call.name("input"), scale, shift if bias is None else shift + bias),)


def _pad(call: Call) -> Lowered:
    shape, margins = call.shape("self"), call.arguments["pad"]
    zeros = call.arguments.get("mode", "constant") == "constant" and not call.arguments["value"]
    if shape is None or not 2 <= len(shape) <= 3 or not zeros or min(margins) < 0:
        return ()
    sides = [(int(a), int(b)) for a, b in zip(margins[::2], margins[1::2], strict=True)]
    while sides and sides[-1] == (0, 0):
        sides.pop()
    if len(sides) >= len(shape):  # pads the channels or the batch
        return ()
    width, height = [*sides, (0, 0), (0, 0)][:2]
    return (Pad(call.name("self"), (height[0], width[0]), (height[1], width[1])),)


# --- functions of each number


def _activation(name: ActivationName) -> Callable[[Call], Lowered]:
    def rule(call: Call) -> Lowered:
        return (Activate(call.name("self"), Activation(name)),)

    return rule


def _leaky_relu(call: Call) -> Lowered:
    activation = Activation("leaky-relu", float(call.arguments["negative_slope"]))
    return (Activate(call.name("self"), activation),)


def _prelu(call: Call) -> Lowered:
    slope = call.constant("weight")
    if slope is None or slope.size != 1:
        return ()
    return (Activate(call.name("self"), Activation("leaky-relu", float(slope.flat[0]))),)


def _elu(call: Call) -> Lowered:
    alpha, scale = float(call.arguments["alpha"]), float(call.arguments["scale"])
    return () if call.arguments["input_scale"] != 1 else _scaled_elu(call, alpha, scale)


def _selu(call: Call) -> Lowered:
    return _scaled_elu(call, _SELU_ALPHA, _SELU_SCALE)


def _scaled_elu(call: Call, alpha: float, scale: float) -> Lowered:
    activate = Activate(call.name("self"), Activation("elu", alpha))
    return (activate,) if scale == 1 else (activate, _uniform(call, call.step(0), scale, 0.0))


def _gelu(call: Call) -> Lowered:
    tanh = call.arguments["approximate"] == "tanh"
    return (Activate(call.name("self"), Activation("gelu-tanh" if tanh else "gelu")),)


def _hardsigmoid(call: Call) -> Lowered:
    return (
        _uniform(call, call.name("self"), 1.0, 3.0),
        Activate(call.step(0), Activation("relu6")),
        _uniform(call, call.step(1), 1 / 6, 0.0),
    )


def _clamp(low: str, high: str) -> Callable[[Call], Lowered]:
    def rule(call: Call) -> Lowered:
        bounds = (call.arguments.get(low), call.arguments.get(high))
        if any(isinstance(bound, fx.Node) for bound in bounds):
            return ()
        return _clamped(call, *(None if b is None else float(b) for b in bounds))

    return rule


def _clamped(call: Call, low: float | None, high: float | None) -> Lowered:
    """Return a clamp as ReLU or ReLU6, moved and scaled where its bounds are others."""
    value = call.name("self")
    if low is None or not math.isfinite(low):
        return ()
    if high is None or high == math.inf:
        name: ActivationName = "relu"
        width = 1.0
    elif math.isfinite(high) and high > low:
        name = "relu6"
        width = (high - low) / 6
    else:
        return ()
    if low == 0 and width == 1:
        return (Activate(value, Activation(name)),)
    return (
        _uniform(call, value, 1 / width, -low / width),
        Activate(call.step(0), Activation(name)),
        _uniform(call, call.step(1), width, low),
    )


def _uniform(call: Call, value: str, scale: float, shift: float) -> Affine:
    """Return an affine function that is the same for all channels of the value of a call."""
    channels = call.shapes[call.node][0]
    return Affine(value, np.full(channels, scale), np.full(channels, shift))


# --- arithmetic


def _add(call: Call) -> Lowered:
    return _plus(call, float(call.arguments.get("alpha", 1)))


def _sub(call: Call) -> Lowered:
    return _plus(call, -float(call.arguments.get("alpha", 1)))


def _plus(call: Call, factor: float) -> Lowered:
    """Return self + factor * other, where one of them may be constant."""
    left, right = call.constant("self"), call.constant("other")
    if right is not None:
        return _affine(call, "self", np.ones(()), right * factor)
    if left is not None:
        return _affine(call, "other", np.asarray(factor), left)
    if call.shape("self") != call.shape("other"):
        return ()
    if factor == 1:
        return (Sum((call.name("self"), call.name("other"))),)
    return (
        _uniform(call, call.name("other"), factor, 0.0),
        Sum((call.name("self"), call.step(0))),
    )


def _rsub(call: Call) -> Lowered:
    other = call.constant("other")
    if other is None:
        return ()
    return _affine(call, "self", np.asarray(-float(call.arguments["alpha"])), other)


def _mul(call: Call) -> Lowered:
    for value, factor in (("self", "other"), ("other", "self")):
        constant = call.constant(factor)
        if constant is not None:
            return _affine(call, value, constant, np.zeros(()))
    return ()


def _div(call: Call) -> Lowered:
    divisor = call.constant("other")
    if divisor is None or not divisor.all() or call.arguments.get("rounding_mode"):
        return ()
    return _affine(call, "self", 1 / divisor, np.zeros(()))


def _neg(call: Call) -> Lowered:
    return (_uniform(call, call.name("self"), -1.0, 0.0),)


def _affine(call: Call, value: str, scale: Doubles, shift: Doubles) -> Lowered:
    """Return scale * value + shift, of constants that PyTorch would broadcast over the value."""
    shape = call.shape(value)
    if shape is None or shape != call.shapes[call.node]:  # a constant made the value larger
        return ()
    try:
        spread = [_spread(constant, shape) for constant in (scale, shift)]
    except ValueError:  # the constant differs from row to row
        return ()
    channels = [np.ascontiguousarray(part[:, 0]) for part in spread]
    if all((part == part[:, :1]).all() for part in spread):
        return (Affine(call.name(value), *channels),)
    # One number for each place: the places are features for a moment.
    return (
        Reshape(call.name(value), (numbers(shape),)),
        Affine(call.step(0), spread[0].ravel(), spread[1].ravel()),
        Reshape(call.step(1), network_shape(shape)),
    )


def _spread(constant: Doubles, shape: Shape) -> Doubles:
    """Return a constant for every place of a value, [channels, places]."""
    behind = constant.shape[-len(shape) :] if constant.ndim > len(shape) else constant.shape
    return np.broadcast_to(constant.reshape(behind), shape).reshape(shape[0], -1)


# --- pooling


def _max_pool(call: Call) -> Lowered:
    kernel = call.arguments["kernel_size"]
    pooling = Pooling(
        "max",
        _pair(kernel),
        _pair(call.arguments["stride"] or kernel),
        _pair(call.arguments["padding"], fill=0),
        _pair(call.arguments["dilation"]),
        bool(call.arguments["ceil_mode"]),
    )
    return _pooled(call, pooling)


def _average_pool(call: Call) -> Lowered:
    if call.arguments.get("divisor_override") is not None:
        return ()
    kernel = call.arguments["kernel_size"]
    pooling = Pooling(
        "average",
        _pair(kernel),
        _pair(call.arguments["stride"] or kernel),
        _pair(call.arguments["padding"], fill=0),
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
    size, target = network_shape(shape)[1:], _pair(call.arguments["output_size"])
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
    window = _pair(size)
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


# --- shape


def _reshape(call: Call) -> Lowered:
    """Return what gives the numbers of a value in the same order; the batch stays the first axis.

    The dimension of the batch is the same before and behind, so that no number changes example.
    """
    shape, result = call.shape("self"), call.shapes[call.node]
    if shape is None or numbers(shape) != numbers(result):
        return ()
    return (Reshape(call.name("self"), network_shape(result)),)


def _moved(call: Call) -> Lowered:
    """Return a transposition that keeps the order of the numbers, as axes of size 1 move."""
    shape, rank = call.shape("self"), len(call.shapes[call.node]) + 1
    order = list(range(rank))
    if "dims" in call.arguments:
        order = [dim % rank for dim in call.arguments["dims"]]
    else:
        first, second = call.arguments["dim0"] % rank, call.arguments["dim1"] % rank
        order[first], order[second] = second, first
    if shape is None or order[0] != 0:
        return ()
    wide = [axis for axis in order if axis and shape[axis - 1] > 1]
    return _reshape(call) if wide == sorted(wide) else ()


def _slice(call: Call) -> Lowered:
    """Return a slice that takes everything."""
    whole = call.shape("self") == call.shapes[call.node] and call.arguments["step"] == 1
    return _reshape(call) if whole else ()


def _expand(call: Call) -> Lowered:
    return _reshape(call) if call.shape("self") == call.shapes[call.node] else ()


def _first(call: Call) -> Lowered:
    return _reshape(call) if call.arguments["index"] == 0 else ()


def _cat(call: Call) -> Lowered:
    values, rank = call.arguments["tensors"], len(call.shapes[call.node]) + 1
    if call.arguments["dim"] % rank != 1 or any(v not in call.shapes for v in values):
        return ()
    return (Concatenate(tuple(value.name for value in values)),)


def _softmax(logarithm: bool) -> Callable[[Call], Lowered]:
    def rule(call: Call) -> Lowered:
        rank = len(call.shapes[call.node]) + 1
        if call.arguments["dim"] % rank != 1:
            return ()
        return (Softmax(call.name("self"), logarithm),)

    return rule


_ROW_BY_ROW = frozenset({
    "linear", "matmul", "mm", "addmm", "relu", "relu6", "silu", "hardswish", "sigmoid", "tanh",
    "gelu", "leaky_relu", "elu", "selu", "hardsigmoid", "hardtanh", "clamp", "clamp_min", "add",
    "sub", "rsub", "mul", "div", "neg", "clone", "_to_copy",
})  # fmt: skip
"""What acts on each row along the last axis by itself, in the same way."""

_RULES: dict[str, Callable[[Call], Lowered]] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": _addmm,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "relu": _activation("relu"),
    "relu6": _activation("relu6"),
    "silu": _activation("silu"),
    "hardswish": _activation("hardswish"),
    "sigmoid": _activation("sigmoid"),
    "tanh": _activation("tanh"),
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _elu,
    "selu": _selu,
    "hardsigmoid": _hardsigmoid,
    "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "clamp_min": _clamp("min", ""),
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
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
    "flatten": _reshape,
    "unflatten": _reshape,
    "view": _reshape,
    "_unsafe_view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "clone": _reshape,
    "contiguous": _reshape,
    "alias": _reshape,
    "detach": _reshape,
    "to": _reshape,
    "_to_copy": _reshape,
    "transpose": _moved,
    "permute": _moved,
    "slice": _slice,
    "expand": _expand,
    "getitem": _first,
    "cat": _cat,
    "softmax": _softmax(logarithm=False),
    "_softmax": _softmax(logarithm=False),
    "log_softmax": _softmax(logarithm=True),
    "_log_softmax": _softmax(logarithm=True),
}

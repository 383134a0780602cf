"""Which products linear layers and convolutions are, and the zeros around them."""

from collections.abc import Mapping, Sequence

import numpy as np

from gossamer.compression.lowering.calls import Call, Lowered, Rule, pair
from gossamer.compression.lowering.operations import Doubles, Pad, Product, Window
from gossamer.kernels.network import Pair


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
    kernel = pair(weight.shape[2:])
    dilation = pair(call.arguments["dilation"])
    before, after = _margins(call.arguments["padding"], kernel, dilation)
    padding = before if before == after else (0, 0)
    product = Product(
        call.name("input") if before == after else call.step(0),
        weight.reshape(len(weight), -1),
        np.zeros(len(weight)) if bias is None else bias,
        Window(kernel, pair(call.arguments["stride"]), padding, dilation, call.arguments["groups"]),
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
    both = pair(padding, fill=0)
    return both, both


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


RULES: Mapping[str, Rule] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": _addmm,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "pad": _pad,
    "constant_pad_nd": _pad,
}

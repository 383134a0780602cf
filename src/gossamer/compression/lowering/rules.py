"""From operations of PyTorch to operations of the runtime, one by one.

What stands in no table of the rules, or is used in a way that the runtime does not know, is not
lowered: it stays in PyTorch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from gossamer.compression.lowering import (
    linear_rules,
    pointwise_rules,
    pooling_rules,
    shape_rules,
)
from gossamer.compression.lowering.calls import Call, Lowered, Rule
from gossamer.compression.lowering.operations import Affine, Operation, Product
from gossamer.compression.lowering.tracing import operation_name, values_read
from gossamer.kernels.network import Shape

_LARGEST = float(np.finfo(np.float32).max)

_ROW_BY_ROW = frozenset({
    "linear", "matmul", "mm", "addmm", "relu", "relu6", "silu", "hardswish", "sigmoid", "tanh",
    "gelu", "leaky_relu", "elu", "selu", "hardsigmoid", "hardtanh", "clamp", "clamp_min", "add",
    "sub", "rsub", "mul", "div", "neg", "clone", "_to_copy",
})  # fmt: skip
"""What acts on each row along the last axis by itself, in the same way."""

_RULES: Mapping[str, Rule] = {
    **linear_rules.RULES,
    **pointwise_rules.RULES,
    **pooling_rules.RULES,
    **shape_rules.RULES,
}


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
    with np.errstate(all="ignore"):  # what comes out is looked at, and better than NumPy says it
        operations = rule(Call(node, arguments_by_name(node), shapes, constants))
    return operations if all(map(_fits_float32, operations)) else ()


def _fits_float32(operation: Operation) -> bool:
    """Tell whether the runtime can hold the numbers of an operation."""
    match operation:
        case Product(matrix=first, bias=second) | Affine(scale=first, shift=second):
            # Written so that what is no number does not fit.
            return all(bool((np.abs(array) <= _LARGEST).all()) for array in (first, second))
    return True


def arguments_by_name(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by the names of its schema, defaults among them."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return dict(zip(("self", "index"), node.args, strict=False))
    schema = node.target._schema.arguments
    bound = {a.name: a.default_value for a in schema if a.has_default_value()}
    bound |= {a.name: value for a, value in zip(schema, node.args, strict=False)}
    return bound | node.kwargs

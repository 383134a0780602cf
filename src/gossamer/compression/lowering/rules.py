"""From calls of PyTorch to operators of the engine, one by one.

What stands in no table of the rules, or is used in a way that the engine does not know, is not
lowered: it stays in PyTorch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from gossamer.compression.lowering.tracing import operation_name, values_read
from gossamer.compression.lowering.whole_numbers import are_exact, are_held
from gossamer.engine import (
    ANY_TYPE,
    PARTING,
    ROW_BY_ROW,
    RULES,
    Call,
    Doubles,
    Given,
    Lowered,
    Shape,
    Weights,
)

_LARGEST = float(np.finfo(np.float32).max)


def lower(
    node: fx.Node,
    shapes: Mapping[fx.Node, Shape],
    types: Mapping[fx.Node, str],
    constants: Mapping[fx.Node, Tensor],
    *,
    in_rows: bool = False,
) -> Lowered:
    """Return the operators that compute what a node of the graph computes.

    Parameters
    ----------
    node
        A call of a function of PyTorch.
    shapes
        Shape of one example of every value that a network may hold.
    types
        The types of their numbers.
    constants
        The value of every node that depends on parameters alone.
    in_rows
        Whether an example is a row along the last axis, whatever axes stand before it, instead of
        all behind the first axis. Then only what acts on each row by itself is lowered.
    """
    rule = RULES.get(operation_name(node))
    if in_rows and operation_name(node) not in ROW_BY_ROW:
        return ()
    values = values_read(node, constants)
    if rule is None or node not in shapes or not all(n in shapes for n in values):
        return ()
    if not _fits_types(node, values, types, constants):
        return ()

    def argument(read: fx.Node) -> Any:
        if read in constants:
            return partial(_numbers, constants[read])
        return Given(read.name, shapes[read], types[read]) if read in shapes else read

    arguments = fx.node.map_arg(arguments_by_name(node), argument)
    with np.errstate(all="ignore"):  # what comes out is looked at, and better than NumPy says it
        operators = rule(Call(node.name, shapes[node], arguments, types[node]))
    return operators if all(map(_fits_float32, operators)) else ()


_COMPARING = frozenset({"eq", "ge", "gt", "le", "lt", "ne"})
_OF_TRUTHS = frozenset(
    {"logical_and", "logical_not", "logical_or", "logical_xor", "bitwise_and", "bitwise_not",
     "bitwise_or", "bitwise_xor", "__and__", "__or__", "__xor__"}
)  # fmt: skip
_CHOOSING = frozenset({"where", "masked_fill"})
_ARITHMETIC = frozenset({"add", "sub", "rsub", "mul", "div", "maximum", "minimum", "pow"})
_BOUNDING = frozenset({"clamp", "clamp_min", "clamp_max", "maximum", "minimum"})
_COUNTING = frozenset({"add", "sub", "rsub", "mul", "neg", "cumsum"}) | _CHOOSING
_WHOLE = frozenset({"int32", "int64"})
_NUMBERS = ("value", "min", "max")
"""Arguments that results may hold; others are axes, lengths and the like."""


def _fits_types(
    node: fx.Node,
    values: Sequence[fx.Node],
    types: Mapping[fx.Node, str],
    constants: Mapping[fx.Node, Tensor],
) -> bool:
    """Tell whether a function does the same with float32, truth values being 1 and 0."""
    name, given, read = operation_name(node), types[node], {types[value] for value in values}
    if given in _WHOLE:
        numbers = arguments_by_name(node)
        plain = [number for key in _NUMBERS if (number := numbers.get(key)) is not None]
        if not are_held([*node.all_input_nodes, *plain], constants):
            return False
    if name == "sum" and read <= _WHOLE:
        return given in _WHOLE and are_exact(node, constants)
    if name in ANY_TYPE or name in _COMPARING:
        return True
    if name in _OF_TRUTHS:
        return {given, *read} == {"bool"}
    if name in _COUNTING and given in _WHOLE and read <= _WHOLE | {"bool"}:
        return are_exact(node, constants)
    if name in _CHOOSING:
        return given == "float32" and read <= {"bool", "float32"}
    if name in _ARITHMETIC and given == "float32":
        return True  # PyTorch makes numbers of float32 of all others first
    if name in _BOUNDING and {given, *read} <= _WHOLE:
        return True
    return {given, *read} == {"float32"}


def _numbers(tensor: Tensor) -> Doubles | NDArray[np.bool_]:
    found = tensor.detach().cpu()
    return (found if found.dtype == torch.bool else found.to(torch.float64)).numpy()


def _fits_float32(part: Any) -> bool:
    """Tell whether float32 can hold the numbers of an operator, or of a part of one."""
    for field in fields(part):
        content = getattr(part, field.name)
        content = content.values if isinstance(content, Weights) else content
        # Written so that what is no number does not fit.
        if isinstance(content, np.ndarray) and not (np.abs(content) <= _LARGEST).all():
            return False
        if field.name == "epilogue" and not _fits_float32(content):
            return False
    return True


def arguments_by_name(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by the names of its schema, defaults among them."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return _arguments_of_part(node)
    schema = node.target._schema.arguments
    bound = {a.name: a.default_value for a in schema if a.has_default_value()}
    bound |= {a.name: value for a, value in zip(schema, node.args, strict=False)}
    return bound | node.kwargs


def _arguments_of_part(node: fx.Node) -> dict[str, Any]:
    """Return what is taken of the results of a function that gives several.

    Where it parts a value along an axis, `starts` says where each part begins.
    """
    source, index = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(index, int)
    if not is_parting(source):
        return {"self": source, "index": index, "starts": None}
    dim = int(arguments_by_name(source).get("dim", 0))
    parts = source.meta["val"]
    single = operation_name(source) == "unbind"
    lengths = [1 if single else int(part.shape[dim]) for part in parts]
    starts = [0, *accumulate(lengths)][:-1]
    return {"self": source, "index": index % len(parts), "starts": starts, "dim": dim}


def is_parting(node: fx.Node) -> bool:
    """Tell whether a node gives a value in parts along an axis."""
    return operation_name(node) in PARTING

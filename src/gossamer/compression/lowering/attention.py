"""Attention that a model writes out as products and a softmax, as the one call that it is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.tracing import Trace, constants, operation_name

_aten = torch.ops.aten
_PASSED = frozenset({"clone", "contiguous", "dropout", "to", "_to_copy", "alias", "detach"})
"""Functions that give the numbers they are given, in evaluation mode."""


@dataclass(frozen=True)
class _Scores:
    """Scores as far as they are known, read backwards from a softmax.

    They are the product of `query` and the transposed `key`, times `scale`, plus `bias`, a tensor
    of minus infinity where pairs do not count.
    """

    query: fx.Node
    key: fx.Node
    scale: float
    bias: Tensor | None


def with_attention(trace: Trace) -> Trace:
    """Return a trace in which attention that is written out is `scaled_dot_product_attention`.

    That is softmax(query @ key.T * scale + mask) @ value, the scale wherever it stands, and the
    mask a constant that leaves every query some key: a row of minus infinity would give NaN.
    """
    graph, fixed = trace.graph, constants(trace.graph)
    changed = False
    for node in list(graph.graph.nodes):
        if operation_name(node) in ("matmul", "bmm") and len(node.all_input_nodes) == 2:
            changed = _replaced(node, graph.graph, fixed) or changed
    if changed:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return trace


def _replaced(node: fx.Node, graph: fx.Graph, fixed: Mapping[fx.Node, Tensor]) -> bool:
    """Write a product as attention if it is that."""
    shares, value = (n for n in _args(node)[:2] if isinstance(n, fx.Node))
    shares = _passed(shares)
    if operation_name(shares) not in ("softmax", "_softmax") or value in fixed:
        return False
    given = _args(shares)[0]
    rank = shares.meta["val"].dim()
    if _args(shares)[1] not in (-1, rank - 1) or not isinstance(given, fx.Node):
        return False
    scores = _scores(given, fixed)
    if scores is None or rank != value.meta["val"].dim():
        return False
    if scores.bias is not None and bool(torch.isneginf(scores.bias).all(dim=-1).any()):
        return False
    with graph.inserting_before(node):
        mask = None
        if scores.bias is not None:
            mask = _constant(graph, scores.bias)
        attention = graph.call_function(
            _aten.scaled_dot_product_attention.default,
            (scores.query, scores.key, value, mask),
            {"scale": scores.scale},
        )
    attention.meta = dict(node.meta)
    node.replace_all_uses_with(attention)
    return True


def _constant(graph: fx.Graph, tensor: Tensor) -> fx.Node:
    """Write a constant into a graph, as a buffer of its module."""
    module = graph.owning_module
    assert module is not None
    number = sum(name.startswith("attention_mask") for name, _ in module.named_buffers())
    name = f"attention_mask{number}"
    module.register_buffer(name, tensor)
    node = graph.get_attr(name)
    node.meta["val"] = tensor
    return node


def _args(node: fx.Node) -> tuple[Any, ...]:
    return node.args


def _passed(node: fx.Node) -> fx.Node:
    """Return what gives the numbers of a node."""
    while operation_name(node) in _PASSED and isinstance(_args(node)[0], fx.Node):
        node = _args(node)[0]
    return node


def _scores(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Scores | None:
    """Follow scores backwards to their queries and keys."""
    node = _passed(node)
    step = _STEPS.get(operation_name(node))
    return None if step is None else step(node, fixed)


def _product(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Scores | None:
    query, turned = (n for n in _args(node)[:2] if isinstance(n, fx.Node))
    (query, scale), (turned, more) = _scaled(query, fixed), _scaled(turned, fixed)
    rank = turned.meta["val"].dim()
    if query in fixed or turned in fixed or not _swaps_last(turned, rank):
        return None
    key = _args(turned)[0]
    assert isinstance(key, fx.Node)
    return _Scores(query, key, scale * more, None)


def _swaps_last(node: fx.Node, rank: int) -> bool:
    """Tell whether a node is a transposition of the last two axes."""
    if operation_name(node) == "permute":
        order = [dim % rank for dim in _args(node)[1]]
        return order == [*range(rank - 2), rank - 1, rank - 2]
    if operation_name(node) == "transpose":
        return {int(dim) % rank for dim in _args(node)[1:3]} == {rank - 2, rank - 1}
    return False


def _scaled(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> tuple[fx.Node, float]:
    """Return what a node multiplies with a number, and the number."""
    node, scale = _passed(node), 1.0
    while operation_name(node) in ("mul", "div") and isinstance(_args(node)[0], fx.Node):
        number = _number(_args(node)[1], fixed)
        if number is None:
            break
        scale = scale * number if operation_name(node) == "mul" else scale / number
        node = _passed(_args(node)[0])
    return node, scale


def _number(found: Any, fixed: Mapping[fx.Node, Tensor]) -> float | None:
    """Return a constant of one number."""
    if isinstance(found, fx.Node):
        tensor = fixed.get(found)
        return float(tensor) if tensor is not None and tensor.numel() == 1 else None
    return float(found) if isinstance(found, int | float) else None


def _times(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Scores | None:
    inner, scale = _scaled(node, fixed)
    scores = None if inner is node else _scores(inner, fixed)
    if scores is None or (scale <= 0 and scores.bias is not None):
        return None
    bias = None if scores.bias is None else scores.bias * scale
    return replace(scores, scale=scores.scale * scale, bias=bias)


def _plus(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Scores | None:
    """Read scores and a constant mask that are added."""
    for inner, mask in (_args(node)[:2], _args(node)[1::-1]):
        if isinstance(inner, fx.Node) and isinstance(mask, fx.Node) and mask in fixed:
            scores = _scores(inner, fixed)
            added = fixed[mask].detach().float()
            if scores is None or node.kwargs.get("alpha", 1) != 1:
                return None
            return replace(scores, bias=added if scores.bias is None else scores.bias + added)
    return None


def _filled(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Scores | None:
    """Read scores of which some are replaced by a number that leaves nothing of them."""
    if operation_name(node) == "where":
        mask, inner, number = _args(node)
        left_out = None if mask not in fixed else ~fixed[mask]
    else:
        inner, mask, number = _args(node)
        left_out = fixed.get(mask)
    least = _number(number, fixed)
    if left_out is None or least is None or not isinstance(inner, fx.Node):
        return None
    # A number as low as this leaves exp(number - peak) = 0 beside any score that is not as low.
    if least > -1e30 or left_out.dtype != torch.bool or bool(left_out.all(dim=-1).any()):
        return None
    scores = _scores(inner, fixed)
    added = torch.zeros(left_out.shape).masked_fill(left_out, -math.inf)
    if scores is None:
        return None
    return replace(scores, bias=added if scores.bias is None else scores.bias + added)


_Step = Callable[[fx.Node, Mapping[fx.Node, Tensor]], _Scores | None]
_STEPS: dict[str, _Step] = {
    "matmul": _product,
    "bmm": _product,
    "mul": _times,
    "div": _times,
    "add": _plus,
    "masked_fill": _filled,
    "where": _filled,
}

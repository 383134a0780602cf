"""Attention that a model writes out as products and a softmax, as the one call that it is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.patterns import added_constant, passed
from gossamer.compression.lowering.tracing import Trace, constants, operation_name

_aten = torch.ops.aten


@dataclass(frozen=True)
class _Scores:
    """Scores as far as they are known, read backwards from a softmax.

    They are the product of `query` and the transposed `key`, times `scale`, plus `bias`, a tensor
    of minus infinity where pairs do not count, plus a computed `mask`.
    """

    query: fx.Node
    key: fx.Node
    scale: float
    bias: Tensor | None = None
    mask: fx.Node | None = None

    def plus(self, bias: Tensor) -> "_Scores":
        """Return them with a constant added."""
        return replace(self, bias=bias if self.bias is None else self.bias + bias)


def with_attention(trace: Trace) -> Trace:
    """Return a trace in which attention that is written out is `scaled_dot_product_attention`.

    That is softmax(query @ key.T * scale + mask) @ value, the scale wherever it stands. A mask
    leaves every query some key, or is of finite numbers: a row of minus infinity would give NaN.
    Keys and values that are repeated for several heads are read where they are.
    """
    graph, fixed = trace.graph, constants(trace.graph)
    changed = False
    for node in list(graph.graph.nodes):
        if operation_name(node) in ("matmul", "bmm") and len(node.all_input_nodes) == 2:
            changed = _replaced(node, graph.graph, fixed) or changed
    for node in list(graph.graph.nodes):
        if operation_name(node) == "scaled_dot_product_attention":
            changed = _grouped(node) or changed
    if changed:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return trace


def _replaced(node: fx.Node, graph: fx.Graph, fixed: Mapping[fx.Node, Tensor]) -> bool:
    """Write a product as attention if it is that."""
    shares, value = (n for n in _args(node)[:2] if isinstance(n, fx.Node))
    shares = passed(shares)
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
        attention = graph.call_function(
            _aten.scaled_dot_product_attention.default,
            (scores.query, scores.key, value, _mask(graph, scores)),
            {"scale": scores.scale},
        )
    attention.meta = dict(node.meta)
    node.replace_all_uses_with(attention)
    return True


def _mask(graph: fx.Graph, scores: _Scores) -> fx.Node | None:
    """Write what is added to scores."""
    if scores.bias is None:
        return scores.mask
    bias = added_constant(graph, scores.bias, "attention_mask")
    if scores.mask is None:
        return bias
    both = graph.call_function(_aten.add.Tensor, (scores.mask, bias))
    both.meta = dict(scores.mask.meta)
    both.meta["val"] = scores.mask.meta["val"] + scores.bias
    return both


def _grouped(node: fx.Node) -> bool:
    """Let heads share keys and values that are the same for several of them."""
    query, key, value = _args(node)[:3]
    heads = query.meta["val"].shape[1]
    shared = [_before_repeating(one) for one in (key, value)]
    if query.meta["val"].dim() != 4 or any(one is None for one in shared):
        return False
    counts = {one.meta["val"].shape[1] for one in shared if one is not None}
    if len(counts) != 1 or heads % counts.pop():
        return False
    node.args = (query, *shared, *_args(node)[3:])
    node.kwargs = {**node.kwargs, "enable_gqa": True}
    return True


def _before_repeating(node: fx.Node) -> fx.Node | None:
    """Return keys or values of which each head stands several times, one after the other, once."""
    node = passed(node)
    if operation_name(node) == "repeat_interleave":
        given, times, dim = (*_args(node), None, None)[:3]
        return given if isinstance(times, int) and dim in (1, -3) else None
    if operation_name(node) not in ("view", "_unsafe_view", "reshape"):
        return None
    expanded = passed(_args(node)[0])
    if operation_name(expanded) != "expand":
        return None
    single = passed(_args(expanded)[0])
    if operation_name(single) != "unsqueeze" or _args(single)[1] not in (2, -3):
        return None
    given, wide = _args(single)[0], expanded.meta["val"].shape
    merged = node.meta["val"].shape
    fits = len(wide) == 5 and len(merged) == 4 and merged[1] == wide[1] * wide[2]
    return given if fits and list(merged[2:]) == list(wide[3:]) else None


def _args(node: fx.Node) -> tuple[Any, ...]:
    return node.args


def _scores(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Scores | None:
    """Follow scores backwards to their queries and keys."""
    node = passed(node)
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
    return _Scores(query, key, scale * more)


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
    node, scale = passed(node), 1.0
    while operation_name(node) in ("mul", "div") and isinstance(_args(node)[0], fx.Node):
        number = _number(_args(node)[1], fixed)
        if number is None:
            break
        scale = scale * number if operation_name(node) == "mul" else scale / number
        node = passed(_args(node)[0])
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
    if scores is None or scores.mask is not None or (scale <= 0 and scores.bias is not None):
        return None
    bias = None if scores.bias is None else scores.bias * scale
    return replace(scores, scale=scores.scale * scale, bias=bias)


def _plus(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Scores | None:
    """Read scores and a mask that are added."""
    if node.kwargs.get("alpha", 1) != 1:
        return None
    for inner, mask in (_args(node)[:2], _args(node)[1::-1]):
        if not isinstance(inner, fx.Node) or not isinstance(mask, fx.Node) or inner in fixed:
            continue
        scores = _scores(inner, fixed)
        if scores is None or node.meta["val"].shape != inner.meta["val"].shape:
            continue
        if mask in fixed:
            return scores.plus(fixed[mask].detach().float())
        if scores.mask is None and not _may_be_infinite(mask, fixed):
            return replace(scores, mask=mask)
    return None


def _may_be_infinite(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> bool:
    """Tell whether what a node gives is made of infinite numbers, as masks are."""
    waiting, seen = [node], {node}
    while waiting:
        one = waiting.pop()
        if one in fixed:
            if bool(torch.isinf(fixed[one]).any()):
                return True
            continue
        if any(isinstance(number, float) and math.isinf(number) for number in one.args):
            return True
        waiting += [n for n in one.all_input_nodes if n not in seen]
        seen.update(one.all_input_nodes)
    return False


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
    return scores.plus(added)


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

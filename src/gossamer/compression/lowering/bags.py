"""Bags of tokens, one in each row, as tokens that are looked up and the sum of what is found."""

from typing import Any

import torch
from torch import fx

from gossamer.compression.lowering.replacing import replaced
from gossamer.compression.lowering.rules import arguments_by_name
from gossamer.compression.lowering.tracing import Trace, operation_name

_aten = torch.ops.aten

_OVER = {0: _aten.sum.dim_IntList, 1: _aten.mean.dim, 2: _aten.amax.default}
"""What becomes of the numbers of a bag, by the mode of `embedding_bag`."""


def with_bags(trace: Trace) -> Trace:
    """Return a trace in which `EmbeddingBag` of tokens [batch, tokens] is `Embedding` and a sum.

    Bags with weights of their own, largest numbers of bags with padding, and bags given by where
    they begin stay as they are.
    """
    return replaced(trace, _looked_up)


def _looked_up(node: fx.Node) -> fx.Node | None:
    if operation_name(node) != "getitem" or node.args[1] != 0:
        return None
    bags: Any = node.args[0]
    if operation_name(bags) != "embedding_bag" or (tokens := _tokens(bags)) is None:
        return None
    given = arguments_by_name(bags)
    padding, mode = given.get("padding_idx"), int(given["mode"])
    rows = _called(node.graph, _aten.embedding.default, bags.args[0], tokens)
    if padding is None or padding < 0:
        return _called(node.graph, _OVER[mode], rows, [1])
    return _padded(node.graph, rows, tokens, padding, mean=mode == 1)


def _padded(
    graph: fx.Graph, rows: fx.Node, tokens: fx.Node, padding: int, *, mean: bool
) -> fx.Node:
    """Return the sum, or the mean, of what is looked up for tokens that are no padding."""
    counted = _called(graph, _aten.ne.Scalar, tokens, padding)
    there = _called(graph, _aten.unsqueeze.default, counted, 2)
    kept = _called(graph, _aten.where.ScalarOther, there, rows, 0.0)
    total = _called(graph, _aten.sum.dim_IntList, kept, [1])
    if not mean:
        return total
    count = _called(graph, _aten.sum.dim_IntList, counted, [1], True)
    return _called(graph, _aten.div.Tensor, total, _called(graph, _aten.clamp.default, count, 1))


def _called(graph: fx.Graph, target: Any, *args: Any) -> fx.Node:
    node = graph.call_function(target, args)
    node.meta["val"] = target(*fx.node.map_arg(args, lambda one: one.meta["val"]))
    return node


def _tokens(bags: fx.Node) -> fx.Node | None:
    """Return the tokens of which each row is a bag; None where bags are otherwise."""
    given = arguments_by_name(bags)
    if given.get("per_sample_weights") is not None or given.get("include_last_offset"):
        return None
    flat, starts = given["indices"], given["offsets"]
    if given.get("padding_idx") not in (None, -1) and int(given["mode"]) == 2:
        return None
    if operation_name(flat) not in ("reshape", "view"):
        return None
    tokens = flat.args[0]
    value = tokens.meta["val"]
    apart = operation_name(starts) == "arange" and value.dim() == 2
    return tokens if apart and (starts.args[0], starts.args[2:]) == (0, (value.shape[1],)) else None

"""Extremes along an axis with their places, as two calls."""

from typing import Any

import torch
from torch import fx

from gossamer.compression.lowering.rules import arguments_by_name
from gossamer.compression.lowering.tracing import Trace, operation_name

_aten = torch.ops.aten
_BOTH: dict[Any, tuple[Any, Any]] = {
    _aten.max.dim: (_aten.amax.default, _aten.argmax.default),
    _aten.min.dim: (_aten.amin.default, _aten.argmin.default),
}
"""What gives the number, and what its place, of functions that give both."""


def with_extremes(trace: Trace) -> Trace:
    """Return a trace in which the largest or smallest number and its place are a call each."""
    graph = trace.graph
    changed = False
    for node in list(graph.graph.nodes):
        several = node.args[0] if operation_name(node) == "getitem" else None
        if not isinstance(several, fx.Node) or several.target not in _BOTH:
            continue
        given = arguments_by_name(several)
        index = int(node.args[1])
        dim = [given["dim"]] if index == 0 else given["dim"]
        with graph.graph.inserting_before(node):
            call = graph.graph.call_function(
                _BOTH[several.target][index], (given["self"], dim, given["keepdim"])
            )
        call.meta = dict(node.meta)
        call.meta["nn_module_stack"] = several.meta.get("nn_module_stack", {})
        node.replace_all_uses_with(call)
        changed = True
    if changed:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return trace

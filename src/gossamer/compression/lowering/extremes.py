"""Extremes along an axis with their places, as two calls."""

from typing import Any

import torch
from torch import fx

from gossamer.compression.lowering.replacing import replaced
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
    return replaced(trace, _one_of_both)


def _one_of_both(node: fx.Node) -> fx.Node | None:
    several, index = node.args[:2] if operation_name(node) == "getitem" else (None, None)
    if not isinstance(several, fx.Node) or several.target not in _BOTH:
        return None
    given = arguments_by_name(several)
    dim = [given["dim"]] if index == 0 else given["dim"]
    function = _BOTH[several.target][1 if index else 0]
    call = node.graph.call_function(function, (given["self"], dim, given["keepdim"]))
    call.meta = dict(node.meta)
    call.meta["nn_module_stack"] = several.meta.get("nn_module_stack", {})
    return call

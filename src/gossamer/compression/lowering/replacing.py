"""Writing parts of a graph in other words, one node at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from gossamer.compression.lowering.tracing import Trace


def replaced(trace: Trace, rewritten: Callable[[fx.Node], fx.Node | None]) -> Trace:
    """Return a trace in which nodes stand for others.

    Parameters
    ----------
    trace
        Its graph is changed in place.
    rewritten
        From a node to what stands in its place, written before it; None where it stays.
    """
    graph = trace.graph
    changed = False
    for node in list(graph.graph.nodes):
        with graph.graph.inserting_before(node):
            found = rewritten(node)
        if found is not None:
            node.replace_all_uses_with(found)
            changed = True
    if changed:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return trace


def called(node: fx.Node, target: Any, *args: Any) -> fx.Node:
    """Write a call into a graph that stands where a node stands in the model."""
    found = node.graph.call_function(target, args)
    found.meta = {key: value for key, value in node.meta.items() if key != "val"}
    with torch.no_grad():
        found.meta["val"] = target(*fx.node.map_arg(args, lambda one: one.meta["val"]))
    return found

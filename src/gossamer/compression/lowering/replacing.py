"""Writing parts of a graph in other words, one node at a time."""

from collections.abc import Callable

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

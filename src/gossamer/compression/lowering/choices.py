"""What lies at a place that is computed for each example, as a sum of all places but one of zeros.

Such are the state of the last token by the lengths of sequences, and the score of a class by its
number. A place beyond the end gives no number, where PyTorch refuses it; so does one before the
first, which PyTorch counts from the end where it indexes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.patterns import added_constant
from gossamer.compression.lowering.replacing import replaced
from gossamer.compression.lowering.tracing import Trace, numbers_of_examples, operation_name

_aten = torch.ops.aten
_WHOLE = (torch.int32, torch.int64)


def with_choices(trace: Trace) -> Trace:
    """Return a trace in which `x[numbers of the examples, places]` and `gather` are sums.

    That is so where each example has one place along the axis; others stay as they are.
    """
    named = any(operation_name(node) == "index" for node in trace.graph.graph.nodes)
    counting = numbers_of_examples(trace.graph) if named else set()
    return replaced(trace, lambda node: _gathered(node) or _indexed(node, counting))


def _caller(node: fx.Node) -> Callable[..., fx.Node]:
    """Return what writes calls into a graph that stand where a node stands in the model."""

    def call(target: Any, *args: Any) -> fx.Node:
        found = node.graph.call_function(target, args)
        found.meta = {key: value for key, value in node.meta.items() if key != "val"}
        with torch.no_grad():
            found.meta["val"] = target(*fx.node.map_arg(args, lambda one: one.meta["val"]))
        return found

    return call


def _gathered(node: fx.Node) -> fx.Node | None:
    """Write `gather(x, dim, places)` of one place along the axis."""
    if operation_name(node) != "gather":
        return None
    given, dim, places = node.args[:3]
    if not isinstance(given, fx.Node) or not isinstance(places, fx.Node):
        return None
    shape, chosen = given.meta["val"].shape, places.meta["val"].shape
    assert isinstance(dim, int)
    dim %= len(shape)
    alike = all(
        str(a) == str(b) for at, (a, b) in enumerate(zip(shape, chosen, strict=True)) if at != dim
    )
    if dim == 0 or not alike or chosen[dim] != 1:
        return None
    return _chosen(node, given, places, dim, keep=True)


def _indexed(node: fx.Node, counting: set[fx.Node]) -> fx.Node | None:
    """Write `x[numbers of the examples, places]` of one place for each example."""
    if operation_name(node) != "index":
        return None
    given, listed = tuple[Any, ...](node.args)
    if not isinstance(listed, list | tuple) or len(listed) != 2 or listed[0] not in counting:
        return None
    places = listed[1]
    value = places.meta["val"] if isinstance(places, fx.Node) else None
    if not isinstance(value, Tensor) or value.dtype not in _WHOLE or value.dim() != 1:
        return None
    if str(value.shape[0]) != str(given.meta["val"].shape[0]):
        return None
    call = _caller(node)
    places, shift = _unshifted(places)
    for _ in range(given.meta["val"].dim() - 1):
        places = call(_aten.unsqueeze.default, places, -1)
    return _chosen(node, given, places, 1, keep=False, shift=shift)


def _unshifted(places: fx.Node) -> tuple[fx.Node, int]:
    """Return whole numbers before a constant was added to them, and that."""
    name = operation_name(places)
    if name not in ("add", "sub") or places.kwargs:
        return places, 0
    first, other = places.args[:2]
    if not isinstance(first, fx.Node) or type(other) is not int:
        return places, 0
    return first, other if name == "add" else -other


def _chosen(
    node: fx.Node, given: fx.Node, places: fx.Node, dim: int, *, keep: bool, shift: int = 0
) -> fx.Node | None:
    """Write the numbers at places, which have as many axes as what is given, along one of these."""
    value = given.meta["val"]
    if value.dtype != torch.float32 or not isinstance(value.shape[dim], int):
        return None
    call = _caller(node)
    numbers = torch.arange(value.shape[dim]) - shift
    shape = [1] * value.dim()
    shape[dim] = len(numbers)
    known = added_constant(node.graph, numbers.reshape(shape), "numbers")
    there = call(_aten.eq.Tensor, known, places)
    kept = call(_aten.where.ScalarOther, there, given, 0.0)
    total = call(_aten.sum.dim_IntList, kept, [dim], keep)
    # One place is there, or none: then 0 is divided by 0.
    return call(_aten.div.Tensor, total, call(_aten.sum.dim_IntList, there, [dim], keep))

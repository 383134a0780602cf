"""What lies at places that are computed for each example, such as the last token of a sequence.

PyTorch counts the examples beside the places, as in `x[torch.arange(len(x)), lengths - 1]`; here
they are those of each example along an axis.
"""

from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.replacing import called, replaced
from gossamer.compression.lowering.tracing import Trace, numbers_of_examples, operation_name

_aten = torch.ops.aten
_WHOLE = (torch.int32, torch.int64)


@torch.library.custom_op("gossamer::at_places", mutates_args=())
def _at_places(given: Tensor, dim: int, places: Tensor) -> Tensor:
    """Return what lies at places along an axis, from the end where they are below 0.

    Both have as many axes, and lengths that are the same or 1 along the others.
    """
    length = given.shape[dim]
    if bool(((places < -length) | (places >= length)).any()):
        raise IndexError(f"a place is out of bounds for an axis of length {length}")
    return torch.take_along_dim(given, torch.where(places < 0, places + length, places), dim)


@_at_places.register_fake
def _(given: Tensor, dim: int, places: Tensor) -> Tensor:
    pairs = zip(given.shape, places.shape, strict=True)
    shape = [b if at == dim or a == 1 else a for at, (a, b) in enumerate(pairs)]
    return given.new_empty(shape)


def with_choices(trace: Trace) -> Trace:
    """Return a trace in which `x[numbers of the examples, places, ...]` reads along its axes.

    That is so where what is read has the batch in front, and each example places of its own.
    """
    if not any(operation_name(node) == "index" for node in trace.graph.graph.nodes):
        return trace
    counting = numbers_of_examples(trace.graph)
    return replaced(trace, lambda node: _indexed(node, counting))


def _indexed(node: fx.Node, counting: set[fx.Node]) -> fx.Node | None:
    if operation_name(node) != "index":
        return None
    given, listed = tuple[Any, ...](node.args)
    if not isinstance(listed, list | tuple) or listed[0] not in counting:
        return None
    chosen = {dim: one for dim, one in enumerate(listed) if dim and one is not None}
    value, batch = given.meta["val"], listed[0].meta["val"]
    if not chosen or not all(_are_places(one, batch, value) for one in chosen.values()):
        return None
    behind = max(one.meta["val"].dim() for one in chosen.values()) - 1
    # With the batch in front, axes of places follow it, as PyTorch puts them if any lie apart.
    adjacent = list(chosen) == list(range(1, len(chosen) + 1))
    if not adjacent and behind > 0:
        return None
    return _read_along(node, given, chosen, behind)


def _are_places(one: Any, batch: Tensor, value: Tensor) -> bool:
    """Tell whether a node holds places for each example, beside the numbers of the examples."""
    found = one.meta.get("val") if isinstance(one, fx.Node) else None
    if not isinstance(found, Tensor) or found.dtype not in _WHOLE or found.dim() != batch.dim():
        return False
    if any(size != 1 for size in batch.shape[1:]):
        return False
    return bool(found.dim()) and str(found.shape[0]) == str(value.shape[0])


def _read_along(
    node: fx.Node, given: fx.Node, chosen: dict[int, fx.Node], behind: int
) -> fx.Node | None:
    """Write one reading for each axis that has places, the first with all axes of the places."""
    if len(chosen) > 1 and behind > 0:
        return None
    (first, places), *others = chosen.items()
    if behind > 1:
        return None
    # From the last axis on, so that those before keep their numbers when one goes.
    for dim, one in sorted([(first, places), *others], reverse=True):
        value: Tensor = given.meta["val"]
        shape = [1] * value.dim()
        shape[0], shape[dim] = -1, int(one.meta["val"].shape[1]) if behind else 1
        at = called(node, _aten.reshape.default, one, shape)
        given = called(node, torch.ops.gossamer.at_places.default, given, dim, at)
        if not behind:
            given = called(node, _aten.squeeze.dim, given, dim)
    return given

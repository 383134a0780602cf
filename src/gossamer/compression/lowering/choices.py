"""What lies at places that are computed for each example, such as the last token of a sequence.

PyTorch counts the examples beside the places, as in `x[torch.arange(len(x)), lengths - 1]`; here
they are those of each example along an axis. Places along several axes that are the same for all
examples, as in `x[:, rows, columns]`, are places along one, and what a mask of truth values has
written, as in `x[x < 0] = 0`, is chosen number by number.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.patterns import added_constant
from gossamer.compression.lowering.replacing import called, replaced
from gossamer.compression.lowering.tracing import (
    Trace,
    constants,
    numbers_of_examples,
    operation_name,
)

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
    names = {operation_name(node) for node in trace.graph.graph.nodes}
    if "index_put" in names:
        trace = replaced(trace, _written_by_mask)
    if "index" not in names:
        return trace
    counting, fixed = numbers_of_examples(trace.graph), constants(trace.graph)
    return replaced(trace, lambda node: _indexed(node, counting) or _at_pairs(node, fixed))


def _written_by_mask(node: fx.Node) -> fx.Node | None:
    """Write one number in the places of a mask of the same shape."""
    if operation_name(node) != "index_put" or any((*node.args, False)[3:4]):
        return None
    given, listed, written = tuple[Any, ...](node.args[:3])
    found = [one.meta["val"] for one in (given, *listed, written) if isinstance(one, fx.Node)]
    if len(listed) != 1 or len(found) != 3 or found[1].dtype != torch.bool:
        return None
    # Symbols are compared as they are written: comparing them as numbers would guess.
    alike = str(found[0].shape) == str(found[1].shape) and found[0].dtype == found[2].dtype
    if not alike or found[2].dim():
        return None
    return called(node, _aten.where.self, listed[0], written, given)


def _at_pairs(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> fx.Node | None:
    """Read along one axis what lies at known places of neighbouring axes, or of several axes."""
    if operation_name(node) != "index":
        return None
    given, listed = tuple[Any, ...](node.args)
    chosen = {dim: one for dim, one in enumerate(listed) if one is not None}
    first, last = min(chosen), max(chosen)
    sizes = list(given.meta["val"].shape[first : last + 1])
    several = len(chosen) > 1 or any(one.meta["val"].dim() > 1 for one in chosen.values())
    known = all(one in fixed and fixed[one].dtype in _WHOLE for one in chosen.values())
    plain = all(isinstance(size, int) for size in sizes) and last - first + 1 == len(chosen)
    if not (first and several and known and plain):
        return None
    places = torch.zeros(1, dtype=torch.int64)
    for size, one in zip(sizes, chosen.values(), strict=True):
        places = places * size + fixed[one] % size
    shape = list(torch.broadcast_tensors(*(fixed[one] for one in chosen.values()))[0].shape)  # type: ignore[no-untyped-call]
    flat = called(node, _aten.flatten.using_ints, given, first, last)
    held = added_constant(node.graph, places.flatten(), "places")
    found = called(node, _aten.index_select.default, flat, first, held)
    return called(node, _aten.unflatten.int, found, first, shape) if len(shape) != 1 else found


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

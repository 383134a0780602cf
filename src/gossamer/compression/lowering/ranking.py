"""Numbers in their order, and their places, as a call each of one operation.

Of numbers that are alike PyTorch says no order, but for stable sorts; here the first comes first.
"""

from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.replacing import called, replaced
from gossamer.compression.lowering.rules import arguments_by_name
from gossamer.compression.lowering.tracing import Trace, operation_name

_aten = torch.ops.aten


@torch.library.custom_op("gossamer::ranked", mutates_args=())
def _ranked(
    given: Tensor, dim: int, first: int, count: int, descending: bool, places: bool
) -> Tensor:
    """Return some of the numbers along an axis in their order, or their places."""
    found = given.sort(dim=dim, descending=descending, stable=True)
    return (found.indices if places else found.values).narrow(dim, first, count).clone()


@_ranked.register_fake
def _(given: Tensor, dim: int, _: int, count: int, *others: bool) -> Tensor:
    shape = list(given.shape)
    shape[dim] = count
    return given.new_empty(shape, dtype=torch.int64 if others[-1] else given.dtype)


def with_ranks(trace: Trace) -> Trace:
    """Return a trace in which `topk`, `sort`, `argsort`, `kthvalue` and `median` are ranks."""
    return replaced(trace, _written)


def _written(node: fx.Node) -> fx.Node | None:
    if operation_name(node) == "argsort":
        return _of(node, node, places=True)
    several, index = node.args[:2] if operation_name(node) == "getitem" else (None, None)
    if not isinstance(several, fx.Node) or operation_name(several) not in _RANKING:
        return None
    return _of(node, several, places=bool(index == 1))


_RANKING = frozenset({"topk", "sort", "kthvalue", "median"})


def _of(node: fx.Node, call: fx.Node, *, places: bool) -> fx.Node | None:
    given = arguments_by_name(call)
    source, dim = given["self"], given.get("dim")
    value = source.meta["val"]
    if dim is None or not value.dim() or not isinstance(size := value.shape[dim], int):
        return None
    if not isinstance(k := given.get("k", 1), int):
        return None  # it depends on how many examples there are
    name = operation_name(call)
    first, count, descending = 0, size, bool(given.get("descending", False))
    if name == "topk":
        count, descending = k, given["largest"]
    elif name == "kthvalue":
        first, count = k - 1, 1
    elif name == "median":
        # What is no number is the median of all that it is among.
        return None if places else _median(node, source, dim % value.dim(), given["keepdim"])
    arguments = (source, dim % value.dim(), first, count, descending, places)
    found = called(node, torch.ops.gossamer.ranked.default, *arguments)
    if name == "kthvalue" and not given["keepdim"]:
        found = called(node, _aten.squeeze.dim, found, dim % value.dim())
    return found


def _median(node: fx.Node, source: Any, dim: int, keepdim: bool) -> fx.Node:
    size = int(source.meta["val"].shape[dim])
    ranked = torch.ops.gossamer.ranked.default
    middle = called(node, ranked, source, dim, (size - 1) // 2, 1, False, False)
    largest = called(node, ranked, source, dim, size - 1, 1, False, False)
    nothing = called(node, _aten.ne.Tensor, largest, largest)
    found = called(node, _aten.where.self, nothing, largest, middle)
    return found if keepdim else called(node, _aten.squeeze.dim, found, dim)

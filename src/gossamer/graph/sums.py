"""Whether numbers that lie along an axis are summed up, so that none of them goes by itself."""

import contextlib
from typing import Any

import torch
from torch import Tensor, fx

from gossamer.graph.axes import LOST, followed, lengths, operation
from gossamer.graph.calls import Call, Graph, Value, found_in
from gossamer.graph.normalisations import is_normalisation, normalises_last

_PICKING = {"getitem": "__getitem__", **{name: name for name in ("unbind", "select", "chunk")}}
_MARK = 1009
"""Lengths that no model has, so that an axis is known again."""


def summed_up(graph: Graph, value: Value, axis: int) -> bool:
    """Tell whether a product, a softmax or a normalisation takes all numbers along an axis at once.

    Or an index, which tells them apart. Sums that weights of a layer make do not count, as each
    number has weights of its own there.

    Parameters
    ----------
    graph
        What the network computes, with shapes.
    value, axis
        Where the axis lies, from the back.
    """
    reached = {value: axis}
    pending = [value]
    while pending:
        before = pending.pop()
        for user in graph.users.get(before, ()):
            call = user.call
            assert call is not None
            if _sums(call, before, reached[before]):
                return True
            place = place_in(call, reached[before], before, user)
            if not place and operation(call) in _PICKING:
                return True
            if user not in reached and place:
                reached[user] = place
                pending.append(user)
    return False


def _sums(call: Call, value: Value, axis: int) -> bool:
    name, rank = operation(call), len(value.shape or ())
    if name in ("matmul", "bmm"):
        return axis == (-1 if value is call.argument(0, "input") else -2)
    if name == "scaleddotproductattention":
        across = value in (call.argument(0, "query"), call.argument(1, "key"))
        return axis == -1 if across else axis == -2
    if name in ("softmax", "logsoftmax"):
        over = getattr(call.module, "dim", call.argument(1, "dim"))
        return isinstance(over, int) and over % rank - rank == axis
    if name == "einsum" and isinstance(call.args[0], str):
        return _letter_goes(call, value, axis)
    return is_normalisation(call) and normalises_last(call) and axis == -1


def _letter_goes(call: Call, value: Value, axis: int) -> bool:
    left, _, result = call.args[0].replace(" ", "").partition("->")
    terms = zip(left.split(","), found_in(call.args[1:], _is_value), strict=False)
    return any(one is value and term[axis] not in result for term, one in terms)


def place_in(call: Call, axis: int, given: Value, result: Value) -> int:
    """Return where an axis of the one value that a call acts on lies in a result.

    It is `axes.LOST` where the call parts it or that is not known.
    """
    name, shape = operation(call), given.shape or ()
    if name in ("expand", "repeat", "cat", "mul", "add"):
        return axis
    if name not in _PICKING:
        return followed(call, axis, given, result) or LOST
    marks = [_MARK + place for place in range(len(shape))]
    args = fx.node.map_aggregate(call.args[1:], _as_index)
    with contextlib.suppress(Exception):
        act: Any = getattr(torch.empty(marks, device="meta"), _PICKING[name])
        found = act(*args, **call.kwargs)
        first: Tensor = found if isinstance(found, Tensor) else found[0]
        return list(first.shape).index(marks[axis]) - first.dim()
    return LOST


def _as_index(part: Any) -> Any:
    """Return indices of no numbers in place of a value, and all else as it is."""
    if not isinstance(part, Value):
        return part
    return torch.empty(lengths(part.shape) or (), dtype=torch.int64, device="meta")


def _is_value(part: object) -> bool:
    return isinstance(part, Value)

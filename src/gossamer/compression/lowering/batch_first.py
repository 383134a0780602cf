"""Graphs in which the batch is the first axis of every value.

PyTorch's attention puts the tokens before the batch, or counts the heads of all examples along one
axis, and recurrent layers take the time first unless they are told otherwise. Rules of lowering see
one example of a value behind its first axis. So where the batch lies elsewhere, the graph is
written anew: a value then holds the same numbers with the batch in front, and each operation the
axes that it works on.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import SymInt, Tensor, fx

from gossamer.compression.lowering.batch_writing import Held, UnknownError, Writer, Written
from gossamer.compression.lowering.rules import arguments_by_name
from gossamer.compression.lowering.tracing import Trace, operation_name

_aten = torch.ops.aten


def with_batch_first(trace: Trace) -> Trace:
    """Return a trace with the batch in front of every value where that can be.

    It is the same where the batch is in front everywhere, or its size fixed.
    """
    graph = trace.graph
    entry = next(node for node in graph.graph.nodes if _is_input(node))
    batch = entry.meta["val"].shape[0]
    if not isinstance(batch, SymInt):
        return trace
    symbol = batch.node.expr
    places = {node: _place(node.meta.get("val"), symbol) for node in graph.graph.nodes}
    if all(place in (None, (0, 1)) for place in places.values()):
        return trace
    return replace(trace, graph=Writer(graph, places, _RULES).written())


def _is_input(node: fx.Node) -> bool:
    return node.op == "placeholder" and isinstance(node.meta.get("val"), Tensor)


def _place(value: Any, symbol: Any) -> tuple[int, int] | None:
    """Return the axis of the batch and how often it lies there; None for what has no such axis."""
    if not isinstance(value, Tensor):
        return None
    found = [
        (axis, size.node.expr / symbol)
        for axis, size in enumerate(tuple[Any, ...](value.shape))
        if isinstance(size, SymInt) and size.node.expr.has(symbol)
    ]
    if len(found) != 1 or not found[0][1].is_Integer:
        return None
    return found[0][0], int(found[0][1])


def _args(node: fx.Node) -> tuple[Any, ...]:
    return node.args


def _axes(node: fx.Node) -> int:
    return int(node.meta["val"].dim())


def _new_axis(held: Held, rank: int, dim: int) -> int:
    """Return where an axis of a value that is held lies in the new one, the batch in front."""
    dim %= rank
    if dim == held.axis and len(held.kept) != 1:
        raise UnknownError
    return dim + 1 if dim <= held.axis else dim + len(held.kept)


def _same(writer: Writer, node: fx.Node) -> Held:
    """Do the same to each number, or to each row along the last axes."""
    value, held = writer.only(node)
    name = operation_name(node)
    last = 1 if name == "linear" else len(_args(node)[1]) if name.endswith("_norm") else 0
    writer.expect(node, held)
    if held.axis >= _axes(value) - last:
        raise UnknownError
    args, kwargs = fx.node.map_arg(
        (_args(node), node.kwargs), lambda n: held.node if n is value else writer.as_it_was(n)
    )
    return held.holding(writer.call(node, node.target, *args, **kwargs))


def _both(writer: Writer, node: fx.Node) -> Held:
    """Do something to the numbers of two values, one of which may be constant."""
    values = [n for n in _args(node) if isinstance(n, fx.Node) and writer.places[n] is not None]
    found = [writer.held(n) for n in values]
    rank = _axes(node)
    if any(
        h.place != found[0].place or _axes(n) != rank for h, n in zip(found, values, strict=True)
    ):
        raise UnknownError
    writer.expect(node, found[0])

    def operand(n: Any) -> Any:
        if not isinstance(n, fx.Node):
            return n
        if n in values:
            return found[values.index(n)].node
        return _constant(writer, n, found[0], rank)

    args = [operand(n) for n in _args(node)]
    return found[0].holding(writer.call(node, node.target, *args, **node.kwargs))


def _constant(writer: Writer, node: fx.Node, held: Held, rank: int) -> fx.Node:
    """Return a constant that is the same for all examples, as a value is held."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() > rank or not _plain(value.shape):
        raise UnknownError
    shape = [1] * (rank - value.dim()) + [int(size) for size in value.shape]
    if shape[held.axis] != 1:
        raise UnknownError
    shape[held.axis : held.axis + 1] = [1] * len(held.kept)
    return writer.call(node, _aten.reshape.default, writer.as_it_was(node), [1, *shape])


def _plain(shape: Sequence[Any]) -> bool:
    return all(isinstance(size, int) for size in shape)


def _permute(writer: Writer, node: fx.Node) -> Held:
    value, held = writer.only(node)
    rank = _axes(value)
    order = list(range(rank))
    if operation_name(node) == "permute":
        order = [dim % rank for dim in _args(node)[1]]
    else:
        first, second = (int(dim) % rank for dim in _args(node)[1:3])
        order[first], order[second] = second, first
    first = held.axis + 1
    batch = range(first, first + len(held.kept))
    moved = [0]
    for dim in order:
        moved += batch if dim == held.axis else [_new_axis(held, rank, dim)]
    axis = order.index(held.axis)
    return replace(held, node=writer.permuted(node, held.node, moved), axis=axis)


def _reshape(writer: Writer, node: fx.Node) -> Held:
    """Give another shape: as many numbers of an example must change faster than the batch."""
    value, held = writer.only(node)
    axis, times = writer.places[node] or (0, 1)
    shape = list(node.meta["val"].shape)
    old, new = value.meta["val"].shape[held.axis + 1 :], shape[axis + 1 :]
    if not _plain(old) or not _plain(new):
        raise UnknownError
    behind, left = divmod(math.prod(old) * held.behind, math.prod(new))
    if left or times % behind:
        raise UnknownError
    found = Held(held.node, axis, times // behind, behind)
    shape[axis : axis + 1] = found.kept
    return found.holding(writer.call(node, _aten.reshape.default, held.node, [-1, *shape]))


def _expand(writer: Writer, node: fx.Node) -> Held:
    """Repeat axes of length 1 that are not the batch."""
    value, held = writer.only(node)
    writer.expect(node, held)
    if _axes(value) != _axes(node):
        raise UnknownError
    shape = list(node.meta["val"].shape)
    shape[held.axis : held.axis + 1] = held.kept
    return held.holding(writer.call(node, _aten.expand.default, held.node, [-1, *shape]))


def _along(writer: Writer, node: fx.Node) -> Held:
    """Do something along one axis that is not that of the batch."""
    value, held = writer.only(node)
    dim = int(_args(node)[1]) % _axes(value) if len(_args(node)) > 1 else 0
    if dim == held.axis:
        raise UnknownError
    args = [writer.as_it_was(n) if isinstance(n, fx.Node) else n for n in _args(node)[2:]]
    place = _new_axis(held, _axes(value), dim)
    found = writer.call(node, node.target, held.node, place, *args)
    fewer = _axes(node) < _axes(value) and dim < held.axis
    return replace(held, node=found, axis=held.axis - fewer)


def _reduced(writer: Writer, node: fx.Node) -> Held:
    """Reduce axes that are not that of the batch."""
    value, held = writer.only(node)
    rank, named = _axes(value), arguments_by_name(node)
    if named["dim"] is None or named.get("dtype") is not None:
        raise UnknownError
    dims = [dim % rank for dim in named["dim"]]
    if held.axis in dims:
        raise UnknownError
    places = [_new_axis(held, rank, dim) for dim in dims]
    found = writer.call(node, node.target, held.node, places, named["keepdim"])
    fewer = 0 if named["keepdim"] else sum(dim < held.axis for dim in dims)
    return replace(held, node=found, axis=held.axis - fewer)


def _product(writer: Writer, node: fx.Node) -> Held:
    """Multiply matrices of two values, one for each example, or for several."""
    left, right = (n for n in _args(node)[:2] if isinstance(n, fx.Node))
    if writer.places[right] is None:
        return _constant_product(writer, node, left, right)
    found = [writer.held(left), writer.held(right)]
    if found[0].place != found[1].place or _axes(left) != _axes(right):
        raise UnknownError
    if found[0].axis >= _axes(left) - 2:
        raise UnknownError
    return found[0].holding(writer.call(node, _aten.matmul.default, found[0].node, found[1].node))


def _constant_product(writer: Writer, node: fx.Node, left: fx.Node, right: fx.Node) -> Held:
    """Multiply rows, of all examples along one axis, with constant matrices."""
    held = writer.held(left)
    rank = _axes(left)
    if held.axis != rank - 2 or len(held.kept) > 1 or not 2 <= _axes(right) <= rank:
        raise UnknownError
    # A row is left of each example where nothing else lay along the axis of the batch.
    several = bool(held.kept) or _axes(right) == 2
    rows = held.node if several else writer.call(node, _aten.unsqueeze.default, held.node, -2)
    product = writer.call(node, _aten.matmul.default, rows, writer.as_it_was(right))
    return held.holding(product if several else writer.call(node, _aten.squeeze.dim, product, -2))


def _added_product(writer: Writer, node: fx.Node) -> Held:
    """Write `baddbmm` as a product and a sum."""
    beta, alpha = node.kwargs.get("beta", 1), node.kwargs.get("alpha", 1)
    bias, left, right = (n for n in _args(node)[:3] if isinstance(n, fx.Node))
    found = [writer.held(left), writer.held(right)]
    if found[0].place != found[1].place:
        raise UnknownError
    product = writer.call(node, _aten.matmul.default, found[0].node, found[1].node)
    product = writer.call(node, _aten.mul.Tensor, product, alpha)
    if beta == 0:
        return found[0].holding(product)
    if writer.places[bias] is None:
        added = _constant(writer, bias, found[0], _axes(node))
    elif writer.held(bias).place == found[0].place:
        added = writer.held(bias).node
    else:
        raise UnknownError
    added = writer.call(node, _aten.mul.Tensor, added, beta)
    return found[0].holding(writer.call(node, _aten.add.Tensor, product, added))


def _linear(writer: Writer, node: fx.Node) -> Held:
    """Write `addmm` and `mm` of tokens of all examples as a product over the features of each."""
    *bias, tokens, matrix = (n for n in _args(node) if isinstance(n, fx.Node))
    value, held = writer.only(node)
    writer.expect(node, held)
    if value is not tokens or held.axis != 0 or node.kwargs or writer.places[matrix] is not None:
        raise UnknownError
    turned = writer.call(node, _aten.permute.default, writer.as_it_was(matrix), [1, 0])
    added = [writer.as_it_was(one) for one in bias]
    return held.holding(writer.call(node, _aten.linear.default, held.node, turned, *added))


def _attended(writer: Writer, node: fx.Node) -> Held:
    """Attend within each of several examples, as windows of images are."""
    query, key, value, *rest = _args(node)
    found = [writer.held(one) for one in (query, key, value)]
    if any(h.place != found[0].place for h in found) or found[0].axis >= _axes(query) - 2:
        raise UnknownError
    mask = rest[0] if rest else node.kwargs.get("attn_mask")
    if isinstance(mask, fx.Node):
        if writer.places[mask] is None:
            mask = _constant(writer, mask, found[0], _axes(query))
        elif writer.held(mask).place == found[0].place:
            mask = writer.held(mask).node
        else:
            raise UnknownError
    kwargs = {name: one for name, one in node.kwargs.items() if name != "attn_mask"}
    read = [h.node for h in found]
    return found[0].holding(writer.call(node, node.target, *read, mask, *rest[1:], **kwargs))


def _joined(writer: Writer, node: fx.Node) -> Held:
    values, *rest = _args(node)
    found = [writer.held(n) for n in values]
    if any(h.place != found[0].place for h in found):
        raise UnknownError
    dim = int(rest[0]) % _axes(node) if rest else 0
    if dim == found[0].axis:
        raise UnknownError
    place = _new_axis(found[0], _axes(node), dim)
    return found[0].holding(writer.call(node, node.target, [h.node for h in found], place))


def _stacked(writer: Writer, node: fx.Node) -> Held:
    """Put values beside each other along an axis of its own, as the answers of several networks."""
    values, *rest = _args(node)
    found = [writer.held(n) for n in values]
    if any(h.place != found[0].place for h in found):
        raise UnknownError
    dim = int(rest[0]) % _axes(node) if rest else 0
    held = replace(found[0], axis=found[0].axis + (dim <= found[0].axis))
    place = _new_axis(held, _axes(node), dim)
    return held.holding(writer.call(node, node.target, [h.node for h in found], place))


def _taken(writer: Writer, node: fx.Node) -> Held:
    """Take one of the parts that an operation gives, as a slice or a selection of its own."""
    several, number = _args(node)
    if not isinstance(several, fx.Node) or not isinstance(number, int):
        raise UnknownError
    name = operation_name(several)
    if name not in ("unbind", "split", "split_with_sizes", "chunk"):
        raise UnknownError
    value, held = writer.only(several)
    named = arguments_by_name(several)
    dim = int(named["dim"]) % _axes(value)
    if dim == held.axis:
        raise UnknownError
    place = _new_axis(held, _axes(value), dim)
    if name == "unbind":
        found = writer.call(node, _aten.select.int, held.node, place, number)
        return replace(held, node=found, axis=held.axis - (dim < held.axis))
    lengths = [part.shape[dim] for part in several.meta["val"]]
    start = sum(lengths[:number])
    end = start + lengths[number]
    return held.holding(writer.call(node, _aten.slice.Tensor, held.node, place, start, end))


_NAMES: dict[Written, tuple[str, ...]] = {
    _same: (
        "linear", "layer_norm", "rms_norm", "relu", "gelu", "silu", "tanh", "sigmoid", "clone",
        "contiguous", "dropout", "neg", "leaky_relu", "elu", "hardswish", "hardtanh", "exp",
        "alias", "detach", "to", "_to_copy", "logical_not", "bitwise_not", "clamp",
    ),
    _both: (
        "add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge",
        "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
        "__and__", "__or__", "__xor__", "where", "masked_fill",
    ),
    _permute: ("permute", "transpose"),
    _reshape: (
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze",
    ),
    _expand: ("expand",),
    _along: ("select", "slice", "softmax", "_softmax"),
    _reduced: ("mean", "sum", "amax", "amin"),
    _product: ("bmm", "matmul"),
    _added_product: ("baddbmm",),
    _linear: ("addmm", "mm"),
    _attended: ("scaled_dot_product_attention",),
    _joined: ("cat", "concat"),
    _stacked: ("stack",),
    _taken: ("getitem",),
}  # fmt: skip
_RULES: dict[str, Written] = {name: rule for rule, names in _NAMES.items() for name in names}

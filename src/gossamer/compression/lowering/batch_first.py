"""Graphs in which the batch is the first axis of every value.

PyTorch's attention puts the tokens before the batch, or counts the heads of all examples along one
axis, and recurrent layers take the time first unless they are told otherwise. Rules of lowering see
one example of a value behind its first axis. So where the batch lies elsewhere, the graph is
written anew: a value then holds the same numbers with the batch in front, and each operation the
axes that it works on.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import SymInt, Tensor, fx

from gossamer.compression.lowering.rules import arguments_by_name
from gossamer.compression.lowering.tracing import Trace, operation_name

_aten = torch.ops.aten


@dataclass(frozen=True)
class _Held:
    """A value of the new graph, and where its batch was.

    The axis of the batch may have been one with others: `before` numbers that changed more slowly
    than the batch and `behind` that changed faster. The new value has each of these two that is not
    1 in the place of that axis among the others, all of them behind its batch.
    """

    node: fx.Node
    axis: int = 0
    before: int = 1
    behind: int = 1

    @property
    def place(self) -> tuple[int, int, int]:
        return self.axis, self.before, self.behind

    @property
    def as_it_was(self) -> bool:
        return self.place == (0, 1, 1)

    @property
    def kept(self) -> list[int]:
        """The axes that stand in the place of that of the batch."""
        return [size for size in (self.before, self.behind) if size > 1]

    def holding(self, node: fx.Node) -> "_Held":
        """Return another value that is held alike."""
        return replace(self, node=node)


class _UnknownError(Exception):
    """Nothing is known of how an operation treats the batch in its place."""


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
    return replace(trace, graph=_Writer(graph, places).written())


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


class _Writer:
    """Writes the nodes of a graph anew, one after the other."""

    def __init__(
        self, graph: fx.GraphModule, places: dict[fx.Node, tuple[int, int] | None]
    ) -> None:
        self.places = places
        self._module = graph
        self._new = fx.Graph()
        self._held: dict[fx.Node, _Held] = {}
        self._as_they_were: dict[fx.Node, fx.Node] = {}

    def written(self) -> fx.GraphModule:
        """Return the new graph over the same parameters."""
        for node in self._module.graph.nodes:
            self._held[node] = self._written(node)
        self._new.set_codegen(self._module.graph._codegen)
        self._new.eliminate_dead_code()
        return fx.GraphModule(self._module, self._new)

    def _written(self, node: fx.Node) -> _Held:
        source = node.all_input_nodes[0] if operation_name(node) == "getitem" else node
        read = [self._held[n] for n in source.all_input_nodes]  # a list is in no place itself
        place = self.places[node]
        if all(held.as_it_was for held in read) and place in (None, (0, 1)):
            return _Held(self._copied(node))
        rule = _RULES.get(operation_name(node))
        if rule is not None and place is not None:
            with contextlib.suppress(_UnknownError):
                return rule(self, node)
        return _Held(self._copied(node))

    def _copied(self, node: fx.Node) -> fx.Node:
        """Write a node as it is, reading values as they were."""
        copied = self._new.node_copy(node, self.as_it_was)
        copied.meta = dict(node.meta)
        if copied.target is _aten.view.default:  # what it reads may lie in another order now
            copied.target = _aten.reshape.default
        return copied

    def as_it_was(self, node: fx.Node) -> fx.Node:
        """Return the node of the new graph that gives a value with its axes as they were."""
        held = self._held[node]
        if held.as_it_was:
            return held.node
        if node in self._as_they_were:
            return self._as_they_were[node]
        rank, place = held.node.meta["val"].dim(), held.axis + (held.before > 1)
        order = [*range(1, place + 1), 0, *range(place + 1, rank)]
        turned = self.permuted(node, held.node, order)
        if held.kept:
            sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
            turned = self.call(node, _aten.reshape.default, turned, sizes)
        self._as_they_were[node] = turned
        return turned

    def permuted(self, like: fx.Node, node: fx.Node, order: list[int]) -> fx.Node:
        """Write a permutation, unless it changes nothing."""
        if order == sorted(order):
            return node
        return self.call(like, _aten.permute.default, node, order)

    def call(self, like: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Write a call that stands for a node of the old graph, with the value it gives."""
        node = self._new.call_function(target, args, kwargs)
        node.meta = {key: value for key, value in like.meta.items() if key != "val"}
        values = fx.node.map_arg((args, kwargs), lambda n: n.meta["val"])
        with torch.no_grad():
            node.meta["val"] = target(*values[0], **values[1])
        return node

    def held(self, node: fx.Node) -> _Held:
        """Return what holds a value; it must depend on the batch."""
        place, held = self.places[node], self._held[node]
        if place is None:
            raise _UnknownError
        if place == (held.axis, held.before * held.behind):
            return held
        axis, behind = place
        found = held.node
        if behind > 1:
            sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
            sizes[axis : axis + 1] = [-1, behind]
            found = self.call(node, _aten.reshape.default, found, sizes)
        rank = found.meta["val"].dim()
        order = [axis, *(n for n in range(rank) if n != axis)]
        return _Held(self.permuted(node, found, order), axis, behind=behind)

    def only(self, node: fx.Node) -> tuple[fx.Node, _Held]:
        """Return the one value that a node reads, and what holds it."""
        found = [n for n in node.all_input_nodes if self.places[n] is not None]
        if len(found) != 1:
            raise _UnknownError
        return found[0], self.held(found[0])

    def expect(self, node: fx.Node, held: _Held) -> None:
        """Refuse a result whose batch does not lie as it is held."""
        if self.places[node] != (held.axis, held.before * held.behind):
            raise _UnknownError


def _args(node: fx.Node) -> tuple[Any, ...]:
    return node.args


def _axes(node: fx.Node) -> int:
    return int(node.meta["val"].dim())


def _new_axis(held: _Held, rank: int, dim: int) -> int:
    """Return where an axis of a value that is held lies in the new one, the batch in front."""
    dim %= rank
    if dim == held.axis and len(held.kept) != 1:
        raise _UnknownError
    return dim + 1 if dim <= held.axis else dim + len(held.kept)


def _same(writer: _Writer, node: fx.Node) -> _Held:
    """Do the same to each number, or to each row along the last axes."""
    value, held = writer.only(node)
    name = operation_name(node)
    last = 1 if name == "linear" else len(_args(node)[1]) if name.endswith("_norm") else 0
    writer.expect(node, held)
    if held.axis >= _axes(value) - last:
        raise _UnknownError
    args, kwargs = fx.node.map_arg(
        (_args(node), node.kwargs), lambda n: held.node if n is value else writer.as_it_was(n)
    )
    return held.holding(writer.call(node, node.target, *args, **kwargs))


def _both(writer: _Writer, node: fx.Node) -> _Held:
    """Do something to the numbers of two values, one of which may be constant."""
    values = [n for n in _args(node) if isinstance(n, fx.Node) and writer.places[n] is not None]
    found = [writer.held(n) for n in values]
    rank = _axes(node)
    if any(
        h.place != found[0].place or _axes(n) != rank for h, n in zip(found, values, strict=True)
    ):
        raise _UnknownError
    writer.expect(node, found[0])

    def operand(n: Any) -> Any:
        if not isinstance(n, fx.Node):
            return n
        if n in values:
            return found[values.index(n)].node
        return _constant(writer, n, found[0], rank)

    args = [operand(n) for n in _args(node)]
    return found[0].holding(writer.call(node, node.target, *args, **node.kwargs))


def _constant(writer: _Writer, node: fx.Node, held: _Held, rank: int) -> fx.Node:
    """Return a constant that is the same for all examples, as a value is held."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() > rank or not _plain(value.shape):
        raise _UnknownError
    shape = [1] * (rank - value.dim()) + [int(size) for size in value.shape]
    if shape[held.axis] != 1:
        raise _UnknownError
    shape[held.axis : held.axis + 1] = [1] * len(held.kept)
    return writer.call(node, _aten.reshape.default, writer.as_it_was(node), [1, *shape])


def _plain(shape: Sequence[Any]) -> bool:
    return all(isinstance(size, int) for size in shape)


def _permute(writer: _Writer, node: fx.Node) -> _Held:
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


def _reshape(writer: _Writer, node: fx.Node) -> _Held:
    """Give another shape: as many numbers of an example must change faster than the batch."""
    value, held = writer.only(node)
    axis, times = writer.places[node] or (0, 1)
    shape = list(node.meta["val"].shape)
    old, new = value.meta["val"].shape[held.axis + 1 :], shape[axis + 1 :]
    if not _plain(old) or not _plain(new):
        raise _UnknownError
    behind, left = divmod(math.prod(old) * held.behind, math.prod(new))
    if left or times % behind:
        raise _UnknownError
    found = _Held(held.node, axis, times // behind, behind)
    shape[axis : axis + 1] = found.kept
    return found.holding(writer.call(node, _aten.reshape.default, held.node, [-1, *shape]))


def _expand(writer: _Writer, node: fx.Node) -> _Held:
    """Repeat axes of length 1 that are not the batch."""
    value, held = writer.only(node)
    writer.expect(node, held)
    if _axes(value) != _axes(node):
        raise _UnknownError
    shape = list(node.meta["val"].shape)
    shape[held.axis : held.axis + 1] = held.kept
    return held.holding(writer.call(node, _aten.expand.default, held.node, [-1, *shape]))


def _along(writer: _Writer, node: fx.Node) -> _Held:
    """Do something along one axis that is not that of the batch."""
    value, held = writer.only(node)
    dim = int(_args(node)[1]) % _axes(value) if len(_args(node)) > 1 else 0
    if dim == held.axis:
        raise _UnknownError
    args = [writer.as_it_was(n) if isinstance(n, fx.Node) else n for n in _args(node)[2:]]
    place = _new_axis(held, _axes(value), dim)
    found = writer.call(node, node.target, held.node, place, *args)
    fewer = _axes(node) < _axes(value) and dim < held.axis
    return replace(held, node=found, axis=held.axis - fewer)


def _reduced(writer: _Writer, node: fx.Node) -> _Held:
    """Reduce axes that are not that of the batch."""
    value, held = writer.only(node)
    rank, named = _axes(value), arguments_by_name(node)
    if named["dim"] is None or named.get("dtype") is not None:
        raise _UnknownError
    dims = [dim % rank for dim in named["dim"]]
    if held.axis in dims:
        raise _UnknownError
    places = [_new_axis(held, rank, dim) for dim in dims]
    found = writer.call(node, node.target, held.node, places, named["keepdim"])
    fewer = 0 if named["keepdim"] else sum(dim < held.axis for dim in dims)
    return replace(held, node=found, axis=held.axis - fewer)


def _product(writer: _Writer, node: fx.Node) -> _Held:
    """Multiply matrices of two values, one for each example, or for several."""
    left, right = (n for n in _args(node)[:2] if isinstance(n, fx.Node))
    found = [writer.held(left), writer.held(right)]
    if found[0].place != found[1].place or _axes(left) != _axes(right):
        raise _UnknownError
    if found[0].axis >= _axes(left) - 2:
        raise _UnknownError
    return found[0].holding(writer.call(node, _aten.matmul.default, found[0].node, found[1].node))


def _added_product(writer: _Writer, node: fx.Node) -> _Held:
    """Write `baddbmm` as a product and a sum."""
    beta, alpha = node.kwargs.get("beta", 1), node.kwargs.get("alpha", 1)
    bias, left, right = (n for n in _args(node)[:3] if isinstance(n, fx.Node))
    found = [writer.held(left), writer.held(right)]
    if found[0].place != found[1].place:
        raise _UnknownError
    product = writer.call(node, _aten.matmul.default, found[0].node, found[1].node)
    product = writer.call(node, _aten.mul.Tensor, product, alpha)
    if beta == 0:
        return found[0].holding(product)
    if writer.places[bias] is None:
        added = _constant(writer, bias, found[0], _axes(node))
    elif writer.held(bias).place == found[0].place:
        added = writer.held(bias).node
    else:
        raise _UnknownError
    added = writer.call(node, _aten.mul.Tensor, added, beta)
    return found[0].holding(writer.call(node, _aten.add.Tensor, product, added))


def _joined(writer: _Writer, node: fx.Node) -> _Held:
    values, *rest = _args(node)
    found = [writer.held(n) for n in values]
    if any(h.place != found[0].place for h in found):
        raise _UnknownError
    dim = int(rest[0]) % _axes(node) if rest else 0
    if dim == found[0].axis:
        raise _UnknownError
    place = _new_axis(found[0], _axes(node), dim)
    return found[0].holding(writer.call(node, node.target, [h.node for h in found], place))


def _taken(writer: _Writer, node: fx.Node) -> _Held:
    """Take one of the parts that an operation gives, as a slice or a selection of its own."""
    several, number = _args(node)
    if not isinstance(several, fx.Node) or not isinstance(number, int):
        raise _UnknownError
    name = operation_name(several)
    if name not in ("unbind", "split", "split_with_sizes", "chunk"):
        raise _UnknownError
    value, held = writer.only(several)
    named = arguments_by_name(several)
    dim = int(named["dim"]) % _axes(value)
    if dim == held.axis:
        raise _UnknownError
    place = _new_axis(held, _axes(value), dim)
    if name == "unbind":
        found = writer.call(node, _aten.select.int, held.node, place, number)
        return replace(held, node=found, axis=held.axis - (dim < held.axis))
    lengths = [part.shape[dim] for part in several.meta["val"]]
    start = sum(lengths[:number])
    end = start + lengths[number]
    return held.holding(writer.call(node, _aten.slice.Tensor, held.node, place, start, end))


_Written = Callable[[_Writer, fx.Node], _Held]
_NAMES: dict[_Written, tuple[str, ...]] = {
    _same: (
        "linear", "layer_norm", "rms_norm", "relu", "gelu", "silu", "tanh", "sigmoid", "clone",
        "contiguous", "dropout", "neg", "leaky_relu", "elu", "hardswish", "hardtanh", "exp",
        "alias", "detach", "to", "_to_copy",
    ),
    _both: ("add", "sub", "mul", "div"),
    _permute: ("permute", "transpose"),
    _reshape: (
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze",
    ),
    _expand: ("expand",),
    _along: ("select", "slice", "softmax", "_softmax"),
    _reduced: ("mean", "sum", "amax", "amin"),
    _product: ("bmm", "matmul"),
    _added_product: ("baddbmm",),
    _joined: ("cat", "concat"),
    _taken: ("getitem",),
}  # fmt: skip
_RULES: dict[str, _Written] = {name: rule for rule, names in _NAMES.items() for name in names}

"""Writes a graph anew with the batch in front of every value: how each of them is held."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from gossamer.compression.lowering.tracing import operation_name

_aten = torch.ops.aten


@dataclass(frozen=True)
class Held:
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
        """Where the batch was."""
        return self.axis, self.before, self.behind

    @property
    def as_it_was(self) -> bool:
        """Whether the new value is the old one."""
        return self.place == (0, 1, 1)

    @property
    def kept(self) -> list[int]:
        """The axes that stand in the place of that of the batch."""
        return [size for size in (self.before, self.behind) if size > 1]

    def holding(self, node: fx.Node) -> "Held":
        """Return another value that is held alike."""
        return replace(self, node=node)


class UnknownError(Exception):
    """Nothing is known of how an operation treats the batch in its place."""


class Writer:
    """Writes the nodes of a graph anew, one after the other."""

    def __init__(
        self,
        graph: fx.GraphModule,
        places: dict[fx.Node, tuple[int, int] | None],
        rules: "Mapping[str, Written]",
    ) -> None:
        self.places = places
        self._rules = rules
        self._module = graph
        self._new = fx.Graph()
        self._held: dict[fx.Node, Held] = {}
        self._as_they_were: dict[fx.Node, fx.Node] = {}

    def written(self) -> fx.GraphModule:
        """Return the new graph over the same parameters."""
        for node in self._module.graph.nodes:
            self._held[node] = self._written(node)
        self._new.set_codegen(self._module.graph._codegen)
        self._new.eliminate_dead_code()
        return fx.GraphModule(self._module, self._new)

    def _written(self, node: fx.Node) -> Held:
        source = node.all_input_nodes[0] if operation_name(node) == "getitem" else node
        read = [self._held[n] for n in source.all_input_nodes]  # a list is in no place itself
        place = self.places[node]
        if all(held.as_it_was for held in read) and place in (None, (0, 1)):
            return Held(self._copied(node))
        rule = self._rules.get(operation_name(node))
        if rule is not None and place is not None:
            with contextlib.suppress(UnknownError):
                return rule(self, node)
        return Held(self._copied(node))

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

    def held(self, node: fx.Node) -> Held:
        """Return what holds a value; it must depend on the batch."""
        place, held = self.places[node], self._held[node]
        if place is None:
            raise UnknownError
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
        return Held(self.permuted(node, found, order), axis, behind=behind)

    def only(self, node: fx.Node) -> tuple[fx.Node, Held]:
        """Return the one value that a node reads, and what holds it."""
        found = [n for n in node.all_input_nodes if self.places[n] is not None]
        if len(found) != 1:
            raise UnknownError
        return found[0], self.held(found[0])

    def expect(self, node: fx.Node, held: Held) -> None:
        """Refuse a result whose batch does not lie as it is held."""
        if self.places[node] != (held.axis, held.before * held.behind):
            raise UnknownError


Written = Callable[[Writer, fx.Node], Held]
"""What writes a node anew; `UnknownError` where it cannot."""

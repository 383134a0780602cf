"""Recurrent layers of PyTorch as one operation for each layer and direction, steps and all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.recurrent_operation import CELLS
from gossamer.compression.lowering.tracing import Trace, constants, operation_name

_aten = torch.ops.aten


def called(graph: fx.Graph, like: fx.Node, target: Any, *args: Any) -> fx.Node:
    """Write a call into a graph, with what it gives and with where `like` stands in the model."""
    node = graph.call_function(target, args)
    node.meta = {key: value for key, value in like.meta.items() if key != "val"}
    values = fx.node.map_arg(args, lambda n: n.meta["val"])
    with torch.no_grad():
        node.meta["val"] = target(*values)
    return node


def one_direction(
    call: Callable[..., fx.Node],
    cell: str,
    value: fx.Node,
    weights: Sequence[fx.Node],
    initial: Sequence[fx.Node | None],
    *,
    reverse: bool = False,
    gives_cells: bool = False,
) -> fx.Node:
    """Write one direction of one layer, over [batch, steps, features].

    `weights` are those of the inputs and of the states, and perhaps the biases of both; `initial`
    are the first states, None for zeros.
    """
    inputs, hidden, *biases = weights
    first, second = biases or (None, None)
    gates = call(_aten.linear.default, value, inputs, first)
    states = (*initial, None)[:2]
    if cell == "lstm" and (states[0] is None) != (states[1] is None):
        present = next(one for one in states if one is not None)
        zeros = call(_aten.mul.Tensor, present, 0.0)
        states = tuple(zeros if one is None else one for one in states)
    target = torch.ops.gossamer.recurrence.default
    return call(target, gates, hidden, second, *states, cell, reverse, gives_cells)


def with_recurrence(trace: Trace) -> Trace:
    """Return a trace whose recurrent layers are taken apart by layers and directions.

    Layers with projections stay as they are.
    """
    graph, fixed = trace.graph, constants(trace.graph)
    found = [node for node in graph.graph.nodes if operation_name(node) in CELLS]
    for node in found:
        with graph.graph.inserting_before(node):
            _Layers(node, graph.graph, fixed).write()
    if found:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return trace


@dataclass
class _Layers:
    """The layers of one node."""

    node: fx.Node
    graph: fx.Graph
    fixed: dict[fx.Node, Tensor]

    def write(self) -> None:
        """Write them in the place of the node, if they can be."""
        inputs, first, params, biased, layers, _, _, both, batch_first = self._arguments()
        directions = 2 if both else 1
        each = 4 if biased else 2
        units = params[1].meta["val"].shape[1]
        states = first if isinstance(first, (list, tuple)) else [first]
        if len(params) != each * layers * directions or inputs.meta["val"].dim() != 3:
            return
        if any(one.meta["val"].shape[-1] != units for one in states):
            return
        value = inputs if batch_first else self._call(_aten.transpose.int, inputs, 0, 1)
        ends: list[list[fx.Node]] = [[] for _ in states]
        for layer in range(layers):
            ways = []
            for way in range(directions):
                number = layer * directions + way
                weights = params[each * number : each * (number + 1)]
                initial = [self._initial(one, number) for one in states]
                out = self._direction(value, weights, initial, reverse=way == 1)
                ways.append(self._parts(out, units, ends, reverse=way == 1))
            value = ways[0] if directions == 1 else self._call(_aten.cat.default, ways, 2)
        self._give(value if batch_first else self._call(_aten.transpose.int, value, 0, 1), ends)

    def _arguments(self) -> tuple[Any, ...]:
        return self.node.args

    def _call(self, target: Any, *args: Any) -> fx.Node:
        return called(self.graph, self.node, target, *args)

    def _initial(self, states: fx.Node, number: int) -> fx.Node | None:
        """Return the first state of a direction; None where it is 0."""
        known = self.fixed.get(states)
        if known is not None and not known.any():
            return None
        return self._call(_aten.select.int, states, 0, number)

    def _direction(
        self, value: fx.Node, weights: list[fx.Node], initial: list[Any], *, reverse: bool
    ) -> fx.Node:
        cell = CELLS[operation_name(self.node)]
        given = cell == "lstm" and any(self._read(2))
        return one_direction(
            self._call, cell, value, weights, initial, reverse=reverse, gives_cells=given
        )

    def _read(self, number: int) -> list[fx.Node]:
        """Return what takes one of the results."""
        return [user for user in self.node.users if user.args[1] == number]

    def _parts(
        self, out: fx.Node, units: int, ends: list[list[fx.Node]], *, reverse: bool
    ) -> fx.Node:
        """Note the last states of a direction, and return the states of all steps."""
        value = out.meta["val"]
        last = self._call(_aten.select.int, out, 1, 0 if reverse else value.shape[1] - 1)
        for number, end in enumerate(ends):
            if value.shape[2] > units:
                part = self._call(_aten.slice.Tensor, last, 1, units * number, units * (number + 1))
            elif number == 0:
                part = last
            else:
                continue
            end.append(self._call(_aten.unsqueeze.default, part, 0))
        if value.shape[2] == units:
            return out
        return self._call(_aten.slice.Tensor, out, 2, 0, units)

    def _give(self, value: fx.Node, ends: list[list[fx.Node]]) -> None:
        """Let what took the results of the node take these."""
        last = [self._call(_aten.cat.default, end, 0) if end else value for end in ends]
        results = [value, *last]
        for user in list(self.node.users):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            self.graph.erase_node(user)
        self.graph.erase_node(self.node)

"""Cells that a forward calls step by step, as one recurrent layer over all their steps.

A chain of calls with the same weights, each of which begins with the states that the one before
left, is what `nn.LSTM` and its kin compute over the stacked inputs; but for a forward that makes
the input of a step from the states before, where each step is a layer of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.recurrence import called, one_direction
from gossamer.compression.lowering.recurrent_operation import CELLS
from gossamer.compression.lowering.tracing import Trace, constants, operation_name

_aten = torch.ops.aten
_NAMES = {f"{name}_cell": cell for name, cell in CELLS.items()}


def with_joined_cells(trace: Trace) -> Trace:
    """Return a trace whose cells are layers over as many steps as follow each other."""
    graph = trace.graph
    cells = [node for node in graph.graph.nodes if operation_name(node) in _NAMES]
    if not cells:
        return trace
    fixed = constants(graph)
    for chain in _chains(cells):
        # What joined others may have made the inputs of this one depend on it.
        alone = any(_within(cell, chain) for cell in chain)
        for one in [[cell] for cell in chain] if alone else [chain]:
            _Chain(graph.graph, one, fixed).write()
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return trace


def _states(cell: fx.Node) -> list[fx.Node]:
    given = cell.args[1]
    found = list(given) if isinstance(given, list | tuple) else [given]
    return [one for one in found if isinstance(one, fx.Node)]


def _results(cell: fx.Node) -> dict[int, list[fx.Node]]:
    """Return what takes each of the states that a call leaves; a single one is the call itself."""
    if len(_states(cell)) == 1:
        return {0: [cell]}
    found: dict[int, list[fx.Node]] = {0: [], 1: []}
    for user in cell.users:
        found[user.args[1]].append(user)  # type: ignore[index]
    return found


def _chains(cells: Sequence[fx.Node]) -> list[list[fx.Node]]:
    """Return cells by chains, in the order of their first calls; all could be one layer."""
    made_by = {
        one: (cell, place)
        for cell in cells
        for place, found in _results(cell).items()
        for one in found
    }
    chains: dict[fx.Node, list[fx.Node]] = {}
    for cell in cells:
        before = [made_by.get(one) for one in _states(cell)]
        last = before[0][0] if before[0] is not None else None
        goes_on = (
            last is not None
            and before == [(last, place) for place in range(len(before))]
            and last.args[2:] == cell.args[2:]
            and last in chains
            and not _within(cell, chains[last])
        )
        chain = [*chains.pop(last), cell] if goes_on and last is not None else [cell]
        chains[cell] = chain
    return sorted(chains.values(), key=lambda chain: cells.index(chain[0]))


def _before(node: fx.Node) -> set[fx.Node]:
    """Return all that a node is computed from, itself among it."""
    found, pending = {node}, [node]
    while pending:
        more = [one for one in pending.pop().all_input_nodes if one not in found]
        found.update(more)
        pending += more
    return found


def _within(cell: fx.Node, chain: Sequence[fx.Node]) -> bool:
    """Tell whether the input of a cell is computed from what a chain gives."""
    given = cell.args[0]
    assert isinstance(given, fx.Node)
    return not _before(given).isdisjoint(chain)


@dataclass
class _Chain:
    """Calls of one cell that follow each other."""

    graph: fx.Graph
    cells: list[fx.Node]
    fixed: dict[fx.Node, Tensor]

    def write(self) -> None:
        """Write one layer in the place of the first call, if it can be."""
        first, states = self.cells[0], _states(self.cells[0])
        inputs = [one for cell in self.cells if isinstance(one := cell.args[0], fx.Node)]
        if any(one.meta["val"].dim() != 2 for one in (*inputs, *states)):
            return
        self._move_before_first(inputs)
        name = _NAMES[operation_name(first)]
        results = [_results(cell) for cell in self.cells]
        outside = [user for found in results for one in found.get(1, ()) for user in one.users]
        keeps = any(user not in self.cells for user in outside)
        weights = [one for one in first.args[2:] if isinstance(one, fx.Node)]
        units = weights[1].meta["val"].shape[1]
        initial = [None if self._is_zero(one) else one for one in states]
        call = partial(called, self.graph, first)
        with self.graph.inserting_before(first):
            value = self._whole(inputs)
            found = one_direction(call, name, value, weights, initial, gives_cells=keeps)
            for step, taken in enumerate(results):
                own = call(_aten.select.int, found, 1, step)
                ends = ((0, units), (units, 2 * units))
                parts = [call(_aten.slice.Tensor, own, 1, *end) for end in ends] if keeps else [own]
                for place, part in enumerate(parts):
                    for one in taken[place]:
                        one.replace_all_uses_with(part)

    def _is_zero(self, states: fx.Node) -> bool:
        known = self.fixed.get(states)
        return known is not None and not known.any()

    def _move_before_first(self, inputs: Sequence[fx.Node]) -> None:
        """Let the inputs of all steps be computed before the first step."""
        needed = set().union(*map(_before, inputs))
        behind, passed = [], False
        for node in self.graph.nodes:
            passed = passed or node is self.cells[0]
            if passed and node in needed:
                behind.append(node)
        for node in behind:
            self.cells[0].prepend(node)

    def _whole(self, inputs: Sequence[fx.Node]) -> fx.Node:
        """Return the inputs of all steps, [batch, steps, features]."""
        sources = [_step_of(one) for one in inputs]
        source = sources[0][0]
        steps = source.meta["val"].shape[1] if source.meta["val"].dim() == 3 else None
        if steps == len(inputs) and sources == [(source, step) for step in range(len(inputs))]:
            return source
        return called(self.graph, self.cells[0], _aten.stack.default, list(inputs), 1)


def _step_of(node: fx.Node) -> tuple[fx.Node, int]:
    """Return a sequence and which step of it a node takes; itself and -1 where it takes none."""
    if operation_name(node) != "select" or node.args[1] != 1:
        return node, -1
    source, _, step = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(step, int)
    steps = source.meta["val"].shape[1]
    while operation_name(source) == "slice" and isinstance(source.args[0], fx.Node):
        if source.args[0].meta["val"].shape != source.meta["val"].shape:
            break
        source = source.args[0]
    return source, step % steps

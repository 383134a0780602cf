"""Which parts of a graph the runtime can compute, and the model that lets it.

A part is a piece of the graph that one value enters and one value leaves. The whole graph is one
part, of as many inputs and outputs as it has, where everything in it can be lowered; otherwise the
rest stays in PyTorch around the parts.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from gossamer.compression.lowering.rules import is_parting, lower
from gossamer.compression.lowering.tracing import (
    NETWORK,
    computing,
    constants,
    is_size,
    module_path,
    operation_name,
    values_read,
)
from gossamer.core.errors import InputError
from gossamer.engine import (
    MOST_AXES,
    REWRITTEN,
    RULES,
    Lowered,
    Network,
    Operator,
    Program,
    Shape,
    Value,
    check_network,
    finished,
    fold,
    fuse,
    has_kernels,
    lay_out,
    network_shape,
    patches_as_channels,
    step_name,
    weights_of,
    without_unread,
)
from gossamer.graph.examples import kind_of


@dataclass(frozen=True, eq=False)
class Part:
    """The nodes of a part, and the network that computes them.

    The shapes are those of one example in PyTorch; the axes before them, the batch or, in rows, all
    but the last, are examples. `modules` are the paths of the modules that each layer of the
    network computes, such as 'conv1, bn1, relu'. The whole graph begins with its inputs and ends
    with its outputs; any other part has one value to begin with, and one to end.
    """

    entries: tuple[fx.Node, ...]
    exits: tuple[fx.Node, ...]
    nodes: frozenset[fx.Node]
    network: Network
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    in_rows: bool
    modules: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Division:
    """The parts of a graph, and what stays in PyTorch, as 'module path (operations)'.

    `refused` says of pieces that could be lowered but not held by the runtime why they stay, too.
    """

    parts: tuple[Part, ...]
    rest: tuple[str, ...]
    refused: tuple[str, ...]

    def whole(self, graph: fx.GraphModule) -> Part | None:
        """Return the part that is the whole graph, from its inputs to its outputs."""
        if len(self.parts) != 1 or self.parts[0].in_rows:
            return None
        (part,) = self.parts
        return part if (part.entries, part.exits) == (inputs(graph), outputs(graph)) else None


@dataclass(frozen=True, eq=False)
class _Layout:
    """The values that a network may hold, each as examples of a shape.

    `examples` says which axes count them, as PyTorch writes their sizes; values of a part agree in
    it. `lowered` holds the nodes that can be lowered, in the order of the graph.
    """

    shapes: Mapping[fx.Node, Shape]
    types: Mapping[fx.Node, str]
    examples: Mapping[fx.Node, tuple[str, ...]]
    lowered: dict[fx.Node, Lowered]
    in_rows: bool


def portable_whole(graph: fx.GraphModule) -> Part | None:
    """Return the part that is the whole graph, if it can run on NumPy, with kernels or without."""
    fixed = constants(graph)
    to_lower = (node for node in computing(graph) if node not in fixed and not is_size(node))
    if all(operation_name(node) in RULES for node in to_lower):  # else it would be in vain
        return divide(graph, portable=True).whole(graph)
    return None


def divide(graph: fx.GraphModule, *, portable: bool = False) -> Division:
    """Find the parts of a traced model that the runtime can compute.

    Values are taken as batches of images, sequences or features first, and what is left as rows of
    features, such as the tokens of a transformer. A part that multiplies no weights stays in
    PyTorch, as nothing would be gained; and so does what has no compiled kernel here, unless it is
    to run on NumPy alone (`portable`).
    """
    fixed = constants(graph)
    refused: list[str] = []
    try:
        if whole := _whole(graph, _layout(graph, fixed, (), False, portable), fixed):
            return Division((whole,), (), ())
    except InputError as reason:  # some number is beyond what the runtime holds
        refused.append(refusal(outputs(graph)[-1], reason))
    parts: list[Part] = []
    for in_rows in (False, True):
        taken = {node for part in parts for node in part.nodes}
        for found in _parts(graph, _layout(graph, fixed, taken, in_rows, portable), fixed):
            if isinstance(found, Part):
                parts.append(found)
            else:
                refused.append(found)
    done = {node for part in parts for node in part.nodes}
    order = {node: number for number, node in enumerate(graph.graph.nodes)}
    parts.sort(key=lambda part: order[part.entries[0]])
    return Division(tuple(parts), _remaining(graph, done, fixed), tuple(dict.fromkeys(refused)))


def _layout(
    graph: fx.GraphModule,
    fixed: Mapping[fx.Node, Tensor],
    taken: Collection[fx.Node],
    in_rows: bool,
    portable: bool,
) -> _Layout:
    batch = inputs(graph)[0].meta["val"].shape[0]
    sizes = {
        node: found
        for node in graph.graph.nodes
        if node not in fixed and (found := _sizes(node, batch, in_rows=in_rows)) is not None
    }
    shapes = {node: shape for node, (_, shape) in sizes.items()}
    types = {node: kind_of(_held(node)) for node in shapes}
    lowered = {
        node: operations
        for node in computing(graph)
        if node not in fixed and node not in taken
        if (operations := lower(node, shapes, types, fixed, in_rows=in_rows))
        and (portable or all(isinstance(o, REWRITTEN) or has_kernels(o) for o in operations))
    }
    examples = {node: counted for node, (counted, _) in sizes.items()}
    return _Layout(shapes, types, examples, lowered, in_rows)


def _sizes(
    node: fx.Node, batch: int | torch.SymInt, *, in_rows: bool
) -> tuple[tuple[str, ...], Shape] | None:
    """Return the axes that count examples and the shape of one; None for what is no such value."""
    value = _held(node)
    if not isinstance(value, Tensor) or value.dtype not in _TYPES:
        return None
    if value.dim() < (2 if in_rows else 1):
        return None
    first = value.dim() - 1 if in_rows else 1
    counted, shape = value.shape[:first], value.shape[first:]
    # Symbols are compared as they are written: comparing them as numbers would guess.
    if len(shape) > MOST_AXES or not all(isinstance(size, int) and size for size in shape):
        return None
    if not in_rows and str(counted[0]) != str(batch):
        return None
    return tuple(map(str, counted)), tuple(int(size) for size in shape)


_TYPES = (torch.float32, torch.int64, torch.int32, torch.bool)


def _held(node: fx.Node) -> Any:
    """Return what a node gives, or the first of several if it alone is read."""
    if is_parting(node):  # what takes a part of it finds the whole there
        node = node.all_input_nodes[0]
    value = node.meta.get("val")
    return value[0] if isinstance(value, tuple | list) and _only_first_is_read(node) else value


def inputs(graph: fx.GraphModule) -> tuple[fx.Node, ...]:
    """Return the inputs of a graph that are tensors."""
    given = (node for node in graph.graph.nodes if node.op == "placeholder")
    return tuple(node for node in given if isinstance(node.meta.get("val"), Tensor))


def outputs(graph: fx.GraphModule) -> tuple[fx.Node, ...]:
    """Return the outputs of a graph that are computed, in order."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    return tuple(one for one in pytree.tree_leaves(output.args) if isinstance(one, fx.Node))


def _whole(graph: fx.GraphModule, layout: _Layout, fixed: Collection[fx.Node]) -> Part | None:
    """Return the part that is the whole graph; None if some of it cannot be lowered.

    Raises
    ------
    InputError
        If the runtime cannot hold it.
    """
    entries, exits = inputs(graph), outputs(graph)
    nodes: set[fx.Node] = set()
    waiting = [node for node in exits if node not in entries]
    while waiting:
        node = waiting.pop()
        if node not in layout.lowered or layout.examples[node] != layout.examples.get(entries[0]):
            return None
        nodes.add(node)
        read = values_read(node, fixed)
        waiting += [one for one in read if one not in nodes and one not in entries]
    held = all(node in layout.shapes for node in (*entries, *exits))
    if not held or not _multiplies(nodes, layout.lowered) or any(map(_gives_several, exits)):
        return None
    return _part(entries, exits, frozenset(nodes), layout)


def _parts(
    graph: fx.GraphModule, layout: _Layout, fixed: Collection[fx.Node]
) -> Iterator[Part | str]:
    """Yield the parts of a layout, and for what the runtime cannot hold the reason."""
    for entry in list(graph.graph.nodes):
        if entry not in layout.shapes or _gives_several(entry):
            continue
        while nodes := _part_from(entry, layout, fixed):
            try:
                last = _in_order(nodes, layout)[-1]
                yield _part((entry,), (last,), nodes, layout)
            except InputError as reason:  # some number is beyond what the runtime holds
                yield refusal(_in_order(nodes, layout)[-1], reason)
            for node in nodes:
                del layout.lowered[node]


def refusal(last: fx.Node, reason: InputError) -> str:
    """Return what stays in PyTorch, named by its last node, as the runtime cannot hold it."""
    return f"what leads to {module_path(last)} ({str(reason).rstrip('.')})"


def _in_order(nodes: Collection[fx.Node], layout: _Layout) -> list[fx.Node]:
    return [node for node in layout.lowered if node in nodes]


def _gives_several(node: fx.Node) -> bool:
    """Tell whether a node gives several values, of which `getitem` takes one."""
    return isinstance(node.meta.get("val"), (tuple, list))


def _only_first_is_read(node: fx.Node) -> bool:
    return bool(node.users) and all(
        user.target.__name__ == "getitem" and user.args[1] == 0
        for user in node.users
        if callable(user.target) and user.users
    )


def _part_from(entry: fx.Node, layout: _Layout, fixed: Collection[fx.Node]) -> frozenset[fx.Node]:
    """Return the nodes of the largest part that begins with a value; empty if there is none."""
    reached: dict[fx.Node, frozenset[fx.Node]] = {}
    for node in layout.lowered:
        values = values_read(node, fixed)
        alike = layout.examples[node] == layout.examples[entry]
        if alike and values and all(n is entry or n in reached for n in values):
            behind = [reached[n] for n in values if n is not entry]
            reached[node] = frozenset({node}).union(*behind)
    parts = [
        nodes
        for last, nodes in reached.items()
        if _multiplies(nodes, layout.lowered)
        and _leaves_by(last, nodes, fixed)
        and not _gives_several(last)
        and layout.types[last] == "float32"
    ]
    return max(parts, key=len, default=frozenset())


def _multiplies(nodes: Collection[fx.Node], lowered: Mapping[fx.Node, Lowered]) -> bool:
    return any(weights_of(operator) for node in nodes for operator in lowered[node])


def _leaves_by(last: fx.Node, nodes: Collection[fx.Node], fixed: Collection[fx.Node]) -> bool:
    """Tell whether nothing but the last value of some nodes is read outside of them."""
    readers = (user for node in nodes if node is not last for user in node.users)
    return all(
        # What nobody reads in turn, or knows its result without the value, does not count.
        reader in nodes or reader in fixed or not (reader.users or reader.op == "output")
        for reader in readers
    )


def _part(
    entries: tuple[fx.Node, ...],
    exits: tuple[fx.Node, ...],
    nodes: frozenset[fx.Node],
    layout: _Layout,
) -> Part:
    """Return the part of some nodes.

    Raises
    ------
    InputError
        If the runtime cannot hold it.
    """
    ordered = _in_order(nodes, layout)
    operators: dict[Value, Operator] = {}
    for node in ordered:
        lowered = layout.lowered[node]
        names = [*(step_name(node.name, number) for number in range(len(lowered) - 1)), node.name]
        operators.update(zip(names, lowered, strict=True))
    given, found = ([layout.shapes[node] for node in ends] for ends in (entries, exits))
    named: dict[Value, Shape] = {node.name: network_shape(layout.shapes[node]) for node in entries}
    program = Program(named, operators, tuple(node.name for node in exits))
    with np.errstate(all="ignore"):  # what overflows is refused just below
        program = fuse(without_unread(fold(lay_out(patches_as_channels(program)))))
        network = finished(program)
    check_network(network)
    modules = _modules_of_layers([*map(str, program.operators)], entries, ordered)
    shapes = (tuple(given), tuple(found))
    return Part(entries, exits, nodes, network, *shapes, layout.in_rows, modules)


_WORD = re.compile(r"\w+")


def _modules_of_layers(
    values: Sequence[str], entries: Sequence[fx.Node], ordered: Sequence[fx.Node]
) -> tuple[str, ...]:
    """Return the paths of the modules behind each layer, of which is given the value it gives.

    A layer computes all nodes that lie between its value and those of other layers.
    """
    by_name = {node.name: node for node in ordered}
    # What stands for a part of a node has its name and something behind it.
    given = [by_name[_WORD.findall(value)[0]] for value in values]
    ends = {*entries, *given}
    layers = []
    for last in given:
        within, waiting = {last}, [last]
        while waiting:
            before = waiting.pop().all_input_nodes
            new = [n for n in before if n.name in by_name and n not in ends and n not in within]
            within.update(new)
            waiting += new
        computing_something = (n for n in ordered if n in within and operation_name(n) != "getitem")
        paths = dict.fromkeys(map(module_path, computing_something))
        named = [path for path in paths if path != NETWORK]
        layers.append(", ".join(named or paths))
    return tuple(layers)


def _remaining(
    graph: fx.GraphModule, done: Collection[fx.Node], fixed: Collection[fx.Node]
) -> tuple[str, ...]:
    """Return what stays in PyTorch, 'module path (operations)' for each module."""
    found: dict[str, dict[str, None]] = {}
    for node in computing(graph):
        taking = operation_name(node) == "getitem"  # computes nothing
        if node not in done and node not in fixed and not is_size(node) and not taking:
            found.setdefault(module_path(node), {})[operation_name(node)] = None
    return tuple(f"{path} ({', '.join(names)})" for path, names in found.items())


def with_parts(graph: fx.GraphModule, modules: Mapping[Part, nn.Module]) -> nn.Module:
    """Return the model whose parts are computed by modules; the graph is changed for it."""
    calls: dict[fx.Node, fx.Node] = {}
    for number, (part, module) in enumerate(modules.items()):
        name = f"part{number}"
        graph.add_submodule(name, module)
        # A part may begin where another one ended.
        (entry,), (last,) = part.entries, part.exits
        with graph.graph.inserting_after(last):
            calls[last] = graph.graph.call_module(name, (calls.get(entry, entry),))
        last.replace_all_uses_with(calls[last])
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph

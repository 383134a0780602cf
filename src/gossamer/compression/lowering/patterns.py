"""What models write out number by number, as the one call of PyTorch that it is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from gossamer.compression.lowering.tracing import (
    Trace,
    constants,
    numbers_of_examples,
    operation_name,
)

_aten = torch.ops.aten
_PASSED = frozenset({"clone", "contiguous", "dropout", "to", "_to_copy", "alias", "detach"})
_RESHAPED = frozenset({"view", "_unsafe_view", "reshape", "expand"})


def passed(node: fx.Node) -> fx.Node:
    """Return what gives the numbers of a node, in evaluation mode, under the same shape and type.

    Dropouts, copies, and reshapes and expansions that change nothing are left out.
    """
    while isinstance(before := node.args[0] if node.args else None, fx.Node):
        name, value, given = operation_name(node), node.meta["val"], before.meta.get("val")
        if name not in _PASSED | _RESHAPED or not isinstance(given, Tensor):
            break
        # Symbols are compared as they are written: comparing them as numbers would guess.
        if str(value.shape) != str(given.shape) or value.dtype != given.dtype:
            break
        node = before
    return node


def added_constant(graph: fx.Graph, tensor: Tensor, name: str) -> fx.Node:
    """Write a constant into a graph, as a buffer of its module."""
    module = graph.owning_module
    assert module is not None
    number = sum(held.startswith(name) for held, _ in module.named_buffers())
    module.register_buffer(f"{name}{number}", tensor)
    node = graph.get_attr(f"{name}{number}")
    node.meta["val"] = tensor
    return node


def with_patterns(trace: Trace) -> Trace:
    """Return a trace in which functions that are written out are called by their names.

    These are the root mean square normalisation of language models, GELU by tanh, and the choice
    of places of every example by its number.
    """
    graph, fixed = trace.graph, constants(trace.graph)
    counting = numbers_of_examples(graph)
    changed = False
    for node in list(graph.graph.nodes):
        found = _rms_norm(node, fixed) or _gelu(node) or _taken(node, fixed, counting)
        if found is None:
            continue
        changed = True
        target, args, kwargs = found
        with graph.graph.inserting_before(node):
            held = [
                added_constant(graph.graph, one, "written_out") if isinstance(one, Tensor) else one
                for one in args
            ]
            call = graph.graph.call_function(target, tuple(held), kwargs)
            call.meta = dict(node.meta)
            if target is _aten.index_select.default:
                call.meta["val"] = node.meta["val"].flatten(1)
                shape = [-1, *node.meta["val"].shape[1:]]
                call = graph.graph.call_function(_aten.reshape.default, (call, shape))
                call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
    if changed:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return trace


_Call = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""A function of PyTorch and its arguments; tensors are constants."""


def _operands(node: fx.Node | Any, name: str) -> Sequence[Any]:
    """Return the two operands of a call of that name; empty if it is none."""
    if not isinstance(node, fx.Node) or operation_name(node) != name or node.kwargs:
        return ()
    return [passed(one) if isinstance(one, fx.Node) else one for one in node.args[:2]]


def _with_number(node: Any, name: str, least: float, most: float) -> fx.Node | None:
    """Return what a sum or product with a number between two has as its other operand."""
    for one, number in (found := _operands(node, name)) and (found, found[::-1]):
        if isinstance(one, fx.Node) and isinstance(number, int | float) and least <= number <= most:
            return one
    return None


def _number(node: Any, name: str) -> float | None:
    return next((float(n) for n in _operands(node, name) if isinstance(n, int | float)), None)


def _rms_norm(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> _Call | None:
    """Read x / sqrt(mean(x ** 2) + epsilon), times a weight if it has one."""
    for weight, normal in (found := _operands(node, "mul")) and (found, found[::-1]):
        whole = _unweighted(normal)
        if whole is None or weight not in fixed:
            continue
        given, epsilon = whole
        width = given.meta["val"].shape[-1:]
        if fixed[weight].shape == width and node.meta["val"].shape[-1:] == width:
            return _aten.rms_norm.default, (given, [int(width[0])], weight, epsilon), {}
    if (whole := _unweighted(node)) is None:
        return None
    if any(user not in fixed and _rms_norm(user, fixed) for user in node.users if user != node):
        return None  # what it is multiplied with belongs to it
    given, epsilon = whole
    width = given.meta["val"].shape[-1]
    return _aten.rms_norm.default, (given, [int(width)], None, epsilon), {}


def _unweighted(node: Any) -> tuple[fx.Node, float] | None:
    """Return x and epsilon of a normalisation by the root mean square along the last axis."""
    pairs = [(one, root, "rsqrt") for one, root in _both(_operands(node, "mul"))]
    pairs += [(*found, "sqrt") for found in [_operands(node, "div")] if len(found) == 2]
    for given, root, name in pairs:
        if not isinstance(root, fx.Node) or operation_name(root) != name:
            continue
        mean = _with_number(root.args[0], "add", 0.0, math.inf)
        epsilon = _number(root.args[0], "add")
        if mean is not None and epsilon is not None and _is_mean_square(mean, given):
            return given, epsilon
    return None


def _both(found: Sequence[Any]) -> list[Sequence[Any]]:
    return [found, found[::-1]] if len(found) == 2 else []


def _is_mean_square(node: fx.Node, given: Any) -> bool:
    if operation_name(node) != "mean" or not isinstance(given, fx.Node):
        return False
    square, dims, keeps = (*node.args, None, None)[:3]
    rank = given.meta["val"].dim()
    if not isinstance(dims, list) or len(dims) != 1 or dims[0] not in (-1, rank - 1) or not keeps:
        return False
    if not isinstance(square, fx.Node) or node.kwargs or rank < 2:
        return False
    square = passed(square)
    powers = _operands(square, "pow")
    return (
        list(powers) in ([given, 2], [given, 2.0]) or list(_operands(square, "mul")) == [given] * 2
    )


_COEFFICIENT = math.sqrt(2 / math.pi)


def _gelu(node: fx.Node) -> _Call | None:
    """Read x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))."""
    for half, curve in _both(_operands(node, "mul")):
        given = _with_number(half, "mul", 0.5, 0.5)
        tanh = _with_number(curve, "add", 1.0, 1.0)
        if given is None or tanh is None or operation_name(tanh) != "tanh":
            continue
        inner = _with_number(tanh.args[0], "mul", _COEFFICIENT - 1e-9, _COEFFICIENT + 1e-9)
        for one, cube in _both(_operands(inner, "add")):
            power = _with_number(cube, "mul", 0.044715, 0.044715)
            if one is given and list(_operands(power, "pow")) in ([given, 3], [given, 3.0]):
                return _aten.gelu.default, (given,), {"approximate": "tanh"}
    return None


def _taken(node: fx.Node, fixed: Mapping[fx.Node, Tensor], counting: set[fx.Node]) -> _Call | None:
    """Read x[numbers of the examples, places], which takes the same places of every example."""
    if operation_name(node) != "index" or len(node.args) != 2:
        return None
    given, listed = tuple[Any, ...](node.args)
    if not isinstance(listed, list | tuple) or len(listed) != 2 or not isinstance(given, fx.Node):
        return None
    examples, chosen = listed
    if examples not in counting or chosen not in fixed or given.meta["val"].dim() != 2:
        return None
    behind = node.meta["val"].shape[1:]
    found = fixed[chosen]
    if not all(isinstance(size, int) for size in behind) or found.dtype == torch.bool:
        return None
    if found.numel() != math.prod(behind) or (found.dim() > len(behind) and len(found) != 1):
        return None  # a place of its own for each example
    places = found.flatten() % given.meta["val"].shape[1]
    return _aten.index_select.default, (given, 1, places), {}

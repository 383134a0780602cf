"""What a model writes in place, as calls that give new values.

PyTorch does that for any model, by computing it once more, which takes most of the time that a
recording takes. Mostly what is written is a value that nothing else shares, such as what a
convolution gave before a `ReLU(inplace=True)`: then the function of the same name does it.
"""

from typing import Any

import torch
from torch import Tensor, fx

_DROPOUT = "dropout"
"""Functions with this in their names give their input itself when they are off."""


def without_writing(graph: fx.GraphModule) -> bool:
    """Write a recorded graph without calls that work in place, if these are plain enough.

    Parameters
    ----------
    graph
        It is of no use where this cannot be done.

    Returns
    -------
    bool
        Whether every value is computed once and never changes now.
    """
    places = {node: number for number, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if node.op != "call_function":
            if node.op.startswith("call_"):
                return False
            continue
        if not isinstance(node.target, torch._ops.OpOverload):
            if not _gives_number_or_part(node):
                return False
        elif node.target._schema.is_mutable and not _rewritten(node, places):
            return False
    for node in list(graph.graph.nodes):
        if _is_dropout_that_is_off(node):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    return True


def _is_dropout_that_is_off(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    if _DROPOUT not in schema.name or len(schema.returns) != 1:  # `native_dropout` gives two
        return False
    _, _, training = (*node.args, None, None, None)[:3]
    return training is False


def _gives_number_or_part(node: fx.Node) -> bool:
    """Tell whether a node computes a size, or takes one of several results."""
    if getattr(node.target, "__name__", "") == "getitem":
        return True
    return isinstance(node.meta.get("val"), int | float | torch.SymInt | torch.SymFloat)


def _rewritten(node: fx.Node, places: dict[fx.Node, int]) -> bool:
    """Let a node that writes into a value give a new one instead; False if others would see it."""
    function = _function(node.target)
    given = node.args[0] if node.args else None
    if function is None or not isinstance(given, fx.Node) or _may_share(given):
        return False
    value = node.meta.get("val")
    read = [one.meta.get("val") for one in node.all_input_nodes]
    if not isinstance(value, Tensor) or any(
        isinstance(one, Tensor) and one.dtype != value.dtype for one in read
    ):
        return False  # the function would give another type
    others = [user for user in given.users if user is not node]
    if any(_may_share(user) for user in others if places[user] < places[node]):
        return False
    node.target = function
    for user in others:
        if places[user] > places[node]:  # it reads what was written
            user.replace_input_with(given, node)
    return True


def _function(target: Any) -> Any:
    """Return the function that gives what another one writes into its first argument."""
    schema = target._schema
    first, *others = schema.arguments
    name = schema.name.removeprefix("aten::")
    written = [one for one in others if one.alias_info is not None]
    if schema.name == name or not name.endswith("_") or written or len(schema.returns) != 1:
        return None
    if first.alias_info is None or not first.alias_info.is_write:
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    function = getattr(packet, target._overloadname, None)
    known = [one.name for one in function._schema.arguments[1:]] if function is not None else None
    return function if known == [one.name for one in others] else None


def _may_share(node: fx.Node) -> bool:
    """Tell whether a value may lie in memory that another value lies in, too."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return not isinstance(node.meta.get("val"), int | torch.SymInt)
    schema = node.target._schema
    named = (*schema.arguments, *schema.returns)
    return _DROPOUT in schema.name or any(one.alias_info is not None for one in named)

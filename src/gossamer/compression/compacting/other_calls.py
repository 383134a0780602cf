"""Calls of a network that differ from the one that compaction follows.

A flag, an attribute or another method may run what a call on the example does not. What that reads
is not known; here is found what can be without making such calls: parts that are not run, and what
the forward could be given.
"""

import inspect
from collections.abc import Iterable

from torch import nn

from gossamer.graph.calls import Graph


def unreached(network: nn.Module, graphs: Iterable[tuple[Graph, nn.Module]]) -> tuple[str, ...]:
    """Return the modules, and parameters of others, that no graph of a copy came by.

    Each module is named with its class, and stands for all within it.
    """
    came_by = {name for graph, copied in graphs for name in _parameters_read(graph, copied)}
    named = network.named_parameters(remove_duplicate=False)
    read = {id(parameter) for name, parameter in named if name in came_by}
    found: dict[str, None] = {}
    inside: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if inside and name.startswith(inside):
            continue
        parameters = list(module.parameters())
        if name and parameters and not any(id(p) in read for p in parameters):
            found[f"{name} ({type(module).__name__})"] = None
            inside = (*inside, f"{name}.")
            continue
        for short, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in read:
                found[f"{name}.{short}" if name else short] = None
    return tuple(found)


def _parameters_read(graph: Graph, network: nn.Module) -> set[str]:
    """Return the names of what a forward reads, by itself or by calling modules."""
    calls = {value.call for value in graph.values if value.call is not None}
    given = [value for call in calls for value in call.inputs]
    read = {id(value.parameter) for value in (*given, *graph.outputs)}
    called = {call.module for call in calls}
    read |= {id(p) for module in called if module is not None for p in module.parameters()}
    named = network.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if id(parameter) in read}


def options_at_default(network: nn.Module) -> tuple[str, ...]:
    """Return what a forward takes beside its input, as far as it has a default, as it is written.

    A call that gives the input alone leaves these as they are, so that others are not followed.

    Examples
    --------
    >>> options_at_default(nn.ConvTranspose2d(1, 1, 1)), options_at_default(nn.Linear(2, 2))
    (('output_size=None',), ())
    """
    try:
        _input, *others = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):  # made by something that has no signature
        return ()
    return tuple(f"{one.name}={one.default!r}" for one in others if one.default is not one.empty)

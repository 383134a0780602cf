"""Calls of a network that differ from the one that compaction follows.

A flag, an attribute or another method may run what a call on the example does not. What that reads
is not known; here is found what can be without making such calls: parts that are not run, and what
the forward could be given.
"""

import inspect
from collections.abc import Iterable

from torch import nn

from gossamer.compression.compacting.tracing import Trace


def unreached(network: nn.Module, traces: Iterable[Trace]) -> tuple[str, ...]:
    """Return the modules, and parameters of others, that no trace came by.

    Each module is named with its class, and stands for all within it.
    """
    read = {id(p) for trace in traces for p in _parameters_read(network, trace)}
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


def _parameters_read(network: nn.Module, trace: Trace) -> Iterable[nn.Parameter]:
    named = dict(network.named_parameters(remove_duplicate=False))
    for node in trace.graph.nodes:
        if node.op == "call_module":
            yield from network.get_submodule(str(node.target)).parameters()
        elif node.op == "get_attr" and str(node.target) in named:
            yield named[str(node.target)]


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

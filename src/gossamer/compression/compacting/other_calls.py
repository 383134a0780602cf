"""Calls of a network that differ from the one that compaction follows.

A flag, an attribute or another method may run what a call on the example does not. What that reads
is not known; here is found what can be: parts that are not run, and flags that ask for them.
"""

import copy
import inspect
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.compression.compacting.tracing import Trace
from gossamer.errors import InputError
from gossamer.graph.examples import tensors_in
from gossamer.measure.modes import evaluation
from gossamer.measure.running import run


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


def changed_by_flags(network: nn.Module, smaller: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Return the flags of a forward with which a smaller network gives other answers, or fails.

    Each flag that is true or false by default is set the other way, if the network takes that.
    """
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):  # made by something that has no signature
        return ()
    found = []
    for parameter in parameters:
        if not isinstance(parameter.default, bool):
            continue
        options = {parameter.name: not parameter.default}
        try:
            wanted = _answers(network, example, options)
        except InputError:
            continue
        try:
            same = _alike(wanted, _answers(smaller, example, options))
        except InputError:
            same = False
        if not same:
            found.append(f"{parameter.name}={not parameter.default}")
    return tuple(found)


def _answers(network: nn.Module, example: Tensor, options: dict[str, Any]) -> list[Tensor]:
    twin = copy.deepcopy(network)
    with evaluation(twin), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        output = run(_Calling(twin, options), example.clone())
    return tensors_in(output)


class _Calling(nn.Module):
    """A network with some flags set."""

    def __init__(self, network: nn.Module, options: dict[str, Any]) -> None:
        super().__init__()
        self.call = partial(network, **options)

    def forward(self, inputs: Tensor) -> Any:
        return self.call(inputs)


def _alike(first: list[Tensor], second: list[Tensor]) -> bool:
    """Tell whether outputs have the same shapes and, up to rounding, the same numbers."""
    if [one.shape for one in first] != [one.shape for one in second]:
        return False
    for one, other in zip(first, second, strict=True):
        if not one.is_floating_point():
            continue
        size = float(one.abs().nan_to_num(0.0, 0.0).max()) if one.numel() else 0.0
        tolerance = torch.finfo(one.dtype).eps ** 0.5 * size
        if not torch.allclose(other, one, rtol=0, atol=tolerance, equal_nan=True):
            return False
    return True

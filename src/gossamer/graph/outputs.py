"""Which layers give a network's output."""

import torch
from torch import nn

from gossamer.graph.calls import UNSEEN, Call, Graph, Value
from gossamer.graph.operations import NORMALISATIONS, WEIGHTED
from gossamer.graph.weights import weights_of


class NotFollowedError(Exception):
    """Something on the way to the output was computed out of sight."""


def output_parameters(graph: Graph) -> list[nn.Parameter]:
    """Return the parameters of the layers whose result, up to functions without weights, is out.

    Raises
    ------
    NotFollowedError
        If a part of the output comes from outside of PyTorch, or from TorchScript.
    """
    found: list[nn.Parameter] = []
    pending = list(graph.outputs)
    seen: set[Value] = set()
    while pending:
        value = pending.pop()
        if value in seen or value.call is None:
            continue
        seen.add(value)
        _refuse_out_of_sight(value.call)
        last = _own_parameters(value.call)
        found += last
        if not last:
            pending.extend(value.call.inputs)
    return found


def _refuse_out_of_sight(call: Call) -> None:
    if call.name == UNSEEN:
        raise NotFollowedError(
            "a part of the output is computed out of sight, outside of PyTorch or by torch.func"
        )
    if isinstance(call.module, torch.jit.ScriptModule) and list(call.module.parameters()):
        raise NotFollowedError("a part of the output comes from a layer compiled to TorchScript")


def _own_parameters(call: Call) -> list[nn.Parameter]:
    """Return the parameters of a call that multiplies with weights; none for another."""
    if isinstance(call.module, NORMALISATIONS):
        return []
    if isinstance(call.module, WEIGHTED):
        return list(call.module.parameters())
    weights = weights_of(call)
    direct = [value.parameter for value in call.inputs if value.parameter is not None]
    return [*weights, *direct] if weights else []

"""Synaptic flow: how much each weight carries from the inputs of a network to its outputs."""

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gossamer.core.errors import InputError
from gossamer.graph.examples import tensors_in, told
from gossamer.masks.names import bare_name
from gossamer.masks.storages import first_names, in_order_of


def synaptic_flow(
    network: nn.Module, names: Collection[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Tensor]:
    """Return the derivative of R, the sum of all outputs, by the magnitude of each weight.

    Every parameter has its magnitude and every floating input is 1, all in float64: products of
    magnitudes leave float32 behind within some twenty layers. The network itself stays untouched.

    Parameters
    ----------
    network
        In evaluation mode.
    names
        The weights that are asked about, by the first of their bare names.
    args, kwargs
        What the network takes; of floating tensors only the shape counts.

    Raises
    ------
    InputError
        If the network cannot be run so, or R is not finite or does not depend on a weight.

    References
    ----------
    Tanaka et al. (2020), "Pruning neural networks without any data by iteratively conserving
    synaptic flow", NeurIPS, arXiv 2006.05467.

    Examples
    --------
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> twice = nn.Sequential(layer, nn.Linear(1, 1, bias=False))
    >>> twice[1].weight.data.fill_(-3.0)
    tensor([[-3.]])
    >>> synaptic_flow(twice, ["0.weight"], (torch.rand(1, 2),), {})
    {'0.weight': tensor([[3., 3.]], dtype=torch.float64)}
    """
    parameters = dict(network.named_parameters())
    firsts = first_names(parameters)
    magnitudes: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        magnitudes[name] = (
            parameter.detach().double().abs().requires_grad_()
            if firsts[name] == name
            else in_order_of(magnitudes[firsts[name]], parameters[firsts[name]], parameter)
        )
    buffers = {name: _wide(buffer.clone()) for name, buffer in network.named_buffers()}
    asked = {name: one for name, one in magnitudes.items() if bare_name(name) in names}
    try:
        with torch.enable_grad():
            outputs = functional_call(network, {**magnitudes, **buffers}, *_ones(args, kwargs))
            flow = sum((one.sum() for one in tensors_in(outputs) if one.is_floating_point()), 0.0)
            assert isinstance(flow, Tensor)
            found = torch.autograd.grad(flow, list(asked.values()), allow_unused=True)
    except Exception as error:
        raise InputError(
            f"the network {type(network).__name__} cannot be run in float64 on inputs of ones, "
            f"which the score needs ({told(error)}): choose another score"
        ) from error
    flows = {}
    for name, gradient in zip(asked, found, strict=True):
        if gradient is None or not gradient.isfinite().all():
            what = "does not depend on it" if gradient is None else "is not finite there"
            raise InputError(
                f"{bare_name(name)} has no synaptic flow, the network's output {what}: exclude it"
            )
        flows[bare_name(name)] = gradient
    return flows


def _wide(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _ones(args: Any, kwargs: Any) -> Any:
    """Return arguments with every floating tensor all ones, in float64, the others copied."""
    memo = {
        id(one): torch.ones_like(one, dtype=torch.float64)
        if one.is_floating_point()
        else one.clone()
        for one in tensors_in((args, kwargs))
    }
    return copy.deepcopy((args, kwargs), dict[int, Any](memo))

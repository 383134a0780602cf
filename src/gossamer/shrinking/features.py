"""What the output layers read, of a sparse network and of the dense one that it came from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.capture import Structure
from gossamer.graph.examples import Example, tensors_in
from gossamer.graph.outputs import NotFollowedError, output_parameters

_OTHERWISE = "leave distill_features out"


def output_layers(network: nn.Module, example: Example) -> tuple[str, ...]:
    """Return the names of the layers whose result is the output, by what the network computes.

    Raises
    ------
    InputError
        If they cannot be found.

    Examples
    --------
    >>> import torch
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), nn.Tanh())
    >>> output_layers(network, torch.ones(1, 2))
    ('2',)
    """
    graph = Structure(network, example).graph("the output layer", _OTHERWISE)
    try:
        own = {id(parameter) for parameter in output_parameters(graph)}
    except NotFollowedError as error:
        raise InputError(f"the output layer cannot be found: {error}; {_OTHERWISE}") from error
    names = tuple(
        name
        for name, module in network.named_modules()
        if any(id(parameter) in own for parameter in module.parameters(recurse=False))
    )
    if not names:
        raise InputError(f"no layer with weights leads to the output: {_OTHERWISE}")
    return names


@contextmanager
def features_read(network: nn.Module, layers: Sequence[str]) -> Iterator[list[Tensor]]:
    """Yield a list that fills with what some layers read while the network runs."""
    read: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read.extend(one for one in tensors_in((args, kwargs))[:1] if one.is_floating_point())

    handles = [
        network.get_submodule(name).register_forward_pre_hook(keep, with_kwargs=True)
        for name in layers
    ]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()

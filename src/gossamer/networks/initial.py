"""Initial weights that depend on the seed and the parameter's name alone."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from gossamer.core.streams import stream_seed

Initialisation = Literal["glorot-uniform", "pytorch"]


def initialise(
    network: nn.Module, seed: int, initialisation: Initialisation = "glorot-uniform"
) -> None:
    """Draw the weights and biases of a network as Keras or PyTorch do by default.

    "glorot-uniform", of Keras: a parameter of two or more dimensions is uniform within plus or
    minus sqrt(6 / (fan in + fan out)), where a convolution's fans count its kernel's positions; a
    parameter named "bias" becomes zero. "pytorch": such a parameter and the bias beside it are
    uniform within plus or minus 1 / sqrt(fan in), which is what its `kaiming_uniform_` with
    a = sqrt(5) comes to. In both, others, such as the scale of a normalisation, stay.

    Each parameter has a random stream of its own, keyed by the seed and its name: the numbers do
    not depend on the order of modules nor on torch's global generator, which is not touched.

    Parameters
    ----------
    network
        The network, changed in place.
    seed
        The seed of the trial.
    initialisation
        "glorot-uniform" or "pytorch".

    Notes
    -----
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010; `torch.nn.Linear.reset_parameters` for PyTorch's own.

    Examples
    --------
    >>> layer = nn.Linear(3, 5)
    >>> initialise(layer, seed=0)
    >>> bool(layer.weight.abs().max() < (6 / (3 + 5)) ** 0.5)
    True
    >>> layer.bias.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    >>> initialise(layer, seed=0, initialisation="pytorch")
    >>> bool(layer.bias.abs().max() < 1 / 3**0.5)
    True
    """
    draw = _draw_glorot if initialisation == "glorot-uniform" else _draw_pytorch
    for name, parameter in network.named_parameters():
        module, _, short = name.rpartition(".")
        generator = torch.Generator().manual_seed(stream_seed(seed, "initialise", name))
        draw(network.get_submodule(module), short, parameter, generator)


def _draw_glorot(
    module: nn.Module,  # noqa: ARG001
    short: str,
    parameter: nn.Parameter,
    generator: torch.Generator,
) -> None:
    if parameter.dim() >= 2:
        drawn = torch.empty(parameter.shape, dtype=torch.float32)
        parameter.data.copy_(nn.init.xavier_uniform_(drawn, generator=generator))
    elif short == "bias":
        nn.init.zeros_(parameter)


def _draw_pytorch(
    module: nn.Module, short: str, parameter: nn.Parameter, generator: torch.Generator
) -> None:
    weight = getattr(module, "weight", None) if short == "bias" else parameter
    if isinstance(weight, Tensor) and weight.dim() >= 2:
        limit = 1 / math.sqrt(weight[0].numel())
        drawn = torch.empty(parameter.shape, dtype=torch.float32)
        parameter.data.copy_(drawn.uniform_(-limit, limit, generator=generator))

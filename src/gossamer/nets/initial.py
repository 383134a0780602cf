"""Initial weights that depend on the seed and the parameter's name alone."""

import torch
from torch import nn

from gossamer.streams import stream_seed


def initialise(network: nn.Module, seed: int) -> None:
    """Draw Glorot uniform weights and set biases to zero, as Keras does by default.

    A parameter of two or more dimensions is uniform within plus or minus
    sqrt(6 / (fan in + fan out)), where a convolution's fans count its kernel's positions; a
    parameter named "bias" becomes zero; others, such as the scale of a normalisation, stay.

    Each parameter has a random stream of its own, keyed by the seed and its name: the numbers do
    not depend on the order of modules nor on torch's global generator, which is not touched.

    Parameters
    ----------
    network
        The network, changed in place.
    seed
        The seed of the trial.

    Notes
    -----
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    Examples
    --------
    >>> layer = nn.Linear(3, 5)
    >>> initialise(layer, seed=0)
    >>> bool(layer.weight.abs().max() < (6 / (3 + 5)) ** 0.5)
    True
    >>> layer.bias.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() >= 2:
            generator = torch.Generator().manual_seed(stream_seed(seed, "initialise", name))
            drawn = torch.empty(parameter.shape, dtype=torch.float32)
            nn.init.xavier_uniform_(drawn, generator=generator)
            parameter.data.copy_(drawn)
        elif name.rpartition(".")[2] == "bias":
            nn.init.zeros_(parameter)

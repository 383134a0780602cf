"""Running a user's network on an example."""

from typing import Any

from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.examples import told

__all__ = ["run", "told"]


def run(network: nn.Module, example: Tensor, advice: str = "give an example that it takes") -> Any:
    """Return the output of a network.

    Parameters
    ----------
    network
        The network.
    example
        Its input.
    advice
        What a user is told to do if the network fails.

    Raises
    ------
    InputError
        If the network fails, with its error inside the sentence.

    Examples
    --------
    >>> import torch
    >>> run(nn.Flatten(), torch.ones(1, 2, 1)).tolist()
    [[1.0, 1.0]]
    """
    try:
        return network(example)
    except Exception as error:
        raise InputError(
            f"The network {type(network).__name__} fails on {example.dtype} input of shape "
            f"{tuple(example.shape)} ({told(error)}): {advice}."
        ) from error

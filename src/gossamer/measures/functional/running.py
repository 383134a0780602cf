"""Running a user's network on an example."""

from typing import Any

from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import told

__all__ = ["run", "told"]


def run(
    network: nn.Module,
    example: Tensor | Arguments,
    advice: str = "give an example that it takes",
) -> Any:
    """Return the output of a network.

    Parameters
    ----------
    network
        The network.
    example
        Its input, or all of its inputs.
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
        return example.call(network) if isinstance(example, Arguments) else network(example)
    except Exception as error:
        tensors = example.tensors if isinstance(example, Arguments) else (example,)
        given = ", ".join(f"{one.dtype} input of shape {tuple(one.shape)}" for one in tensors)
        raise InputError(
            f"The network {type(network).__name__} fails on {given} ({told(error)}): {advice}."
        ) from error

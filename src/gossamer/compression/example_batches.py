"""Batches of other sizes and contents than an example, made of its own inputs.

A number of an input may mean something else at each position, such as a category, a length or a
price in the columns of a table. So numbers never leave their position.
"""

import torch
from torch import Tensor

from gossamer.graph.arguments import Arguments, joined


def repeated(example: Arguments, size: int) -> Arguments:
    """Return a batch of some size that holds an example's inputs in turn.

    Examples
    --------
    >>> example = Arguments.of(torch.nn.Flatten(), torch.tensor([[1, 2], [3, 4]]))
    >>> repeated(example, 3).tensors[0].tolist()
    [[1, 2], [3, 4], [1, 2]]
    """
    return example.mapped(
        lambda tensor: tensor[torch.arange(size, device=tensor.device) % len(tensor)]
    )


def mixed(example: Arguments, size: int) -> Arguments:
    """Return a batch of inputs each of whose numbers stands at its place in one of an example's.

    Parameters
    ----------
    example
        Inputs [examples, ...].
    size
        Of the batch.

    Returns
    -------
    Arguments
        [size, ...], the same numbers in each call.

    Examples
    --------
    >>> example = Arguments.of(torch.nn.Flatten(), torch.tensor([[1, 20], [3, 40]]))
    >>> mixed(example, 50).tensors[0].unique(dim=0).tolist()
    [[1, 20], [1, 40], [3, 20], [3, 40]]
    """
    generator = torch.Generator().manual_seed(0)
    return example.mapped(lambda tensor: mixed_tensor(tensor, size, generator))


def mixed_tensor(tensor: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return inputs [size, ...] each of whose numbers stands at its place in one of a tensor's."""
    chosen = torch.randint(len(tensor), (size, *tensor.shape[1:]), generator=generator)
    return tensor.gather(0, chosen.to(tensor.device))


def grown(example: Arguments, size: int) -> Arguments:
    """Return a batch of some size: the first inputs of an example, and mixed ones after them."""
    missing = size - len(example)
    if missing <= 0:
        return example[:size].clone()
    return joined([example, mixed(example, missing)])

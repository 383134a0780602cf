"""Batches of other sizes and contents than an example, made of its own inputs.

A number of an input may mean something else at each position, such as a category, a length or a
price in the columns of a table. So numbers never leave their position.
"""

import torch
from torch import Tensor


def repeated(example: Tensor, size: int) -> Tensor:
    """Return a batch of some size that holds an example's inputs in turn.

    Examples
    --------
    >>> repeated(torch.tensor([[1, 2], [3, 4]]), 3)
    tensor([[1, 2],
            [3, 4],
            [1, 2]])
    """
    return example[torch.arange(size, device=example.device) % len(example)]


def mixed(example: Tensor, size: int) -> Tensor:
    """Return a batch of inputs each of whose numbers stands at its place in one of an example's.

    Parameters
    ----------
    example
        Inputs [examples, ...].
    size
        Of the batch.

    Returns
    -------
    Tensor
        [size, ...], the same numbers in each call.

    Examples
    --------
    >>> batch = mixed(torch.tensor([[1, 20], [3, 40]]), 50)
    >>> batch.unique(dim=0).tolist()
    [[1, 20], [1, 40], [3, 20], [3, 40]]
    """
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(example), (size, *example.shape[1:]), generator=generator)
    return example.gather(0, chosen.to(example.device))


def grown(example: Tensor, size: int) -> Tensor:
    """Return a batch of some size: the first inputs of an example, and mixed ones after them."""
    missing = size - len(example)
    if missing <= 0:
        return example[:size].clone()
    return torch.cat([example, mixed(example, missing)])

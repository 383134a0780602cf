"""Random inputs on which a network is compared with what stands for it.

An example alone may leave a unit silent, or an output near zero, that other inputs would show.
"""

from math import ceil

import torch
from torch import Tensor

_FEWEST = 4
"""Random examples at least: of so many numbers hardly all are near zero by chance."""


def inputs_like(example: Tensor) -> list[Tensor]:
    """Return batches of the size of an example, as large and as far from zero as it is.

    Parameters
    ----------
    example
        Real numbers [batch, ...].

    Returns
    -------
    list of Tensor
        The same numbers in each call, normally distributed; one batch, or more where it is small.

    Examples
    --------
    >>> [batch.shape for batch in inputs_like(torch.ones(3, 7))]
    [torch.Size([3, 7]), torch.Size([3, 7])]
    """
    values = example.detach().cpu().double()
    spread = float(values.std(correction=0)) or 1.0
    generator = torch.Generator().manual_seed(0)
    return [
        (values.mean() + spread * torch.randn(values.shape, generator=generator).double()).to(
            example.device, example.dtype
        )
        for _ in range(ceil(_FEWEST / len(example)))
    ]

"""Whether a network can compute with its images stored channels last, which is faster."""

import contextlib
import copy
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from gossamer.networks.generators import generators_kept


def accepts_channels_last(network: nn.Module, input_shape: Sequence[int]) -> bool:
    """Return whether a network of images works in the memory format channels last.

    One that flattens a convolution's output with `view` does not, as `view` needs the numbers in
    the order of the axes. A copy of the network is tried on the processor: the network itself and
    the global random generators stay as they were.

    Parameters
    ----------
    network
        The network.
    input_shape
        Shape of one example, without the batch dimension.

    Returns
    -------
    bool
        False also where examples are not images, as there is nothing to gain.

    Examples
    --------
    >>> accepts_channels_last(nn.Conv2d(2, 3, 3), (2, 5, 5))
    True
    >>> accepts_channels_last(nn.Linear(4, 3), (4,))
    False
    """
    if len(input_shape) != 3:
        return False
    # Whatever goes wrong, the usual format is left to use; it has errors and warnings of its own.
    with generators_kept(), warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        last = torch.channels_last
        trial = copy.deepcopy(network).eval().cpu().float().to(memory_format=last)  # type: ignore[call-overload]
        with torch.no_grad(), torch.device("cpu"):
            trial(torch.zeros(2, *input_shape).contiguous(memory_format=last))
        return True
    return False

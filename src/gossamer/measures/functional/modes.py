"""Evaluation mode for a while."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, then every submodule back into its own mode.

    `network.train()` afterwards would be wrong: it would wake up submodules that the user keeps
    in evaluation mode, such as a frozen batch normalisation.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> _ = network[1].eval()
    >>> with evaluation(network):
    ...     network.training
    False
    >>> network.training, network[1].training
    (True, False)
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

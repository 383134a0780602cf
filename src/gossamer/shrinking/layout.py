"""How images lie in memory while a network is trained or looked at."""

from contextlib import suppress

import torch
from torch import Tensor, nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.graph.examples import Example
from gossamer.graph.keeping import unchanged
from gossamer.networks import accepts_channels_last
from gossamer.networks.generators import generators_kept
from gossamer.shrinking.split import Split


def layout_of(network: nn.Module, split: Split) -> torch.memory_format:
    """Return channels last where a network takes images so: convolutions and poolings are faster.

    Images that it gives would lie so, too, and a loss or a metric of one's own might view them
    otherwise: then all stays as it is.

    Examples
    --------
    >>> network, images = nn.Conv2d(1, 2, 3), Split(torch.zeros(4, 1, 5, 5), torch.zeros(4))
    >>> layout_of(nn.Sequential(network, nn.Flatten()), images), layout_of(network, images)
    (torch.channels_last, torch.contiguous_format)
    """
    with generators_kept():
        example = split.example(1)
    return layout_of_example(network, example)


def layout_of_example(network: nn.Module, example: Example) -> torch.memory_format:
    """Return the same, from an example of any number of images."""
    if not isinstance(example, Tensor) or example.ndim != 4:
        return torch.contiguous_format
    if not accepts_channels_last(network, tuple(example.shape[1:])):
        return torch.contiguous_format
    where = next(network.parameters(), example).device
    # What fails here fails in the usual format, too, and is told there.
    with unchanged(network), generators_kept(), torch.no_grad(), suppress(Exception):
        outputs = network.eval()(example.to(where))
        if isinstance(outputs, Tensor) and outputs.ndim <= 2:
            return torch.channels_last
    return torch.contiguous_format


def laid_out(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Return a network whose weights lie so: itself where they do, else a copy."""
    if layout == torch.contiguous_format:
        return network
    return plain_copy(network).to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def laid_out_example(example: Example, layout: torch.memory_format) -> Example:
    """Return images that lie so; an example of anything else as it is."""
    if layout == torch.contiguous_format or not isinstance(example, Tensor):
        return example
    return example.contiguous(memory_format=layout)

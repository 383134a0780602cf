"""A whole dataset as one tensor on the device, and batches gathered from it.

At the size of the published datasets, worker processes and per-example transforms cost more than
the training; here a batch is one gather. Nothing depends on threads or time: the order of an
epoch is a function of seed, purpose and epoch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.core.streams import stream

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Resident:
    """Examples and labels on one device, ready for a network.

    Parameters
    ----------
    inputs
        ``[examples, features]`` or ``[examples, channels, height, width]``, float32, standardised.
    labels
        ``[examples]``, int64.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def make_resident(
    x: NDArray[Any],
    y: NDArray[Any],
    scale: float,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    device: str | torch.device = "cpu",
    channels_last: bool = True,
) -> Resident:
    """Put examples on a device as ``(x / scale - mean) / std`` in float32.

    Parameters
    ----------
    x
        Raw examples, ``[examples, features]`` or ``[examples, channels, height, width]``.
    y
        Labels, ``[examples]``.
    scale
        What raw values are divided by, see `gossamer.data.Dataset`.
    mean, std
        Mean and standard deviation of the scaled values.
    device
        Where the tensors are to be.
    channels_last
        Whether images lie in memory with the channels of a pixel together; features do not care.

    Returns
    -------
    Resident
        Inputs and labels; it owns its memory.

    Raises
    ------
    InputError
        If the counts differ or a number is out of range.

    Examples
    --------
    >>> resident = make_resident(np.full((2, 1, 4, 4), 255, np.uint8), np.array([0, 1]), 255)
    >>> resident.inputs.shape, float(resident.inputs.max())
    (torch.Size([2, 1, 4, 4]), 1.0)
    """
    if len(x) != len(y):
        raise InputError(f"x holds {len(x)} examples and y {len(y)} labels, expected as many.")
    for what, value in (("scale", scale), ("std", std)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{what} is {value}, expected a positive number.")
    if not math.isfinite(mean):
        raise InputError(f"mean is {mean}, expected a finite number.")
    images_last = channels_last and x.ndim == 4
    # Computed by NumPy, so that the values are the same bits on every device.
    raw = np.moveaxis(x, 1, -1) if images_last else x
    values = np.divide(raw, np.float32(scale), dtype=np.float32, order="C")
    values -= np.float32(mean)
    values /= np.float32(std)
    inputs = torch.from_numpy(values).to(device)
    labels = torch.tensor(y, dtype=torch.int64, device=device)
    return Resident(inputs.permute(0, 3, 1, 2) if images_last else inputs, labels)


def epoch_order(count: int, seed: int, purpose: str, epoch: int) -> Tensor:
    """Return the order in which an epoch visits the examples.

    Parameters
    ----------
    count
        How many examples there are.
    seed
        The seed of the trial.
    purpose
        What the order is for, such as ``"shuffle"``.
    epoch
        The global epoch.

    Returns
    -------
    Tensor
        A permutation, ``[count]``, int64.

    Examples
    --------
    >>> bool((epoch_order(9, 0, "shuffle", 1).sort().values == torch.arange(9)).all())
    True
    """
    return torch.from_numpy(stream(seed, purpose, epoch).permutation(count))


def batches(resident: Resident, order: Tensor, size: int, start: int = 0) -> Iterator[Batch]:
    """Gather batches in a given order; the last one may be smaller.

    Parameters
    ----------
    resident
        The examples.
    order
        Positions to visit, ``[k]``, int64: a permutation of all or of a part.
    size
        Examples of a batch.
    start
        The number of the first batch, from 0, to go on within an epoch.

    Yields
    ------
    inputs, labels
        ``[size, ...]`` and ``[size]``, laid out in memory as the resident tensors are.

    Raises
    ------
    InputError
        If size or start is out of range; raised at the call.

    Examples
    --------
    >>> resident = make_resident(np.zeros((5, 3)), np.arange(5), 1)
    >>> [labels.tolist() for _, labels in batches(resident, torch.arange(5), 2, start=1)]
    [[2, 3], [4]]
    """
    if size < 1:
        raise InputError(f"batch size is {size}, expected at least 1.")
    count = math.ceil(len(order) / size)
    if not 0 <= start <= count:
        raise InputError(f"start is batch {start}, expected from 0 to the {count} batches.")
    order = order.to(resident.inputs.device)
    starts = range(start * size, len(order), size)
    return (_gather(resident, order[begin : begin + size]) for begin in starts)


def _gather(resident: Resident, index: Tensor) -> Batch:
    inputs = resident.inputs
    if inputs.ndim == 4 and inputs.stride(1) == 1:
        # index_select returns channels-first memory whatever it is given; gathered from the
        # channels-last view it copies whole images, keeps their layout, and is faster, too.
        rows = inputs.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    else:
        rows = inputs.index_select(0, index)
    return rows, resident.labels.index_select(0, index)

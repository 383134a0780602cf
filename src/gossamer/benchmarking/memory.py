"""How much memory a batch takes while it is timed, known before any of it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gossamer.benchmarking.measuring import PROCESSES
from gossamer.core.errors import InputError
from gossamer.core.system import available_memory
from gossamer.engine import weights_of
from gossamer.measures.functional.running import run
from gossamer.runtime import Predictor


@dataclass(frozen=True)
class Footprint:
    """Bytes that are in memory at once while a network is timed."""

    weights: int
    example: int
    """Of the inputs of one example, and of what the network makes of them."""

    def of_batch(self, batch: int) -> int:
        """Return the bytes that a batch takes."""
        return self.weights + batch * self.example


def network_footprint(network: nn.Module, examples: Tensor) -> Footprint:
    """Return what the processes take together that time a network.

    Each holds the weights and the inputs, and has held what the operation that takes most reads
    and writes: neither PyTorch nor ONNX Runtime gives such memory back in between.

    Parameters
    ----------
    network
        In evaluation mode.
    examples
        A few inputs ``[n, ...]``, which it is run on.

    Raises
    ------
    InputError
        If the network cannot be run on them.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(5, 3, bias=False), nn.ReLU())
    >>> found = network_footprint(network, torch.ones(2, 5))
    >>> found.weights == 4 * 15 * 3, found.example == 4 * (5 + 3 + 3) * 3
    (True, True)
    """
    held = [*network.parameters(), *network.buffers()]
    noted = _LargestOperation([*held, examples])
    with torch.no_grad(), noted:
        run(network, examples)
    inputs = examples.numel() * examples.element_size()
    return Footprint(
        weights=len(PROCESSES) * sum(_storages(held).values()),
        example=len(PROCESSES) * -(-(inputs + noted.bytes) // len(examples)),
    )


def file_footprint(predictor: Predictor) -> Footprint:
    """Return what a compressed file takes that is timed.

    Its kernels take a few examples at a time through all layers, so that of a batch only inputs
    and outputs are held.
    """
    weights = [found for layer in predictor.network.layers if (found := weights_of(layer))]
    lengths = (
        torch.Size(shape).numel() for shape in (predictor.input_shape, predictor.output_shape)
    )
    return Footprint(4 * sum(found.stored for found in weights), 4 * sum(lengths))


def check_memory(footprint: Footprint, batches: Sequence[int]) -> None:
    """Refuse a batch that takes more memory than there is.

    Raises
    ------
    InputError
        If one does, with the largest that does not.
    """
    available = available_memory()
    batch = max(batches)
    if available is None or footprint.of_batch(batch) <= available:
        return
    most = (available - footprint.weights) // footprint.example
    advice = f"give at most {most:,}" if most > 0 else "no batch is small enough for this network"
    raise InputError(
        f"--batch {batch}: timing it takes about {footprint.of_batch(batch) / 2**30:,.1f} GiB of "
        f"memory, weights, inputs and activations together, and {available / 2**30:,.1f} GiB are "
        f"available; {advice}."
    )


class _LargestOperation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes how many bytes the operation reads and writes that takes most, but for some tensors."""

    def __init__(self, counted_before: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._before = _storages(counted_before).keys()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        touched = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
        own = {k: size for k, size in _storages(touched).items() if k not in self._before}
        self.bytes = max(self.bytes, sum(own.values()))
        return found


def _storages(tensors: Sequence[Tensor]) -> dict[int, int]:
    """Return the bytes of each storage, by its place in memory."""
    parts = [tensor.untyped_storage() for tensor in tensors]
    return {part.data_ptr(): part.nbytes() for part in parts}

"""What a candidate costs: seconds of a batch, bytes of the file, or multiply-adds."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from gossamer.compression import Compressed, compress
from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import InputError
from gossamer.measures.functional.latency import time_alternately
from gossamer.measures.functional.work import multiply_adds
from gossamer.records.shrinking import Target
from gossamer.shrinking.options import Options

_QUICK_SECONDS = 0.6
"""For timing a candidate beside the dense network while there are many."""


@dataclass(frozen=True, eq=False)
class Meter:
    """Measures candidates against the dense network, in turn, on one batch.

    Parameters
    ----------
    dense
        The network as it was given, in evaluation mode, on the processor.
    example
        A batch of inputs as they will come.
    target
        What counts.
    threads
        How many the networks may use.
    """

    dense: nn.Module
    example: Tensor
    target: Target
    threads: int

    def speed_up(self, network: nn.Module, seconds: float = _QUICK_SECONDS) -> tuple[float, float]:
        """Return a candidate's cost, and the dense network's over that.

        Times are of the network as `gossamer.compress` runs it; the dense one is PyTorch's.
        """
        if self.target == "flops":
            own, other = (multiply_adds(one, self.example) for one in (network, self.dense))
            return float(own.nonzero), other.dense / max(1, own.nonzero)
        if self.target == "size":
            own_bytes = self._bytes(network)
            return float(own_bytes), dense_bytes(self.dense) / own_bytes
        (found,) = self.in_turn([network], seconds)
        return found

    def in_turn(self, networks: Sequence[nn.Module], seconds: float) -> list[tuple[float, float]]:
        """Time several candidates and the dense network in turn; see `speed_up`.

        The fastest repeat of each counts, which a busy machine disturbs least.
        """
        calls: dict[str, Callable[[], object]] = {"dense": partial(self.dense, self.example)}
        for number, network in enumerate(networks):
            calls[str(number)] = partial(self._compressed(network), self.example)
        with torch.no_grad():
            timings = time_alternately(calls, seconds=seconds, threads=self.threads)
        dense, *own = (one.fastest for one in timings.values())
        return [(one, dense / one) for one in own]

    def _bytes(self, network: nn.Module) -> int:
        return file_bytes(self._compressed(network))

    def _compressed(self, network: nn.Module) -> Compressed:
        with quietly():
            return compress(network, self.example, threads=self.threads, choose="engine")


def file_bytes(small: Compressed) -> int:
    """Return how large the file of a compressed network is; the bytes of weights if it has none."""
    if small.network is None or small.fixed_batch:
        return dense_bytes(small._module)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.gsm"
        small.save(path)
        return path.stat().st_size


def dense_bytes(network: nn.Module) -> int:
    """Return the bytes of a network's parameters."""
    return sum(one.numel() * one.element_size() for one in network.parameters())


def meter_of(model: nn.Module, example: object, options: Options) -> Meter:
    """Return what measures candidates of a network.

    Raises
    ------
    InputError
        If what is asked for cannot be measured.
    """
    if not isinstance(example, Tensor):
        raise InputError(
            "the network takes several inputs or a dict, but what `gossamer.compress` runs takes "
            "one tensor: wrap it in a module whose forward takes one"
        )
    return Meter(plain_copy(model).cpu().eval(), example, options.target, options.threads)


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out warnings that were given of the network before, or concern a candidate alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield

"""What a candidate costs: seconds of a batch, bytes of the file, or multiply-adds."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from gossamer.compression import Compressed, compress
from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import InputError
from gossamer.core.progress import shown_already
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import Example, arguments_of, call_on, copied, tensors_in
from gossamer.measures.functional.latency import time_alternately
from gossamer.measures.functional.work import multiply_adds
from gossamer.records.shrinking import Target
from gossamer.shrinking.layout import laid_out, laid_out_example, layout_of_example
from gossamer.shrinking.options import Options
from gossamer.shrinking.split import first

_QUICK_SECONDS = 0.6
"""For timing a candidate beside the dense network while there are many."""
_FINE_SECONDS = 1e-6
FEW = 2
"""Examples on which candidates are compressed."""


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
    overwrites
        Whether the network writes into what it is given, so that each call needs a copy.
    layout
        In which PyTorch runs the dense network fastest.
    """

    dense: nn.Module
    example: Example
    target: Target
    threads: int
    overwrites: bool = False
    layout: torch.memory_format = torch.contiguous_format

    def speed_up(self, network: nn.Module, seconds: float = _QUICK_SECONDS) -> tuple[float, float]:
        """Return a candidate's cost, and the dense network's over that.

        Times are of the network as `gossamer.compress` runs it; the dense one is PyTorch's, in the
        layout of images in which it is faster.
        """
        if self.target == "flops":
            own, other = (work_of(one, self.example) for one in (network, self.dense))
            return float(own[1]), other[0] / max(1, own[1])
        if self.target == "size":
            own_bytes = self._bytes(network)
            return float(own_bytes), dense_bytes(self.dense) / own_bytes
        (found,) = self.in_turn([network], seconds)
        return found

    def in_turn(self, networks: Sequence[nn.Module], seconds: float) -> list[tuple[float, float]]:
        """Time several candidates and the dense network in turn; see `speed_up`."""
        dense, *own = self.timed(
            [self.in_pytorch(self.example), *map(self._run, networks)], seconds
        )
        return [(one, dense / one) for one in own]

    def seconds_of(self, networks: Sequence[nn.Module], seconds: float) -> list[float]:
        """Time several candidates in turn, as `gossamer.compress` runs them."""
        return self.timed([*map(self._run, networks)], seconds)

    def in_pytorch(self, example: Example) -> Callable[[], object]:
        """Return what calls the dense network on an example, both laid out as is fastest."""
        return self.calling(
            laid_out(self.dense, self.layout), laid_out_example(example, self.layout)
        )

    def _run(self, network: nn.Module) -> Callable[[], object]:
        return self.calling(self._compressed(network), self.example)

    def timed(self, calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        """Return the seconds of the fastest repeat of each, which a busy machine disturbs least."""
        named = {str(i): call for i, call in enumerate(calls)}
        with torch.no_grad():
            timings = time_alternately(
                named, seconds=seconds, threads=self.threads, clock=clock_of(self.threads)
            )
        return [one.fastest for one in timings.values()]

    def calling(self, function: Callable[..., Any], example: Example) -> Callable[[], object]:
        """Return what calls a network on an example, without any more work than that."""
        args, kwargs = arguments_of(example)
        if not self.overwrites:
            return lambda: function(*args, **kwargs)

        def on_copies() -> object:
            own_args, own_kwargs = copied(example)
            return function(*own_args, **own_kwargs)

        return on_copies

    def _bytes(self, network: nn.Module) -> int:
        return file_bytes(self._compressed(network))

    def _compressed(self, network: nn.Module) -> Compressed:
        """Compress a candidate, on a few examples where others are no different.

        Nothing is timed meanwhile, and what is chosen in the end is compared on all of them.
        """
        few = first(self.example, FEW)
        with quietly():
            found = compress(network, few, threads=self.threads, choose="engine")
            if found.fixed_batch:
                found = compress(network, self.example, threads=self.threads, choose="engine")
        return found


def clock_of(threads: int) -> Callable[[], float]:
    """Return the clock by which networks are compared.

    With one thread it is the processor's time, of which other programs take nothing, where the
    system tells it finely enough; several threads wait for each other, which only the wall's tells.
    """
    fine = time.get_clock_info("thread_time").resolution <= _FINE_SECONDS
    return time.thread_time if threads == 1 and fine else time.perf_counter


def work_of(network: nn.Module, example: Example) -> tuple[int, int]:
    """Return the multiply-adds of all weights for one example, and those of non-zero ones."""
    found = multiply_adds(network, Arguments.of(network, example))
    return found.dense, found.nonzero


def file_bytes(small: Compressed) -> int:
    """Return how large the file of a compressed network is; the bytes of weights if it has none."""
    if not has_file(small):
        return dense_bytes(small._module)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.gsm"
        small.save(path)
        return path.stat().st_size


def has_file(small: Compressed) -> bool:
    """Return whether a compressed network can be written to a file that needs no PyTorch."""
    return small.network is not None and not small.fixed_batch


def dense_bytes(network: nn.Module) -> int:
    """Return the bytes of a network's parameters."""
    return sum(one.numel() * one.element_size() for one in network.parameters())


def meter_of(model: nn.Module, example: Example, options: Options) -> Meter:
    """Return what measures candidates of a network.

    Raises
    ------
    InputError
        If the network fails, or what is asked for cannot be measured of it.
    """
    dense = plain_copy(model).cpu().eval()
    args, kwargs = copied(example)
    with torch.no_grad():
        call_on(dense, example)
        dense(*args, **kwargs)
    before, after = tensors_in(example), tensors_in((args, kwargs))
    overwrites = not all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    if options.target == "flops" and not work_of(dense, example)[0]:
        raise InputError(
            f"target: no multiply-adds can be counted of {type(dense).__name__}, whose weights are "
            "in none of PyTorch's layers: take latency or size"
        )
    meter = Meter(dense, example, options.target, options.threads, overwrites)
    return in_faster_layout(meter) if options.target == "latency" else meter


def in_faster_layout(meter: Meter) -> Meter:
    """Return a meter that runs the dense network in the layout that is fastest on its example."""
    usual, other = torch.contiguous_format, layout_of_example(meter.dense, meter.example)
    if other == usual:
        return replace(meter, layout=usual)
    meters = [replace(meter, layout=one) for one in (usual, other)]
    seconds = meter.timed([one.in_pytorch(meter.example) for one in meters], _QUICK_SECONDS)
    return meters[seconds[1] < seconds[0]]


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out warnings that were given of the network before, or concern a candidate alone.

    How far each single compression is, is left out, too.
    """
    with warnings.catch_warnings(), shown_already():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield

"""How long a prediction takes: a pruned network timed beside the unpruned one of its seed.

What is compared is timed in turn in one call, so that a machine that grows slower or faster from
one network to the next changes both times and leaves their ratio as it is. Therefore ratios are
what claims and figures hold against each other; the seconds say what they are ratios of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gossamer.compression import compress
from gossamer.compression.choosing import ChannelsLast, time_candidates
from gossamer.compression.compressed import Compressed
from gossamer.core.progress import shown_already
from gossamer.measures.functional.latency import latency_of
from gossamer.measures.functional.machine import machine
from gossamer.records.joint import Timed
from gossamer.records.speed import Latency

COMPRESSED = "compressed"
PLAIN, CHANNELS_LAST = "PyTorch", "PyTorch channels_last"
_CHOOSING_SECONDS = 0.3
"""For `compress` to find the fastest of what it can do with a network."""
_SECONDS = 0.25
"""For each way to run a network."""

Calls = dict[str, Callable[[], object]]


@dataclass(frozen=True, eq=False)
class Runnable:
    """A network and what `gossamer.compress` made of it."""

    network: nn.Module
    """In evaluation mode, on the CPU; its pruned weights are zeros."""
    compressed: Compressed

    def calls(self, inputs: Tensor) -> Calls:
        """Return the ways to predict a batch; one with convolutions is tried channels last, too."""
        network, compressed = self.network, self.compressed
        calls: Calls = {PLAIN: lambda: network(inputs), COMPRESSED: lambda: compressed(inputs)}
        if any(parameter.dim() == 4 for parameter in network.parameters()):
            last = ChannelsLast(network)
            calls[CHANNELS_LAST] = lambda: last(inputs)
        return calls


def make_runnable(network: nn.Module, inputs: Tensor, *, threads: int) -> Runnable:
    """Compress a network for such batches, ``[batch, ...]``, and so many threads."""
    with shown_already():
        small = compress(network, inputs, threads=threads, seconds=_CHOOSING_SECONDS)
    return Runnable(network, small)


def time_networks(own: Runnable, unpruned: Runnable | None, inputs: Tensor) -> Timed:
    """Time every way to run a network, in turn with those of the unpruned one.

    Parameters
    ----------
    own
        What is timed.
    unpruned
        What it is held against; None if it is unpruned itself.
    inputs
        The batch that is predicted, ``[batch, ...]``.
    """
    calls = {f"own {way}": call for way, call in own.calls(inputs).items()}
    if unpruned is not None:
        calls |= {f"unpruned {way}": call for way, call in unpruned.calls(inputs).items()}
    threads = own.compressed.threads
    timings = time_candidates(calls, _SECONDS * len(calls), threads)
    found = {name: latency_of(timing) for name, timing in timings.items()}
    return Timed(
        batch=len(inputs),
        threads=threads,
        instruction_set=machine(threads).instruction_set,
        chosen=own.compressed.choice,
        own=_beginning("own ", found),
        unpruned=_beginning("unpruned ", found),
    )


def latency_measures(timed: Timed) -> dict[str, float]:
    """Return the measures of a network that was timed: medians in seconds a batch, and ratios.

    `latency` is that of what `gossamer.compress` gives, `latency_masked` that of the network with
    its zeros in PyTorch, and `latency_dense` that of the unpruned network in its fastest way: in
    PyTorch or compressed, which then means dense on gossamer's engine. `latency_ratio` is the
    first over the last, so that the engine alone earns nothing. `latency_ratio_masked` stays within
    PyTorch. Both are 1 for an unpruned network, whose `latency` is that of its fastest way.

    Examples
    --------
    >>> seconds = lambda s: Latency(median=s, low=s, high=s, fastest=s, repeats=9)
    >>> timed = Timed(
    ...     batch=64, threads=1, instruction_set="avx2", chosen="engine",
    ...     own={"PyTorch": seconds(4.0), "compressed": seconds(1.0)},
    ...     unpruned={"PyTorch": seconds(4.0), "compressed": seconds(2.0)},
    ... )
    >>> found = latency_measures(timed)
    >>> found["latency"], found["latency_dense"], found["latency_ratio"]
    (1.0, 2.0, 0.5)
    >>> found["latency_masked"], found["latency_ratio_masked"]
    (4.0, 1.0)
    """
    dense = timed.unpruned or timed.own
    own = timed.own[COMPRESSED].median if timed.unpruned else _fastest(timed.own)
    masked = _fastest(_in_pytorch(timed.own))
    return {
        "latency": own,
        "latency_masked": masked,
        "latency_dense": _fastest(dense),
        "latency_ratio": own / _fastest(dense),
        "latency_ratio_masked": masked / _fastest(_in_pytorch(dense)),
    }


def _beginning(prefix: str, found: Mapping[str, Latency]) -> dict[str, Latency]:
    return {
        name.removeprefix(prefix): one for name, one in found.items() if name.startswith(prefix)
    }


def _in_pytorch(ways: Mapping[str, Latency]) -> dict[str, Latency]:
    return {way: one for way, one in ways.items() if way != COMPRESSED}


def _fastest(ways: Mapping[str, Latency]) -> float:
    """Return the shortest median."""
    return min(one.median for one in ways.values())

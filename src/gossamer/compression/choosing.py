"""The fastest of what computes the same, found by timing it on this machine."""

import copy
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gossamer.compression.storing import LAYOUTS, stored_as, suitable_layouts, with_usual_layouts
from gossamer.engine import Layout, Network
from gossamer.engine.native import Engine
from gossamer.measures.functional.latency import Clock, Timing, time_alternately

_WINS_BELOW = 0.98
"""Share of the dense model's time below which something else is worth the change."""
_ROUNDS = 3
"""How often the layers of each candidate are timed, in turn, if there is time."""
_MOST_REPEATS = 10
"""How often they run each time, at the most."""


def choose_layouts(
    network: Network,
    inputs: NDArray[Any] | Sequence[NDArray[Any]],
    threads: int,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> Network:
    """Return the network with the weights of each layer stored in the way that runs fastest.

    Networks that store all layers dense, sparse, or in blocks where these suit are run in turn,
    and each layer is taken from the one in which it was fastest. They run once each whatever the
    time, and more often where there is some left.
    """
    suitable = [suitable_layouts(layer) for layer in network.layers]
    candidates = [
        [_nearest(layout, layouts) for layouts in suitable]
        for layout in LAYOUTS
        if any(layout in layouts for layouts in suitable)
    ]
    engines = [Engine(stored_as(network, layouts)) for layouts in candidates]
    if any(engine.instruction_set == "numpy" for engine in engines):  # which measures no layers
        return with_usual_layouts(network)
    started = clock()
    rounds = [[engine.layer_seconds(inputs, threads, repeats=1) for engine in engines]]
    one_round = clock() - started
    repeats = _repeats(one_round, seconds)
    while repeats and len(rounds) <= _ROUNDS and clock() - started < seconds:
        rounds.append([engine.layer_seconds(inputs, threads, repeats) for engine in engines])
    fastest = np.min(np.asarray(rounds, np.float64), axis=0).argmin(axis=0)
    best = [candidates[choice][layer] for layer, choice in enumerate(fastest)]
    return stored_as(network, best)


def _repeats(one_round: float, seconds: float) -> int:
    """Return how often each engine runs in a round, if every engine once takes so long."""
    if one_round <= 0:
        return _MOST_REPEATS
    return min(_MOST_REPEATS, int((seconds - one_round) / (_ROUNDS * one_round)))


def _nearest(layout: Layout, suitable: Sequence[Layout]) -> Layout | None:
    """Return a layout if it suits, or else the one before it that does."""
    if not suitable:
        return None
    return layout if layout in suitable else suitable[-1]


class ChannelsLast(nn.Module):
    """A model whose convolutions read and write channels last, as they do fastest in PyTorch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the model gives for images [batch, channels, height, width], and others."""
        args, kwargs = pytree.tree_map(_channels_last, (inputs, named))
        return self.model(*args, **kwargs)


def _channels_last(value: Any) -> Any:
    images = isinstance(value, Tensor) and value.dim() == 4
    return value.contiguous(memory_format=torch.channels_last) if images else value


def time_candidates(
    candidates: Mapping[str, Callable[[], object]], seconds: float, threads: int
) -> dict[str, Timing]:
    """Time calls in turn without gradients."""
    with torch.no_grad():
        return time_alternately(candidates, seconds=seconds, threads=threads)


def fastest(timings: Mapping[str, Timing]) -> str:
    """Return the name of what is surely the fastest, or "dense" where nothing surely beats it.

    A slower quarter of one's repeats that is still faster than the faster quarter of the other's
    is no accident of a few repeats; medians alone would differ by chance, and the shortest of
    several would be the luckiest.

    Examples
    --------
    >>> fastest({"dense": Timing((2.0,)), "compact": Timing((1.99,)), "engine": Timing((3.0,))})
    'dense'
    """
    in_pytorch = [name for name in timings if name.startswith("dense")]
    best_dense = _surely_fastest(timings, in_pytorch, "dense")
    return _surely_fastest(timings, timings, best_dense)


def _surely_fastest(
    timings: Mapping[str, Timing], names: Collection[str], unless_faster: str
) -> str:
    """Return the shortest median among those that surely beat one, or else that one."""
    other = timings[unless_faster]
    sure = [name for name in names if _surely_faster(timings[name], other)]
    return min(sure, key=lambda name: timings[name].median, default=unless_faster)


def _surely_faster(timing: Timing, other: Timing) -> bool:
    apart = timing.quartiles[1] < other.quartiles[0]
    return apart and timing.median < _WINS_BELOW * other.median

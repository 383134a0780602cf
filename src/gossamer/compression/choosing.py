"""The fastest of what computes the same, found by timing it on this machine."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.compression.storing import KINDS, stored_as, suitable_kinds, with_usual_kinds
from gossamer.kernels.engine import Engine, available_instruction_sets
from gossamer.kernels.network import Floats, Kind, Network
from gossamer.measure.latency import Timing, time_alternately

_WINS_BELOW = 0.98
"""Share of the dense model's time below which something else is faster, and not by chance."""
_ROUNDS = 3
"""How often the layers of each candidate are timed, in turn."""


def choose_kinds(network: Network, inputs: Floats, threads: int) -> Network:
    """Return the network with the weights of each layer stored in the way that runs fastest.

    Networks that store all layers dense, sparse, or in blocks where these suit are run in turn,
    and each layer is taken from the one in which it was fastest.
    """
    suitable = [suitable_kinds(layer) for layer in network.layers]
    candidates = [
        [_nearest(kind, kinds) for kinds in suitable]
        for kind in KINDS
        if any(kind in kinds for kinds in suitable)
    ]
    if available_instruction_sets() == ("numpy",):  # which measures no layers
        return with_usual_kinds(network)
    engines = [Engine(stored_as(network, kinds)) for kinds in candidates]
    rounds = [
        [engine.layer_seconds(inputs, threads=threads) for engine in engines]
        for _ in range(_ROUNDS)
    ]
    seconds = np.min(np.asarray(rounds, np.float64), axis=0) if candidates else np.zeros((1, 0))
    fastest = seconds.argmin(axis=0)
    best = [candidates[choice][layer] for layer, choice in enumerate(fastest)]
    return stored_as(network, best) if candidates else network


def _nearest(kind: Kind, suitable: Sequence[Kind]) -> Kind | None:
    """Return a kind if it suits, or else the one before it that does."""
    if not suitable:
        return None
    return kind if kind in suitable else suitable[-1]


class ChannelsLast(nn.Module):
    """A model whose convolutions read and write channels last, as they do fastest in PyTorch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor) -> Any:
        """Return what the model gives for images [batch, channels, height, width]."""
        return self.model(inputs.contiguous(memory_format=torch.channels_last))


def time_candidates(
    candidates: Mapping[str, Callable[[], object]], seconds: float, threads: int
) -> dict[str, Timing]:
    """Time calls in turn without gradients."""
    with torch.no_grad():
        return time_alternately(candidates, seconds=seconds, threads=threads)


def fastest(timings: Mapping[str, Timing]) -> str:
    """Return the name of the shortest median, or of the dense model where that is about as fast.

    Examples
    --------
    >>> fastest({"dense": Timing((2.0,)), "compact": Timing((1.99,)), "engine": Timing((3.0,))})
    'dense'
    """
    best = min(timings, key=lambda name: timings[name].median)
    dense = min(
        (name for name in timings if name.startswith("dense")), key=lambda n: timings[n].median
    )
    return best if timings[best].median < _WINS_BELOW * timings[dense].median else dense

"""The fastest is chosen: for each layer how it is stored, and for the network who runs it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.compression import choosing
from gossamer.compression.choosing import ChannelsLast, choose_kinds, fastest
from gossamer.kernels.network import Linear, Network
from gossamer.kernels.weights import pack_weights
from gossamer.measure.latency import Timing


def three_layers() -> Network:
    matrix = np.repeat(np.eye(2, 8), 4, axis=0)
    layers = [Linear(n, pack_weights(matrix, "dense")) for n in range(2)]
    return Network((8,), (*layers, Linear(2, pack_weights(np.ones((8, 8)), "dense"))), 3)


def kinds_of(network: Network) -> list[str]:
    return [layer.weights.kind for layer in network.layers if isinstance(layer, Linear)]


def test_each_layer_takes_the_kind_in_which_it_was_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"dense": (3.0, 1.0, 1.0), "sparse": (2.0, 2.0, 1.0), "block": (1.0, 3.0, 1.0)}

    class FakeEngine:
        def __init__(self, network: Network) -> None:
            self.kind = kinds_of(network)[0]

        def layer_seconds(self, *_: Any, **__: Any) -> list[float]:
            return list(seconds[self.kind])

    monkeypatch.setattr(choosing, "Engine", FakeEngine)
    monkeypatch.setattr(choosing, "available_instruction_sets", lambda: ("avx2", "numpy"))
    chosen = choose_kinds(three_layers(), np.ones((1, 8), np.float32), threads=1)
    assert kinds_of(chosen) == ["block", "dense", "dense"]


def test_without_compiled_kernels_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "available_instruction_sets", lambda: ("numpy",))
    chosen = choose_kinds(three_layers(), np.ones((1, 8), np.float32), threads=1)
    assert kinds_of(chosen) == ["block", "block", "dense"]


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        ({"dense": 2.0, "engine": 1.0, "dense channels_last": 3.0}, "engine"),
        ({"dense": 2.0, "engine": 1.99, "dense channels_last": 3.0}, "dense"),
        ({"dense": 2.0, "engine": 1.5, "dense channels_last": 1.4}, "dense channels_last"),
        ({"dense": 2.0, "compact": 1.2, "engine": 1.5}, "compact"),
    ],
)
def test_the_dense_model_stays_unless_something_is_clearly_faster(
    seconds: dict[str, float], name: str
) -> None:
    assert fastest({key: Timing((value,)) for key, value in seconds.items()}) == name


def test_channels_last_computes_the_same_and_leaves_the_model_alone() -> None:
    model = nn.Conv2d(3, 4, 3)
    images = torch.randn(2, 3, 6, 6)
    assert torch.allclose(ChannelsLast(model)(images), model(images), atol=1e-6)
    assert model.weight.is_contiguous()

"""The fastest is chosen: for each layer how it is stored, and for the network who runs it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.compression import choosing
from gossamer.compression.choosing import ChannelsLast, choose_layouts, fastest
from gossamer.engine import Linear, Network, pack_weights
from gossamer.engine.native import INSTRUCTION_SET_VARIABLE
from gossamer.measures.functional.latency import Timing


def three_layers() -> Network:
    matrix = np.repeat(np.eye(2, 8), 4, axis=0)
    layers = [Linear(n, pack_weights(matrix, "dense")) for n in range(2)]
    return Network((8,), (*layers, Linear(2, pack_weights(np.ones((8, 8)), "dense"))), 3)


def kinds_of(network: Network) -> list[str]:
    return [layer.weights.layout for layer in network.layers if isinstance(layer, Linear)]


def test_each_layer_takes_the_kind_in_which_it_was_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"dense": (3.0, 1.0, 1.0), "csr": (2.0, 2.0, 1.0), "block": (1.0, 3.0, 1.0)}

    class FakeEngine:
        instruction_set = "avx2"

        def __init__(self, network: Network) -> None:
            self.kind = kinds_of(network)[0]

        def layer_seconds(self, *_: Any, **__: Any) -> list[float]:
            return list(seconds[self.kind])

    monkeypatch.setattr(choosing, "Engine", FakeEngine)
    chosen = choose_layouts(three_layers(), np.ones((1, 8), np.float32), threads=1, seconds=0.01)
    assert kinds_of(chosen) == ["block", "dense", "dense"]


def test_on_numpy_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "numpy")
    chosen = choose_layouts(three_layers(), np.ones((1, 8), np.float32), threads=1, seconds=1)
    assert kinds_of(chosen) == ["block", "block", "dense"]


@pytest.mark.parametrize(
    ("one_run", "seconds", "runs"),
    [(1.0, 0.1, 1), (1.0, 13.0, 4), (1.0, 1000.0, 31), (0.0, 1.0, 31)],
)
def test_how_weights_are_stored_is_chosen_in_the_time_that_there_is(
    monkeypatch: pytest.MonkeyPatch, one_run: float, seconds: float, runs: int
) -> None:
    now, made = 0.0, []

    class SlowEngine:
        instruction_set = "avx2"

        def __init__(self, network: Network) -> None:
            self.layers = len(network.layers)

        def layer_seconds(self, inputs: object, threads: int, repeats: int) -> list[float]:
            nonlocal now
            now += repeats * one_run
            made.append(repeats)
            return [one_run] * self.layers

    monkeypatch.setattr(choosing, "Engine", SlowEngine)
    inputs = np.ones((1, 8), np.float32)
    choose_layouts(three_layers(), inputs, threads=1, seconds=seconds, clock=lambda: now)
    assert sum(made) == 3 * runs  # dense, sparse and in blocks
    assert now <= max(seconds, 3 * one_run)


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


NOISY = (0.8, 0.9, 1.0, 1.1, 1.2)


def times(*seconds: float, factor: float = 1.0) -> Timing:
    return Timing(tuple(factor * second for second in seconds))


def test_a_shorter_median_among_noise_does_not_win() -> None:
    timings = {"dense": times(*NOISY), "engine": times(*NOISY, factor=0.9)}
    assert timings["engine"].median < timings["dense"].median
    assert fastest(timings) == "dense"
    assert fastest({**timings, "engine": times(*NOISY, factor=0.7)}) == "engine"


def test_one_slow_repeat_decides_nothing() -> None:
    slow_once = times(1.0, 1.0, 1.0, 1.0, 50.0)
    assert fastest({"dense": slow_once, "engine": times(1.0, 1.0, 1.0, 1.0, 1.0)}) == "dense"
    engine = times(0.5, 0.5, 0.5, 0.5, 50.0)
    assert fastest({"dense": times(1.0, 1.0, 1.0, 1.0, 1.0), "engine": engine}) == "engine"


def test_the_luckiest_of_many_alike_does_not_win() -> None:
    """By medians alone, the dense model would lose three times in four."""
    random, names = np.random.default_rng(0), ("dense", "compact", "engine", "dense channels_last")
    draws = [{name: times(*random.lognormal(0, 0.1, 9)) for name in names} for _ in range(300)]
    assert sum(fastest(drawn) != "dense" for drawn in draws) <= 0.05 * len(draws)


def test_a_way_to_lay_out_images_has_to_be_surely_faster_as_well() -> None:
    timings = {"dense": times(*NOISY), "dense channels_last": times(*NOISY, factor=0.95)}
    assert fastest(timings) == "dense"


def test_channels_last_computes_the_same_and_leaves_the_model_alone() -> None:
    model = nn.Conv2d(3, 4, 3)
    images = torch.randn(2, 3, 6, 6)
    assert torch.allclose(ChannelsLast(model)(images), model(images), atol=1e-6)
    assert model.weight.is_contiguous()

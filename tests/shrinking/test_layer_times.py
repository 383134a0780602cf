"""What a layer's weights take: measured as others will be, and never more than was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.compression import Compressed, compress
from gossamer.records.shrinking import Tolerance
from gossamer.shrinking import costs, ways
from gossamer.shrinking.allocating import LEVELS, Weighted, allocated, by_magnitude, evenly
from gossamer.shrinking.costs import FEW, Meter
from gossamer.shrinking.descent import Ground
from gossamer.shrinking.layer_times import MOST_LAYERS, kinds_of, kinds_timed, timed_layers
from gossamer.shrinking.options import options_of
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification
from gossamer.shrinking.ways import ways_of

FIXED = {"a": 1.0, "b": 5.0}
FALLING = {"a": 4.0, "b": 0.0}
APART = {"a": "a", "b": "b"}


def layer(name: str, cost: float = 100.0) -> Weighted:
    damage = tuple(0.01 * (1 / (1 - s) - 1) for s in LEVELS)
    return Weighted(Tolerance(name=name, sparsities=LEVELS, damage=damage), cost)


def time_at(sparsities: Sequence[Mapping[str, float]]) -> list[float]:
    """A network whose layer a takes time by its weights, whose layer b takes the same always."""
    return [
        sum(FIXED[name] + FALLING[name] * (1 - share) for name, share in each.items())
        for each in sparsities
    ]


def test_what_no_sparsity_saves_is_no_cost() -> None:
    a, b = timed_layers([layer("a"), layer("b")], APART, {"a": 0.9, "b": 0.9}, time_at)
    assert a.costs()[0] == pytest.approx(4.0 * (1 - 0.01), rel=0.05)
    assert np.all(np.diff(a.costs()) < 0)
    half = float(np.interp(np.log(0.5), np.log(np.geomspace(0.01, 1, 93)), a.costs()[::-1]))
    assert half == pytest.approx(2.0, rel=0.05)
    assert b.costs()[0] < 0.05 * a.costs()[0]


def test_sparsity_goes_where_it_saves_time() -> None:
    timed = timed_layers([layer("a"), layer("b")], APART, {"a": 0.9, "b": 0.9}, time_at)
    found = allocated(timed, 0.2)
    assert found["b"] < 0.3 < 0.75 < found["a"]
    linear = allocated([layer("a"), layer("b")], 0.2)
    assert linear["a"] == pytest.approx(linear["b"], rel=0.05)  # the last step is one layer's


def test_a_noisy_clock_makes_no_layer_cost_more_with_fewer_weights() -> None:
    noise = iter(np.random.default_rng(0).normal(1, 0.3, 100))
    (found,) = timed_layers(
        [layer("a")], APART, {"a": 0.9}, lambda each: [t * next(noise) for t in time_at(each)]
    )
    assert np.all(np.diff(found.costs()) < 0)
    assert np.all(found.costs() > 0)


def test_of_many_layers_the_greatest_are_timed_and_others_cost_in_proportion() -> None:
    layers = [layer(f"{i}", 10.0 * (i + 1)) for i in range(MOST_LAYERS + 3)]
    seen: list[int] = []

    def timed(sparsities: Sequence[Mapping[str, float]]) -> list[float]:
        seen.append(len(sparsities))
        return [sum(2.0 * (1 - share) for share in each.values()) for each in sparsities]

    kinds = {one.tolerance.name: one.tolerance.name for one in layers}
    found = timed_layers(layers, kinds, dict.fromkeys(kinds, 0.9), timed)
    assert seen == [1 + len(LEVELS)] * MOST_LAYERS
    assert [one.tolerance.name for one in found] == [one.tolerance.name for one in layers]
    costs = [float(one.costs()[0]) for one in found]
    assert costs[0] == pytest.approx(costs[2] / 3)
    assert costs[3] == pytest.approx(2.0, rel=0.05)


def test_layers_of_one_kind_are_timed_once() -> None:
    names = [f"{i}" for i in range(MOST_LAYERS + 3)]
    kinds = {name: "last" if name == names[-1] else "other" for name in names}
    seen: list[str] = []

    def timed(sparsities: Sequence[Mapping[str, float]]) -> list[float]:
        (changed,) = (name for name, share in sparsities[0].items() if share == 0.0)
        seen.append(changed)
        return [3.0 - 2.0 * each[changed] for each in sparsities]

    found = timed_layers([layer(name) for name in names], kinds, dict.fromkeys(names, 0.9), timed)
    assert seen == ["0"]
    *others, last = found
    assert {(one.cost, one.costs_at) for one in others} == {(found[0].cost, found[0].costs_at)}
    assert not last.costs_at
    assert last.cost == pytest.approx(float(found[0].costs()[0]))
    assert kinds_timed(kinds, dict.fromkeys(names, 1.0)) == 1


class Two(nn.Module):
    """Two weights of its own, of which one alone is used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.ones(3, 4)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.first.T


def test_layers_are_alike_by_their_settings_and_work() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1),
        Two(),
    )
    names = [f"{i}.weight" for i in range(4)] + ["4.first", "4.second"]
    kinds = kinds_of(network, dict(zip(names, (900, 900, 300, 300, 12, 12), strict=True)))
    assert kinds["0.weight"] == kinds["1.weight"]
    assert len({*kinds.values()}) == 5


def test_a_residual_network_is_compressed_once_for_each_kind_and_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks that are alike are timed once, and compressed on a few examples."""
    torch.manual_seed(0)
    blocks = [m for _ in range(6) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    network = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64, 3)).eval()
    split = Split(torch.randn(64, 4, 4, 4), torch.arange(64) % 3)
    options = options_of(pattern="weight", train_batch=8)
    ground = Ground(split.example(16), split, classification(), options, 0.01)
    seen: list[int] = []

    def compressed(model: nn.Module, example: torch.Tensor, **asked: Any) -> Compressed:
        seen.append(len(example))
        return compress(model, example, **asked)

    monkeypatch.setattr(costs, "compress", compressed)
    monkeypatch.setattr(ways, "LAYER_SECONDS", 1e-3)
    meter = Meter(network, ground.example, "latency", 1)
    ways_of(network, ground, meter, lambda _: None, usual=False, timed=True)
    assert seen == [FEW] * (2 * (1 + len(LEVELS)))


@pytest.mark.parametrize("share", [0.6, 0.3, 0.1])
def test_the_usual_ways_cost_what_is_asked(share: float) -> None:
    layers = [layer("a", 300.0), layer("b", 100.0)]
    generator = np.random.default_rng(0)
    magnitudes = {
        "a": np.sort(np.abs(generator.normal(size=5000))),
        "b": np.sort(np.abs(generator.normal(size=5000)) * 3),
    }
    for found in (evenly(layers, share), by_magnitude(magnitudes, layers, share)):
        assert 300 * (1 - found["a"]) + 100 * (1 - found["b"]) == pytest.approx(
            share * 400, rel=0.05
        )
    assert len(set(evenly(layers, share).values())) == 1
    pooled = np.sort(np.concatenate([*magnitudes.values()]))
    compared = by_magnitude(magnitudes, layers, share)
    threshold = pooled[round((compared["a"] + compared["b"]) / 2 * len(pooled))]
    for name, one in magnitudes.items():
        assert compared[name] == pytest.approx(float((one < threshold).mean()), abs=0.002)

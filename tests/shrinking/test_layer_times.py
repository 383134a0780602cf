"""What a layer's weights take: measured as others will be, and never more than was measured."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.allocating import LEVELS, Weighted, allocated, by_magnitude, evenly
from gossamer.shrinking.layer_times import MOST_LAYERS, timed_layers

FIXED = {"a": 1.0, "b": 5.0}
FALLING = {"a": 4.0, "b": 0.0}


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
    a, b = timed_layers([layer("a"), layer("b")], {"a": 0.9, "b": 0.9}, time_at)
    assert a.costs()[0] == pytest.approx(4.0 * (1 - 0.01), rel=0.05)
    assert np.all(np.diff(a.costs()) < 0)
    half = float(np.interp(np.log(0.5), np.log(np.geomspace(0.01, 1, 93)), a.costs()[::-1]))
    assert half == pytest.approx(2.0, rel=0.05)
    assert b.costs()[0] < 0.05 * a.costs()[0]


def test_sparsity_goes_where_it_saves_time() -> None:
    found = allocated(timed_layers([layer("a"), layer("b")], {"a": 0.9, "b": 0.9}, time_at), 0.2)
    assert found["b"] < 0.3 < 0.75 < found["a"]
    linear = allocated([layer("a"), layer("b")], 0.2)
    assert linear["a"] == pytest.approx(linear["b"], rel=0.05)  # the last step is one layer's


def test_a_noisy_clock_makes_no_layer_cost_more_with_fewer_weights() -> None:
    noise = iter(np.random.default_rng(0).normal(1, 0.3, 100))
    (found,) = timed_layers(
        [layer("a")], {"a": 0.9}, lambda each: [t * next(noise) for t in time_at(each)]
    )
    assert np.all(np.diff(found.costs()) < 0)
    assert np.all(found.costs() > 0)


def test_of_many_layers_the_greatest_are_timed_and_others_cost_in_proportion() -> None:
    layers = [layer(f"{i}", 10.0 * (i + 1)) for i in range(MOST_LAYERS + 3)]
    seen: list[int] = []

    def timed(sparsities: Sequence[Mapping[str, float]]) -> list[float]:
        seen.append(len(sparsities))
        return [sum(2.0 * (1 - share) for share in each.values()) for each in sparsities]

    found = timed_layers(layers, {one.tolerance.name: 0.9 for one in layers}, timed)
    assert seen == [1 + len(LEVELS)] * MOST_LAYERS
    assert [one.tolerance.name for one in found] == [one.tolerance.name for one in layers]
    costs = [float(one.costs()[0]) for one in found]
    assert costs[0] == pytest.approx(costs[2] / 3)
    assert costs[3] == pytest.approx(2.0, rel=0.05)


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

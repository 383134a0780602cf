"""How sparse each layer becomes: against brute force, and on a network of known sensitivity."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.allocating import LEVELS, Weighted, allocated, tolerances
from gossamer.shrinking.descent import MOST, Way, depths, shared_out
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification

DAMAGES = {"a": 0.02, "b": 0.3, "c": 0.004}
COSTS = {"a": 300.0, "b": 100.0, "c": 700.0}


def layers() -> list[Weighted]:
    return [
        Weighted(
            Tolerance(
                name=name,
                sparsities=LEVELS,
                damage=tuple(scale * (1 / (1 - s) - 1) ** 1.5 for s in LEVELS),
            ),
            COSTS[name],
        )
        for name, scale in DAMAGES.items()
    ]


@pytest.mark.parametrize("share", [0.6, 0.3, 0.1])
def test_no_other_split_of_the_cost_does_less_damage(share: float) -> None:
    found = allocated(layers(), share)
    tables = {one.tolerance.name: one.damages() for one in layers()}
    grid = np.geomspace(1.0, 0.01, 93)
    total = share * sum(COSTS.values())
    at = {name: int(np.abs(1 - found[name] - grid).argmin()) for name in found}
    assert sum(COSTS[name] * grid[i] for name, i in at.items()) <= total * (1 + 1e-9)
    own = sum(tables[name][i] for name, i in at.items())
    best = min(
        sum(tables[name][i] for name, i in zip(DAMAGES, choice, strict=True))
        for choice in itertools.product(range(0, 93, 2), repeat=3)
        if sum(COSTS[n] * grid[i] for n, i in zip(DAMAGES, choice, strict=True)) <= total
    )
    assert own <= 1.1 * best  # the grid of single steps of three layers leaves a little unused


def test_a_smaller_share_never_makes_a_layer_denser() -> None:
    found = [allocated(layers(), share) for share in (0.7, 0.4, 0.2, 0.1, 0.05)]
    for less, more in itertools.pairwise(found):
        assert all(less[name] <= more[name] for name in DAMAGES)


def test_a_leap_of_the_damage_does_not_make_the_network_leap() -> None:
    steep = Tolerance(name="a", sparsities=LEVELS, damage=(0.01, 0.5, 0.51, 0.52, 0.53, 0.54, 0.55))
    for share in (0.65, 0.5, 0.3):
        found = allocated([Weighted(steep, 10.0)], share)
        assert share / 1.06 <= 1 - found["a"] <= share


def test_a_layer_that_nothing_depends_on_tolerates_more() -> None:
    torch.manual_seed(0)
    idle, last = nn.Linear(40, 40), nn.Linear(40, 3)
    network = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), idle, nn.ReLU(), last)
    with torch.no_grad():
        idle.weight.mul_(1e-4)  # what it gives is nearly its bias alone
    before = [one.detach().clone() for one in network.parameters()]
    split = Split(torch.randn(64, 6), torch.arange(64) % 3)
    found = {
        one.name: one
        for one in tolerances(network, split, classification(), "weight", torch.randn(2, 6))
    }
    assert found["2.weight"].damage[-1] < 1e-6 < 1e-4 < found["4.weight"].damage[-1]
    assert all(map(torch.equal, before, network.parameters()))


def test_a_descent_goes_down_and_spends_all_its_epochs() -> None:
    for pattern in ("weight", "block", "unit", "unit+weight"):
        way = Way(pattern, partial(allocated, layers()), {"a": 10, "b": 20, "c": 30})
        rungs = [way.rung(depth) for depth in depths(MOST)]
        for less, more in itertools.pairwise(rungs):
            assert less.sparsity < more.sparsity or less.pattern != more.pattern
    for epochs in (1, 2, 5, 11, 30, 100):
        at = depths(epochs)
        shares = shared_out(epochs, len(at), whole=True)
        assert (sum(shares), len(shares)) == (epochs, min(epochs, MOST))
        assert min(shares) >= 1
        assert sum(shared_out(epochs, len(at))) == pytest.approx(epochs)
        assert list(at) == sorted(at)

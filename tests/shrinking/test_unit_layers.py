"""How many units each layer loses: where they take time, and where little is lost."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from gossamer.masks import Mask
from gossamer.shrinking.descent import Ground, Way, mask_of
from gossamer.shrinking.options import options_of
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification
from gossamer.shrinking.unit_layers import MOST_GROUPS, UNIT_LEVELS, UnitLayers, unit_layers


class Tied(nn.Module):
    """Two layers whose units go together, and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 16), nn.Linear(20, 16)
        self.own, self.head = nn.Linear(16, 20), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.relu(self.first(x))
        found: torch.Tensor = self.head(kept + self.second(torch.relu(self.own(kept))))
        return found


def ground() -> Ground:
    generator = torch.Generator().manual_seed(1)
    split = Split(torch.randn(64, 6, generator=generator), torch.arange(64) % 3)
    return Ground(split.example(4), split, classification(), options_of(train_batch=8), 0.01)


def zeros(network: nn.Module, name: str) -> float:
    return float((network.get_parameter(name).abs().sum(1) == 0).double().mean())


def looked_at(network: nn.Module, weights: dict[str, float]) -> UnitLayers:
    """Look at layers whose units take so much time each, and are worth the same."""

    def time_at(networks: Sequence[nn.Module]) -> list[float]:
        return [
            sum(each * (1 - zeros(one, name)) for name, each in weights.items()) for one in networks
        ]

    def damage(one: nn.Module) -> float:
        gone = sum(zeros(one, name) for name in weights)
        return 0.01 * gone / (1.01 - min(1.0, gone))

    asked = ground()
    found = unit_layers(network, asked, asked.split, damage, time_at)
    assert found is not None
    return found


def test_units_go_where_they_take_time() -> None:
    found = looked_at(Tied(), {"first.weight": 1.0, "own.weight": 9.0})
    assert set(found.groups) == {"first.weight", "own.weight"}
    assert set(found.groups["first.weight"]) == {"first.weight", "second.weight"}
    few = found.shares(0.5)
    assert few["first.weight"] == few["second.weight"] < few["own.weight"]
    other = looked_at(Tied(), {"first.weight": 9.0, "own.weight": 1.0}).shares(0.5)
    assert other["own.weight"] < other["first.weight"]
    assert max(found.shares(1e-6).values()) == UNIT_LEVELS[-1]  # a layer is never left empty


@pytest.mark.parametrize("pattern", ["unit", "unit+weight"])
def test_candidates_lose_as_many_units_as_each_layer_is_to(pattern: str) -> None:
    network = Tied()
    found = looked_at(network, {"first.weight": 1.0, "own.weight": 9.0})
    sizes = {name: one.numel() for name, one in network.named_parameters()}
    way = Way(
        pattern, lambda share: dict.fromkeys(("head.weight",), 1 - share), sizes, found.shares
    )
    rung = way.rung(1)
    assert rung.pattern == "unit"
    mask: Mask = mask_of(rung, network, None, ground())
    for name, share in rung.shares.items():
        gone = float((~mask.weights[name].any(1)).double().mean())
        assert gone == pytest.approx(share, abs=1 / 16)
    assert way.rung(4).pattern == ("unit" if pattern == "unit" else "weight")


def test_many_layers_are_not_looked_at_one_by_one() -> None:
    layers = [nn.Linear(6, 6) for _ in range(MOST_GROUPS + 2)]
    asked = ground()
    network = nn.Sequential(*layers, nn.Linear(6, 3))
    assert unit_layers(network, asked, asked.split, lambda _: 0.0, lambda _: []) is None

"""What a pruning step hands to `gossamer.prune` does what the step says."""

from typing import Any

import pytest
import torch
from torch import nn

from gossamer import masks
from gossamer.masks import ERK, Block, ErdosRenyi, FixedFanIn, NByM
from gossamer.recipes import Prune


@pytest.mark.parametrize(
    ("step", "allocation", "pattern"),
    [
        (Prune(allocation=ErdosRenyi(epsilon=3)), masks.ErdosRenyi(3), "weight"),
        (Prune(sparsity=0.5, allocation=ERK()), masks.ERK(), "weight"),
        (Prune(allocation=FixedFanIn(connections=2)), masks.FixedFanIn(2), "weight"),
        (Prune(pattern=NByM(n=2, m=4)), "global", masks.NByM(2, 4)),
        (Prune(sparsity=0.5, pattern=Block(rows=2, columns=4)), "global", masks.Block(2, 4)),
        (Prune(sparsity=0.5, allocation="uniform", pattern="unit"), "uniform", "unit"),
        (Prune(sparsity=0.5, allocation={"0": 0.25}), {"0": 0.25}, "weight"),
    ],
)
def test_a_step_becomes_the_choices_of_the_function(
    step: Prune, allocation: Any, pattern: Any
) -> None:
    choices = step.choices()
    assert (choices["allocation"], choices["pattern"]) == (allocation, pattern)
    assert choices["sparsity"] == step.sparsity
    network = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    mask = masks.find_mask(network, **choices)
    assert mask == masks.find_mask(
        network,
        step.sparsity,
        allocation=allocation,
        pattern=pattern,
    )
    assert 0 < mask.zeros < mask.size


def test_score_and_exclusions_go_along() -> None:
    choices = Prune(sparsity=0.5, score="largest", exclude=("0", "output layer")).choices()
    assert choices["score"] == "largest"
    assert choices["exclude"] == ("0", "output layer")


class Guarded(nn.Module):
    """Cannot be traced without an input; the head is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body, self.norm = nn.Linear(6, 2), nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.offset = nn.Parameter(torch.ones(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.norm(self.body(x + self.offset)))
        return result if len(x) else x


def test_masks_of_steps_see_an_example_and_warn_of_nothing() -> None:
    step = Prune(sparsity=0.5, pattern="unit", exclude=("output layer",))
    mask = step.find_mask(Guarded(), torch.rand(2, 4))
    assert set(mask) == {"body.weight", "body.bias", "norm.weight", "norm.bias"}
    assert set(mask.left_alone) == {"offset"}
    named = Prune(sparsity=0.5, include=("offset",)).find_mask(Guarded(), torch.rand(2, 4))
    assert "offset" in named.weights
    starving = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40))
    with torch.no_grad():
        starving[0].get_parameter("weight").mul_(1e-6)
    assert Prune(sparsity=0.5).find_mask(starving, torch.rand(2, 40)).densities["0.weight"] < 0.01

"""What a pruning step hands to `gossamer.prune` does what the step says."""

from typing import Any

import pytest
from torch import nn

from gossamer import masks
from gossamer.recipes import Prune
from gossamer.recipes.choosing import pruning_choices
from gossamer.recipes.steps import ERK, Block, ErdosRenyi, FixedFanIn, NByM


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
    choices = pruning_choices(step)
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
    choices = pruning_choices(Prune(sparsity=0.5, score="largest", exclude=("0", "output layer")))
    assert choices["score"] == "largest"
    assert choices["exclude"] == ("0", "output layer")

"""Prunings whose score needs data take examples of the training part by a rule that keys hold."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gossamer.core.streams import stream
from gossamer.data import Dataset
from gossamer.masks import OWL, find_mask
from gossamer.masks.scores import SCORES
from gossamer.networks import NetworkSpec
from gossamer.recipes import DataSpec, Prune, Train, Trial, keyed
from gossamer.recipes.keys import KeyedTrial

NEEDING_DATA = [name for name, score in SCORES.items() if score.needs_batches]
MLP = NetworkSpec(name="mlp", hidden=(16,))


def trial(points: Dataset, seed: int = 3, **pruning: Any) -> KeyedTrial:
    steps = (Train(epochs=2, batch=16), Prune(sparsity=0.5, **pruning))
    data = DataSpec(name="points", validation=0.2)
    return keyed(Trial(data=data, network=MLP, steps=steps, seed=seed), points)


@pytest.mark.parametrize("score", NEEDING_DATA)
@pytest.mark.parametrize("examples", [20, 1000])
def test_the_mask_is_that_of_the_examples_which_the_seed_draws(
    make_runner: Any, points: Dataset, score: str, examples: int
) -> None:
    found = trial(points, score=score, examples=examples)
    runner = make_runner(points)
    runner.train(found, 0)
    mask = runner.state(found, 2).mask
    # The network after the training, and what it was trained on: 48 of 60 examples.
    before = keyed(Trial(found.trial.data, MLP, 3, found.trial.steps[:1]), points)
    network, inputs = runner.network(before), runner.inputs(before, 48)
    train = runner._data(before).train
    assert torch.equal(train.inputs, inputs)
    chosen = np.sort(stream(3, "score examples").permutation(48)[:examples])
    parts = np.split(chosen, [n for n in (32,) if n < len(chosen)])
    batches = [(inputs[part], train.labels[part]) for part in parts]
    assert mask == find_mask(network, 0.5, score=score, batches=batches)
    assert mask.provenance["examples"] == min(examples, 48)
    again = make_runner(points, "elsewhere")
    again.train(found, 0)
    assert again.state(found, 2).mask == mask


def test_weights_that_a_score_changes_are_those_of_the_state(
    make_runner: Any, points: Dataset
) -> None:
    """What went before stays zero, and so does all that goes now while training goes on."""
    before = (Train(epochs=2, batch=16), Prune(sparsity=0.3, score="random"))
    pruning = Prune(sparsity=0.6, score="sparsegpt", examples=20)
    steps = (*before, pruning, Train(epochs=1, batch=16))
    found = keyed(Trial(DataSpec(name="points"), MLP, steps=steps, seed=3), points)
    runner = make_runner(points)
    runner.train(found, 0), runner.train(found, 3)
    first, second, last = (runner.state(found, number) for number in (2, 3, 4))
    assert second.mask.zeros == 58 + 29
    for name, kept in second.mask.weights.items():
        changed = second.network[name] != first.network[name] * kept
        assert changed.any(), name
        assert not changed[~first.mask[name]].any()
        assert not last.network[name][~kept].any()
        assert int((second.network[name] == 0).sum()) == round(0.6 * kept.numel())
    # In parts, each in a process that knows the states of before alone, it is the same.
    again = make_runner(points, "elsewhere")
    again.train(found, 0)
    make_runner(points, "elsewhere").train(found, 3)
    other = make_runner(points, "elsewhere").state(found, 4)
    assert other.mask == last.mask
    assert all(torch.equal(value, other.network[name]) for name, value in last.network.items())


def test_the_count_of_examples_is_in_keys_where_there_is_one(points: Dataset) -> None:
    keys = {
        trial(points, score=score, examples=examples).states[-1]
        for score in ("taylor", "wanda")
        for examples in (None, 20, 30)
    }
    assert len(keys) == 6
    assert trial(points, score="taylor") == trial(points, score="taylor", examples=1024)
    described = Prune(sparsity=0.5, score="taylor").described()
    assert described["examples"] == 1024
    assert "examples" not in Prune(sparsity=0.5, score="rms").described()
    assert trial(points, seed=4, score="taylor").states != trial(points, score="taylor").states


def test_an_allocation_that_needs_data_takes_examples(make_runner: Any, points: Dataset) -> None:
    step = Prune(sparsity=0.5, allocation=OWL(outliers=2.0, spread=0.05))
    assert step.described()["examples"] == 1024
    assert step.described()["allocation"] == {"name": "owl", "outliers": 2.0, "spread": 0.05}
    found = trial(points, allocation=step.allocation, examples=20)
    runner = make_runner(points)
    runner.train(found, 0)
    mask = runner.state(found, 2).mask
    assert mask.zeros == round(0.5 * mask.size)
    assert mask.provenance["examples"] == 20


def test_examples_without_a_use_and_functions_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValidationError, match="leave examples out: the score 'magnitude' needs no"):
        Prune(sparsity=0.5, examples=10)
    with pytest.raises(ValidationError, match="leave examples out: the score 'synflow' needs none"):
        Prune(sparsity=0.5, score="synflow", examples=10)
    with pytest.raises(ValidationError, match="give a function of your own to gossamer"):
        Prune(sparsity=0.5, score=lambda context: context.weight)
    with pytest.raises(ValidationError, match="greater than 0"):
        Prune(sparsity=0.5, score="wanda", examples=0)


def test_a_pruning_is_rehearsed_with_data_of_the_right_shape() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))
    example = torch.zeros(2, 6)
    for score in NEEDING_DATA:
        Prune(sparsity=0.5, score=score).rehearse(network, example)
    lookup = torch.nn.Sequential(torch.nn.Linear(6, 4), Lookup())
    with pytest.raises(ValueError, match=r"1\.table\.weight is an embedding"):
        Prune(sparsity=0.5, score="wanda").rehearse(lookup, example)


class Lookup(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.table(x.argmax(1))
        return found

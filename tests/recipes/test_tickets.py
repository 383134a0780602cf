"""Lottery tickets: rounds of training, pruning and rewinding to an early epoch, as a recipe."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.data import Dataset
from gossamer.networks import NetworkSpec
from gossamer.recipes import DataSpec, Prune, Rewind, Train, Transfer, Trial, keyed
from gossamer.recipes.keys import KeyedTrial
from gossamer.recipes.steps import Source
from gossamer.recipes.trial_runner import TrialRunner
from gossamer.training.loop import Interrupted, Standing

MakeRunner = Callable[..., TrialRunner]
LEVELS = (0.4, 0.7, 0.9)


def training(epochs: int, **others: Any) -> Train:
    return Train(epochs=epochs, batch=16, **others)


def ticket(home_made: str) -> Trial:
    """One epoch to begin with, three rounds of two, and the last ticket's training."""
    rounds: list[Any] = []
    for level in LEVELS:
        rounds += [training(2), Prune(sparsity=level), Rewind(to=1)]
    steps = (training(1), *rounds, training(2))
    network = NetworkSpec(name=f"{home_made}:dropout")
    return Trial(data=DataSpec(name="points"), network=network, steps=steps, seed=3)


def bits(value: torch.Tensor) -> torch.Tensor:
    return value.contiguous().view(torch.int32) if value.is_floating_point() else value


def run(runner: TrialRunner, found: KeyedTrial) -> None:
    for position in found.trial.trainings:
        runner.train(found, position)


def test_every_ticket_is_the_rewound_network_bit_for_bit(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    found = keyed(ticket(home_made), points)
    runner = make_runner(points)
    run(runner, found)
    early = runner.state(found, 1).network
    gone = {name: torch.zeros(early[name].shape, dtype=torch.bool) for name in early}
    for number, level in enumerate(LEVELS, start=1):
        rewound = runner.state(found, 1 + 3 * number)
        mask = rewound.mask
        assert mask is not None
        assert mask.zeros == round(level * mask.size)
        for name, value in rewound.network.items():
            kept = mask.get(name, torch.ones(value.shape, dtype=torch.bool))
            assert torch.equal(bits(value)[kept], bits(early[name])[kept])
            assert not bits(value)[~kept].any()  # zero, and not minus zero
            assert not (gone[name] & kept).any()
            gone[name] = ~kept
        assert rewound.optimizer == {}
    trained = [step.epochs for step in found.trial.steps if isinstance(step, Train)]
    assert runner.state(found, len(found.trial.steps)).epochs == sum(trained) == 9


def test_a_shuffled_ticket_keeps_the_counts_of_layers_and_the_early_weights(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    whole = ticket(home_made)
    source = Source(seed_offset=0, recipe=whole.steps[:9])
    steps = (training(1), Transfer(source=source, shuffle="layer"), training(2))
    found = keyed(Trial(whole.data, whole.network, seed=3, steps=steps), points)
    runner = make_runner(points)
    (lender,) = found.sources.values()
    assert lender.states[-1] == keyed(whole, points).states[9]  # nothing is trained twice
    run(runner, lender)
    run(runner, found)
    mask, start = runner.mask(lender), runner.state(found, 2)
    assert start.mask is not None
    assert start.mask.densities == mask.densities
    assert start.mask != mask
    early = runner.state(found, 1).network
    for name, kept in start.mask.items():
        assert torch.equal(start.network[name], early[name] * kept)


@pytest.mark.usefixtures("look_at_every_batch")
def test_a_ticket_that_was_killed_in_a_round_ends_in_the_same_bits(
    make_runner: MakeRunner, points: Dataset, home_made: str, tmp_path: Path
) -> None:
    found = keyed(ticket(home_made), points)
    whole = make_runner(points)
    run(whole, found)
    state = whole.state(found, len(found.trial.steps))
    for killed in (4, 10):  # the trainings of the second round, and the last one
        left = [5]

        def stop(total: int, standing: Standing, left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] == 0

        folder = f"killed-{killed}"
        first = make_runner(points, folder)
        for position in found.trial.trainings:
            if position < killed:
                first.train(found, position)
        with pytest.raises(Interrupted):
            make_runner(points, folder, stop).train(found, killed)
        on = make_runner(points, folder)
        for position in found.trial.trainings:
            if position >= killed:
                on.train(found, position)
        ended = on.state(found, len(found.trial.steps))
        assert ended.mask == state.mask
        assert all(torch.equal(ended.network[n], state.network[n]) for n in state.network)
        shutil.rmtree(tmp_path / folder)

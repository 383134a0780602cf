"""What one network gives away, against the same numbers from logits in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossamer.data import Dataset
from gossamer.leakage import statistics
from gossamer.networks import NetworkSpec
from gossamer.recipes import DataSpec, MeasureSpec, Prune, Train, Trial, keyed
from gossamer.recipes.split import split
from gossamer.recipes.statistics_files import read_statistics
from gossamer.recipes.trial_runner import TrialRunner
from gossamer.training import Adam

MakeRunner = Callable[..., TrialRunner]


ONE_HOT = "one-hot attack"


def trial(pool: str = "half", leakage: bool = True, **measure: Any) -> Trial:
    return Trial(
        data=DataSpec.model_validate({"name": "points", "pool": pool, "validation": 0.1}),
        network=NetworkSpec(name="mlp", hidden=(16,)),
        seed=5,
        steps=(Train(epochs=20, batch=8, optimizer=Adam(rate=0.02)), Prune(sparsity=0.5)),
        measure=MeasureSpec(leakage=leakage, **measure),
    )


def logits(weights: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    first, second = (weights[f"{name}.weight"].double() for name in ("dense1", "output"))
    found: np.ndarray = ((torch.tensor(x).double() @ first.T).relu() @ second.T).numpy()
    return found


def best_accuracy(inside: np.ndarray, outside: np.ndarray) -> float:
    """Try every score as a threshold: accused is who reaches it."""
    scores = np.concatenate([inside, outside, [np.inf]])
    return max(float((inside >= t).mean() + (outside < t).mean()) / 2 for t in scores)


@pytest.mark.parametrize("pool", ["half", "all"])
def test_the_attacks_on_one_network_are_those_of_brute_force(
    make_runner: MakeRunner, points: Dataset, pool: str, tmp_path: Path
) -> None:
    found = keyed(trial(pool, also=(ONE_HOT,)), points)
    runner = make_runner(points)
    runner.train(found, 0)
    weights = dict(runner.state(found, 2).network)
    record = runner.measure(found)
    chosen = split(found.trial.data, points, 5)
    scores, right = [], []
    for x, y in (
        (points.x_train[chosen.train], points.y_train[chosen.train]),
        (points.x_test, points.y_test),
    ):
        answers = logits(weights, x)
        chances = np.exp(answers) / np.exp(answers).sum(axis=1, keepdims=True)
        scores.append(chances[np.arange(len(y)), y])
        right.append((answers.argmax(axis=1) == y).mean())
    measures = record.measures
    assert measures["gap_attack_accuracy"] == pytest.approx(0.5 + (right[0] - right[1]) / 2)
    assert measures["gap_attack_accuracy"] > 0.5
    assert measures["best_threshold_attack_accuracy"] == pytest.approx(best_accuracy(*scores))
    assert measures["best_threshold_attack_accuracy"] >= measures["gap_attack_accuracy"] - 1e-9
    assert 0 < measures["one_hot_attack_accuracy"] < 3
    kept = read_statistics(tmp_path / "states" / f"{found.record}.statistics")
    expected = statistics(logits(weights, points.x_train[chosen.pool]), points.y_train[chosen.pool])
    for name, value in vars(expected).items():
        np.testing.assert_allclose(vars(kept)[name], value, rtol=1e-4, atol=1e-4)
    assert kept.examples == len(chosen.pool) == 60


def test_without_leakage_nothing_is_kept(
    make_runner: MakeRunner, points: Dataset, tmp_path: Path
) -> None:
    found = keyed(trial(leakage=False), points)
    runner = make_runner(points)
    runner.train(found, 0)
    measures = runner.measure(found).measures
    assert not [name for name in measures if "attack" in name]
    assert not list((tmp_path / "states").glob("*.statistics"))

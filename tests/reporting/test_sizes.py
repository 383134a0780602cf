import math
from typing import Any

import pytest

from gossamer.reporting.results import Results
from gossamer.reporting.summaries import reaching, sizes


def brute(run: Any, arm: str, level: float, measure: str = "test_accuracy") -> dict[int, float]:
    """Values by seed, read off the labels in the plainest way."""
    return {
        trial.seed: run.records[trial.key].measures[measure]
        for trial in run.study.trials
        if trial.arm == arm and trial.level == level and trial.key in run.records
    }


def test_sizes_are_means_over_seeds(run: Any, results: Results) -> None:
    row = next(size for size in sizes(results) if size.arm == "unit" and size.level == 0.9)
    for measure, mean in row.means.items():
        values = brute(run, "unit", 0.9, measure).values()
        assert mean == pytest.approx(math.fsum(values) / 5)


def test_reaching_counts_weights_that_reach_the_output(results: Results) -> None:
    assert reaching(results, "weight", 0.0) == 2_386_000
    assert reaching(results, "weight", 0.5) == 2_384_000 / 2 + 2_000
    unit = 784_000 * 0.5 + (1_000_000 + 500_000 + 100_000) * 0.25 + 2_000 * 0.5
    assert reaching(results, "unit", 0.5) == unit

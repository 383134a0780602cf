import math
from typing import Any

import pytest

from gossamer.records.record import Published, PublishedFigure
from gossamer.reporting.results import Results
from gossamer.reporting.summaries import comparisons
from gossamer.stats.intervals import mean_interval


def brute(run: Any, arm: str, level: float, measure: str = "test_accuracy") -> dict[int, float]:
    """Values by seed, read off the labels in the plainest way."""
    return {
        trial.seed: run.records[trial.key].measures[measure]
        for trial in run.study.trials
        if trial.arm == arm and trial.level == level and trial.key in run.records
    }


def test_difference_to_published_is_in_points(make_run: Any) -> None:
    figures = (
        PublishedFigure(arm="weight", measure="test_accuracy", level=0.6, value=0.8994),
        PublishedFigure(arm="weight", measure="test_loss", level=0.6, value=0.5),
        PublishedFigure(arm="weight", measure="test_accuracy", level=0.9, value=0.1832),
    )
    made = make_run(
        {("dense", 0.0): [0.98, 0.98], ("weight", 0.6): [0.9794, 0.9594]},
        published=Published(source="", figures=figures),
    )
    accuracy, loss, absent = comparisons(Results(made.study, made.records))
    assert accuracy.difference == pytest.approx(7.0)
    assert accuracy.measured == mean_interval([0.9794, 0.9594])
    assert loss.difference == pytest.approx((2.4 - 2.3 * 0.9694) - 0.5)
    assert absent.measured is None
    assert absent.difference is None


def test_published_level_zero_is_compared_with_the_baseline(run: Any, results: Results) -> None:
    first = comparisons(results)[0]
    assert (first.arm, first.level) == ("weight", 0.0)
    dense = list(brute(run, "dense", 0.0).values())
    assert first.difference == pytest.approx(100 * (math.fsum(dense) / 5 - 0.9709))

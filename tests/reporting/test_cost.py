from typing import Any

import pytest

from gossamer.reporting.results import Results
from gossamer.reporting.summaries import cost


def test_cost_counts_each_training_once(run: Any, results: Results) -> None:
    total = cost(results, run.phases)
    assert (total.trainings, total.steps_shared, total.steps_alone) == (5, 30_000, 275 * 6_000)
    assert total.factor == 55
    assert total.training_seconds == pytest.approx(5 * 31.4)
    assert total.measuring_seconds == pytest.approx(275 * 0.4)


def test_cost_of_a_half_finished_run_counts_done_trials_alone(run: Any) -> None:
    some = {trial.key: run.records[trial.key] for trial in run.study.trials[:20]}
    assert cost(Results(run.study, some), run.phases).steps_alone == 20 * 6_000
    one = {run.study.trials[0].key: run.records[run.study.trials[0].key]}
    alone = cost(Results(run.study, one), run.phases)
    assert (alone.trainings, alone.steps_shared, alone.factor) == (5, 6_000, 1)
    assert cost(Results(run.study, {}), {}).factor is None


def test_cost_of_trainings_that_stopped_early_counts_the_steps_they_took(run: Any) -> None:
    phases = {
        key: phase.model_copy(update={"optimizer_steps": 1_500, "stopped": "no progress"})
        for key, phase in run.phases.items()
    }
    total = cost(Results(run.study, run.records), phases)
    assert (total.steps_shared, total.steps_alone, total.factor) == (7_500, 275 * 1_500, 55)


def test_cost_takes_the_plan_where_a_training_is_unknown(run: Any, results: Results) -> None:
    first, *_ = run.phases
    total = cost(results, {first: run.phases[first].model_copy(update={"optimizer_steps": 1_000})})
    assert (total.steps_shared, total.steps_alone) == (1_000, 55 * 1_000 + 220 * 6_000)

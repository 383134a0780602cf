import math
from typing import Any

import pytest

from gossamer.records.record import Arm, Published, PublishedFigure, StudyRun
from gossamer.report.aggregate import (
    Results,
    class_accuracies,
    comparisons,
    cost,
    layer_sparsities,
    reaching,
    sizes,
)
from gossamer.report.curves import curve_points, trainings
from gossamer.stats.intervals import mean_interval, paired_difference


def brute(run: Any, arm: str, level: float, measure: str = "test_accuracy") -> dict[int, float]:
    """Values by seed, read off the labels in the plainest way."""
    return {
        trial.seed: run.records[trial.key].measures[measure]
        for trial in run.study.trials
        if trial.arm == arm and trial.level == level and trial.key in run.records
    }


@pytest.fixture(scope="module")
def results(run: Any) -> Results:
    return Results(run.study, run.records)


def test_every_cell_equals_brute_force(run: Any, results: Results) -> None:
    for arm in run.study.arms:
        for level in {trial.level for trial in run.study.trials if trial.arm == arm.name}:
            expected = brute(run, arm.name, level)
            assert results.values(arm.name, level) == expected
            assert results.interval(arm.name, level) == mean_interval(list(expected.values()))


def test_paired_difference_pairs_the_seeds(run: Any, results: Results) -> None:
    ours, theirs = brute(run, "weight", 0.6), brute(run, "unit", 0.6)
    expected = paired_difference([ours[s] for s in range(5)], [theirs[s] for s in range(5)])
    assert results.paired(("weight", 0.6), ("unit", 0.6)) == expected


def test_pairs_are_the_seeds_that_both_have(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8, 0.7], ("unit", 0.5): [0.5, 0.6, 0.9]})
    missing = next(t.key for t in made.study.trials if t.arm == "unit" and t.seed == 1)
    results = Results(made.study, {k: v for k, v in made.records.items() if k != missing})
    difference = results.paired(("weight", 0.5), ("unit", 0.5))
    assert difference is not None
    assert difference.count == 2
    assert difference.mean == pytest.approx(((0.9 - 0.5) + (0.7 - 0.9)) / 2)


def test_baseline_stands_in_for_main_arms_at_level_zero_only(run: Any, results: Results) -> None:
    dense = brute(run, "dense", 0.0)
    assert results.values("weight", 0.0) == dense
    assert results.values("unit", 0.0) == dense
    assert results.values("random-weight", 0.0) == {}
    assert results.levels("weight")[0] == 0.0
    assert results.levels("random-weight")[0] == 0.25


def test_baseline_does_not_stand_in_for_an_arm_that_trains_longer(
    make_run: Any, longer: tuple[Arm, ...]
) -> None:
    made = make_run({("dense", 0.0): [0.98], ("retrained", 0.5): [0.9]}, arms=longer)
    results = Results(made.study, made.records)
    assert results.values("retrained", 0.0) == {}
    assert results.levels("retrained") == (0.5,)
    assert results.levels("weight") == (0.0,)


def test_unpruned_arm_is_the_one_that_trains_as_long(
    make_run: Any, longer: tuple[Arm, ...]
) -> None:
    cells = {("dense", 0.0): [0.98], ("retrained", 0.5): [0.9], ("dense-longer", 0.0): [0.99]}
    made = make_run(cells, arms=longer)
    results = Results(made.study, made.records)
    found = {arm.name: results.unpruned(arm.name) for arm in longer}
    assert {name: arm and arm.name for name, arm in found.items()} == {
        "dense": None,
        "weight": "dense",
        "retrained": "dense-longer",
        "dense-longer": None,
    }


def test_own_trial_at_level_zero_is_not_replaced(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.98], ("weight", 0.0): [0.97], ("weight", 0.5): [0.9]})
    assert Results(made.study, made.records).values("weight", 0.0) == {0: 0.97}


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


def test_absent_and_unfinite_measures_are_left_out(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8]})
    first, second = made.records.values()
    lacking = first.model_copy(update={"measures": {"test_accuracy": 0.9}})
    infinite = second.model_copy(update={"measures": {**second.measures, "test_loss": math.inf}})
    results = Results(made.study, {one.key: one for one in (lacking, infinite)})
    assert results.interval("weight", 0.5, "test_loss") is None
    assert results.values("weight", 0.5, "bytes_compressed").keys() == {1}


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


def test_layers_hold_masked_and_effective_sparsity(results: Results) -> None:
    rows = {(one.arm, one.level, one.layer): one for one in layer_sparsities(results)}
    hidden = rows["unit", 0.5, "hidden2.weight"]
    assert (hidden.masked, hidden.effective) == (0.5, 0.75)
    output = rows["unit", 0.5, "output.weight"]
    assert (output.prunable, output.masked, output.effective) == (False, 0.0, 0.5)
    assert rows["weight", 0.0, "hidden1.weight"].masked == 0.0
    assert len(rows) == 2 * 10 * 5


def test_unknown_connectivity_is_left_out(make_run: Any, forget: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8], ("unit", 0.5): [0.9, 0.8]})
    unknown = {t.key for t in made.study.trials if t.arm == "weight" or t.seed == 1}
    records = {key: forget(one) if key in unknown else one for key, one in made.records.items()}
    results = Results(made.study, records)
    assert reaching(results, "weight", 0.5) is None
    assert reaching(results, "unit", 0.5) == 784_000 * 0.5 + 1_600_000 * 0.25 + 2_000 * 0.5
    rows = {(one.arm, one.layer): one for one in layer_sparsities(results)}
    weight, unit = rows["weight", "hidden2.weight"], rows["unit", "hidden2.weight"]
    assert (weight.masked, weight.effective) == (0.5, None)
    assert (unit.masked, unit.effective) == (0.5, 0.75)


def test_class_accuracies_are_means_over_seeds(run: Any, results: Results) -> None:
    keys = [t.key for t in run.study.trials if t.arm == "unit" and t.level == 0.7]
    row = next(
        one
        for one in class_accuracies(results)
        if (one.arm, one.level, one.class_index) == ("unit", 0.7, 3)
    )
    assert row.accuracy == pytest.approx(
        math.fsum(run.records[key].per_class["test"][3] for key in keys) / 5
    )


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


def test_shared_training_is_one_group_over_its_seeds(run: Any, results: Results) -> None:
    (shared,) = trainings(results, run.phases)
    assert len(shared.arms) == 7
    assert sorted(shared.histories) == [0, 1, 2, 3, 4]
    points = curve_points(shared)
    third = [h[2].validation_loss or math.nan for h in shared.histories.values()]
    mean = next(
        p.value
        for p in points
        if (p.part, p.quantity, p.seed, p.epoch) == ("validation", "loss", None, 3)
    )
    assert mean == pytest.approx(math.fsum(third) / 5)
    assert len(points) == 4 * 10 * (5 + 1)


def test_retraining_at_each_level_is_a_group_each(retrained: Any) -> None:
    results = Results(retrained.study, retrained.records)
    found = trainings(results, retrained.phases)
    assert [(one.position, one.arms, one.levels) for one in found] == [
        (0, ("dense", "weight"), (0.0, 0.5, 0.9)),
        (1, ("weight",), (0.5,)),
        (1, ("weight",), (0.9,)),
    ]


def test_mean_curve_ends_where_the_first_seed_stopped(run: Any) -> None:
    (shared,) = trainings(Results(run.study, run.records), run.phases)
    stopped = {seed: h[: 4 if seed == 0 else 10] for seed, h in shared.histories.items()}
    points = curve_points(type(shared)(0, shared.arms, shared.levels, stopped))
    assert max(point.epoch for point in points if point.seed is None) == 4


def test_axis_without_fractions_is_no_percentage(make_run: Any) -> None:
    made = make_run({("weight", 20.0): [0.9]}, axis="epsilon")
    results = Results(made.study, made.records)
    assert (results.level_text(20.0), results.axis_title) == ("20", "Epsilon")
    assert results.place(20.0) == "epsilon 20"


def test_levels_are_the_same_however_they_were_computed(make_run: Any) -> None:
    made = make_run({("weight", 0.1 + 0.2): [0.9]})
    results = Results(made.study, made.records)
    assert results.values("weight", 0.3) == {0: 0.9}
    assert results.level_text(0.1 + 0.2) == "30%"


def test_study_is_not_changed(run: Any, results: Results) -> None:
    assert isinstance(results.study, StudyRun)
    assert results.study is run.study

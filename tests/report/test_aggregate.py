import math
from typing import Any

import pytest

from gossamer.records.joint import JointRecord
from gossamer.records.leakage import Leakage
from gossamer.records.record import Arm, Environment, Published, PublishedFigure, StudyRun
from gossamer.report.aggregate import (
    Results,
    class_accuracies,
    comparisons,
    cost,
    is_fraction,
    layer_sparsities,
    reaching,
    sizes,
)
from gossamer.stats.intervals import mean_interval, paired_difference

ENVIRONMENT = Environment(
    gossamer="0.1.0",
    python="3.11.9",
    torch="2.13.0",
    libraries={},
    processor="",
    machine="",
    threads=1,
    device="cpu",
    revision=None,
)


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
    assert len(rows) == (1 + 2 * 10 + 4 * 9) * 5


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


def joint(
    kind: str, records: list[str], measures: Any, others: tuple[str, ...] = (), **given: Any
) -> JointRecord:
    return JointRecord(
        key=f"{kind} of {len(records)}",
        kind=kind,
        records=tuple(records),
        others=others,
        measures=measures,
        seconds=1.0,
        environment=ENVIRONMENT,
        **given,
    )


def keys_of(made: Any, arm: str, level: float) -> list[str]:
    return [t.key for t in made.study.trials if (t.arm, t.level) == (arm, level)]


def test_joint_measures_are_measures_of_their_records(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.98, 0.97], ("weight", 0.5): [0.9, 0.8]})
    keys = keys_of(made, "weight", 0.5)
    aucs = {keys[0]: {"loss_auc": 0.6}, keys[1]: {"loss_auc": 0.7}}
    results = Results(made.study, made.records, (joint("leakage", keys, aucs),))
    assert results.values("weight", 0.5, "loss_auc") == {0: 0.6, 1: 0.7}
    assert results.values("dense", 0.0, "loss_auc") == {}
    assert results.interval("weight", 0.5, "loss_auc") == mean_interval([0.6, 0.7])
    assert results.measures[keys[0]]["test_accuracy"] == 0.9


@pytest.mark.parametrize(("count", "times"), [(3, 2.0), (4, math.sqrt(3))])
def test_intervals_of_attacks_with_references_are_wider(
    make_run: Any, count: int, times: float
) -> None:
    values = [0.6, 0.7, 0.65, 0.72][:count]
    made = make_run({("weight", 0.5): [0.9] * count})
    keys = keys_of(made, "weight", 0.5)
    found = {k: {"lira_online_auc": v, "loss_auc": v} for k, v in zip(keys, values, strict=True)}
    results = Results(made.study, made.records, (joint("leakage", keys, found),))
    wide, plain = (results.interval("weight", 0.5, f"{one}_auc") for one in ("lira_online", "loss"))
    assert wide is not None
    assert plain == mean_interval(values)
    assert wide.half_width == pytest.approx(times * (plain.half_width or 0))


def test_two_networks_that_are_each_others_references_have_no_interval(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8]})
    keys = keys_of(made, "weight", 0.5)
    found = {key: {"lira_online_auc": 0.6} for key in keys}
    results = Results(made.study, made.records, (joint("leakage", keys, found),))
    interval = results.interval("weight", 0.5, "lira_online_auc")
    assert interval is not None
    assert (interval.mean, interval.low, interval.count) == (0.6, None, 2)


def test_joint_on_more_networks_wins_whatever_its_order(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8]})
    keys = keys_of(made, "weight", 0.5)
    few = joint("overlap", keys[:1], {keys[0]: {"mask_overlap": 0.1}}, ("x",))
    many = joint("overlap", keys, {key: {"mask_overlap": 0.3} for key in keys}, ("x", "y"))
    for joints in ((few, many), (many, few)):
        results = Results(made.study, made.records, joints)
        assert results.values("weight", 0.5, "mask_overlap") == {0: 0.3, 1: 0.3}
        assert results.joint("weight", 0.5, "overlap") == many
        assert results.joint("weight", 0.5, "leakage") is None
        assert results.joint("unit", 0.5, "overlap") is None


def test_leakage_is_that_of_the_arm_at_the_level(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.98, 0.97], ("weight", 0.5): [0.9, 0.8]})
    found = Leakage(
        models=2,
        examples=10,
        classes=10,
        paired=True,
        references=None,
        headline="gap",
        attacks=(),
        checks=(),
        exposed=(),
        skipped=(),
        notes=(),
        sentence="Nothing leaks.",
    )
    one = joint("leakage", keys_of(made, "dense", 0.0), {}, leakage=found)
    results = Results(made.study, made.records, (one,))
    assert results.leakage("dense", 0.0) == found
    assert results.leakage("weight", 0.0) == found
    assert results.leakage("weight", 0.5) is None


def test_pairs_are_the_units_of_a_paired_study(make_run: Any) -> None:
    cells = {("dense", 0.0): [0.98, 0.97, 0.96, 0.95], ("weight", 0.5): [0.9, 0.8, 0.7, 0.8]}
    made = make_run(cells, paired=True)
    results = Results(made.study, made.records)
    assert results.units({0: 1.0, 1: 3.0, 2: 5.0, 4: 0.0, 5: 1.0, 7: 9.0}) == [2.0, 0.5]
    pairs = mean_interval([(0.9 + 0.8) / 2, (0.7 + 0.8) / 2])
    assert results.interval("weight", 0.5) == pairs
    expected = mean_interval([0.975 - 0.85, 0.955 - 0.75])
    found = results.paired(("dense", 0.0), ("weight", 0.5))
    assert found is not None
    assert (found.mean, found.low, found.high, found.count) == pytest.approx(
        (expected.mean, expected.low, expected.high, 2)
    )
    assert (results.unit_counts, results.seed_counts) == ((2,), (4,))
    assert results.basis == "mean over 2 pairs of seeds"


def test_unpaired_seeds_are_their_own_units(results: Results) -> None:
    assert results.units({3: 1.0, 0: 2.0}) == [2.0, 1.0]
    assert (results.unit, results.counted_units(5)) == ("seed", "5 seeds")


def test_pair_with_one_half_missing_is_left_out(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8, 0.7, 0.6]}, paired=True)
    last = keys_of(made, "weight", 0.5)[-1]
    records = {key: one for key, one in made.records.items() if key != last}
    results = Results(made.study, records)
    assert results.interval("weight", 0.5) == mean_interval([(0.9 + 0.8) / 2])
    assert results.one_seed
    assert results.basis == "one pair of seeds"


def test_half_of_a_pair_is_no_number(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9]}, paired=True)
    results = Results(made.study, made.records)
    assert results.interval("weight", 0.5) is None
    assert (results.seed_counts, results.unit_counts, results.one_seed) == ((1,), (), False)
    assert results.basis == "no pair of seeds yet"


def test_basis_names_fewest_and_most(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9] * 6, ("weight", 0.5): [0.9] * 2}, paired=True)
    assert Results(made.study, made.records).basis == "mean over 1 to 3 pairs of seeds"


@pytest.mark.parametrize(
    ("measure", "fraction"),
    [
        ("test_accuracy", True),
        ("gap_attack_accuracy", True),
        ("best_threshold_attack_accuracy", True),
        ("one_hot_attack_accuracy", True),
        ("lira_online_balanced_accuracy", True),
        ("lira_online_auc", True),
        ("lira_online_advantage", True),
        ("lira_online_tpr@0.01", True),
        ("lira_online_fpr@0.001", True),
        ("mask_overlap", True),
        ("effective_sparsity", True),
        ("validation_gain_second_half", True),
        ("test_loss", False),
        ("nonzero_parameters", False),
        ("macs_dense", False),
        ("train_examples", False),
    ],
)
def test_fractions_are_told_from_other_numbers(measure: str, fraction: bool) -> None:
    assert is_fraction(measure) is fraction


def after_training(made: Any, *accuracies: float | None) -> Results:
    """Return results whose records all end in one training with these validation accuracies."""
    (phase,) = list(made.phases.values())[:1]
    epochs = tuple(
        epoch.model_copy(update={"validation_accuracy": accuracy})
        for epoch, accuracy in zip(phase.history, accuracies, strict=False)
    )
    phase = phase.model_copy(update={"history": epochs})
    records = {
        key: one.model_copy(
            update={"phases": (phase.key,), "identity": {"steps": [{"step": "train"}]}}
        )
        for key, one in made.records.items()
    }
    return Results(made.study, records, phases={phase.key: phase})


def test_validation_measures_come_from_the_last_training(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9]})
    results = after_training(made, 0.5, 0.6, 0.8, 0.85)
    assert results.values("dense", 0.0, "validation_accuracy") == {0: 0.85}
    gain = results.values("dense", 0.0, "validation_gain_second_half")
    assert gain == {0: pytest.approx(0.25)}
    odd = after_training(made, 0.5, 0.6, 0.8)
    assert odd.values("dense", 0.0, "validation_gain_second_half") == {0: pytest.approx(0.3)}


def test_training_without_validation_has_no_such_measure(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9]})
    for accuracies in ((None, None), ()):
        results = after_training(made, *accuracies)
        assert results.values("dense", 0.0, "validation_accuracy") == {}
    one = after_training(made, 0.5)
    assert one.values("dense", 0.0, "validation_accuracy") == {0: 0.5}
    assert one.values("dense", 0.0, "validation_gain_second_half") == {}


def test_halves_of_a_training_that_stopped_early_are_not_compared(make_run: Any) -> None:
    results = after_training(make_run({("dense", 0.0): [0.9]}), 0.5, 0.6, 0.8, 0.85)
    ((key, phase),) = results.phases.items()
    early = phase.model_copy(update={"stopped": "train_accuracy reached 0.9, the target 0.9"})
    stopped = Results(results.study, results.records, phases={key: early})
    assert stopped.values("dense", 0.0, "validation_accuracy") == {0: 0.85}
    assert stopped.values("dense", 0.0, "validation_gain_second_half") == {}


def test_running_averages_are_those_of_the_last_epoch(make_run: Any) -> None:
    results = after_training(make_run({("dense", 0.0): [0.9]}), 0.5, 0.6)
    (phase,) = results.phases.values()
    for name in ("accuracy", "loss"):
        running = results.values("dense", 0.0, f"running_train_{name}")
        assert running == {0: getattr(phase.history[-1], f"train_{name}")}


def test_network_pruned_after_training_has_no_validation_measure(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9]})
    trained = after_training(made, 0.5, 0.6)
    steps = [{"step": "train"}, {"step": "prune"}]
    records = {
        key: one.model_copy(update={"identity": {"steps": steps}})
        for key, one in trained.records.items()
    }
    results = Results(made.study, records, phases=trained.phases)
    assert results.values("dense", 0.0, "validation_accuracy") == {}


def test_unpruned_arm_is_of_the_same_dataset_and_network(
    make_run: Any, longer: tuple[Arm, ...]
) -> None:
    dense, weight, *_ = longer
    other = {"dataset": "fashion-mnist"}, {"network": "wide"}, {"pool": "half"}
    arms = (
        dense,
        *(weight.model_copy(update={"name": f"w{i}", **one}) for i, one in enumerate(other)),
        dense.model_copy(update={"name": "fashion", "role": "control", **other[0]}),
    )
    cells = {("dense", 0.0): [0.9], ("fashion", 0.0): [0.8], ("w0", 0.5): [0.7]}
    results = Results(make_run(cells, arms=arms).study, {})
    found = [results.unpruned(name) for name in ("w0", "w1", "w2")]
    assert [arm and arm.name for arm in found] == ["fashion", None, None]
    assert results.levels("w0") == (0.5,)
    assert results.datasets == (dense.dataset, "fashion-mnist")


def test_unpruned_arm_does_without_any_step_that_makes_sparse(
    make_run: Any, longer: tuple[Arm, ...]
) -> None:
    train, more = longer[3].recipe
    steps = ({"step": "transfer"}, train, {"step": "pack"}, {"step": "regrow"}, more)
    arms = (*longer, longer[1].model_copy(update={"name": "moved", "recipe": steps}))
    cells = {("dense", 0.0): [0.9], ("dense-longer", 0.0): [0.9], ("moved", 0.0): [0.8]}
    found = Results(make_run(cells, arms=arms).study, {}).unpruned("moved")
    assert found is not None
    assert found.name == "dense-longer"


def test_places_name_levels_with_their_axis(make_run: Any) -> None:
    made = make_run({("weight", 0.3): [0.9], ("weight", 0.5): [0.9]})
    assert Results(made.study, {}).places([0.3, 0.5]) == "30 and 50% sparsity"
    made = make_run({("weight", 20.0): [0.9], ("weight", 2.0): [0.9]}, axis="epsilon")
    assert Results(made.study, {}).places([2.0, 20.0]) == "epsilon 2 and 20"
    assert Results(made.study, {}).has_levels
    assert not Results(make_run({("dense", 0.0): [0.9]}).study, {}).has_levels

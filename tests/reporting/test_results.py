import math
from typing import Any

import pytest
from scipy import stats

from gossamer.records.joint import JointRecord
from gossamer.records.leakage import Leakage
from gossamer.records.record import Arm, Environment, StudyRun
from gossamer.reporting.results import Results
from gossamer.stats.intervals import mean_interval
from paired_differences import paired_difference

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


def test_absent_and_unfinite_measures_are_left_out(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8]})
    first, second = made.records.values()
    lacking = first.model_copy(update={"measures": {"test_accuracy": 0.9}})
    infinite = second.model_copy(update={"measures": {**second.measures, "test_loss": math.inf}})
    results = Results(made.study, {one.key: one for one in (lacking, infinite)})
    assert results.interval("weight", 0.5, "test_loss") is None
    assert results.values("weight", 0.5, "bytes_compressed").keys() == {1}


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
    assert results.unit_counts == (2,)
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
    assert (results.unit_counts, results.one_seed) == ((), False)
    assert results.basis == "no pair of seeds yet"


def test_basis_names_fewest_and_most(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9] * 6, ("weight", 0.5): [0.9] * 2}, paired=True)
    assert Results(made.study, made.records).basis == "mean over 1 to 3 pairs of seeds"


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


def test_resolution_is_one_example_of_the_fewest(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9, 0.8]})
    first, second = made.records.items()
    few = {**second[1].measures, "test_examples": 500}
    records = {first[0]: first[1], second[0]: second[1].model_copy(update={"measures": few})}
    results = Results(made.study, records)
    assert results.resolution("test_accuracy") == 1 / 500
    assert results.resolution("train_accuracy") == 1 / 60_000
    assert results.resolution("test_loss") == results.resolution("sparsity") == 0


def test_equal_accuracies_have_the_interval_of_one_example(make_run: Any) -> None:
    results = make_run({("dense", 0.0): [0.9] * 3, ("weight", 0.5): [0.8] * 3}).results
    step = 1 / 10_000
    reach = stats.t.ppf(0.975, 2) * step / math.sqrt(3 * 12)
    assert results.interval("dense", 0.0).half_width == pytest.approx(reach)
    paired = results.paired(("dense", 0.0), ("weight", 0.5))
    assert paired.half_width == pytest.approx(math.sqrt(2) * reach)

import pytest

from gossamer.measures import (
    MEASUREMENTS,
    condition_of,
    counted_examples,
    is_count,
    is_fraction,
    measure_named,
    measures,
)


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
        ("latency_ratio", False),
        ("nonzero_parameters", False),
        ("macs_dense", False),
        ("train_examples", False),
    ],
)
def test_fractions_are_told_from_other_numbers(measure: str, fraction: bool) -> None:
    assert is_fraction(measure) is fraction


def test_kinds_of_measures_are_told_apart() -> None:
    asked = {name: condition_of(name) for name in measures()}
    for condition, group in (("overlaps", "mask overlap"), ("latency", "prediction time")):
        names = {one.name for one in MEASUREMENTS[group].measures}
        assert {name for name, found in asked.items() if found == condition} == names
    assert {name for name, found in asked.items() if found == "leakage"} == {
        "gap_attack_accuracy", "best_threshold_attack_accuracy", "one_hot_attack_accuracy",
    }  # fmt: skip
    assert {name for name, found in asked.items() if found == "validation"} == {
        "validation_accuracy", "validation_loss", "validation_gain_second_half",
    }  # fmt: skip
    assert condition_of("lira_online_tpr@0.01") == "leakage"
    assert condition_of("mask_overlap:conv1.weight") == "overlaps"
    assert not any(is_fraction(name) and is_count(name) for name in measures())


def test_every_measure_says_all_there_is_to_say() -> None:
    names = [one.name for group in MEASUREMENTS.values() for one in group.measures]
    assert len(set(names)) == len(names)
    for name in names:
        one = measure_named(name)
        assert one is not None
        assert one.unit
        assert one.label[0].isupper()
        assert one.meaning.endswith(".")
        assert one.examples is None or one.examples in names
    for group in MEASUREMENTS.values():
        together = all(one.condition in ("overlaps", "latency") for one in group.measures)
        assert (group.take is not None) + (group.read is not None) + together == 1, group.name
    assert measure_named("accuracy") is measure_named("attack:conv1.weight") is None


@pytest.mark.parametrize(
    ("measure", "count"),
    [
        ("test_accuracy", "test_examples"),
        ("train_accuracy", "train_examples"),
        ("running_train_accuracy", "train_examples"),
        ("validation_accuracy", None),
        ("gap_attack_accuracy", "test_examples"),
        ("lira_online_tpr@0.01", "train_examples"),
        ("loss_balanced_accuracy", "train_examples"),
        ("lira_online_auc", None),
        ("test_loss", None),
    ],
)
def test_shares_of_counted_examples_say_which(measure: str, count: str | None) -> None:
    assert counted_examples(measure) == count

import pytest

from gossamer.records.measures import (
    MEASURES,
    OF_LATENCY,
    OF_LEAKAGE,
    OF_MASKS,
    OF_VALIDATION,
    counted_examples,
    is_count,
    is_fraction,
    needs_latency,
    needs_leakage,
    needs_overlaps,
    needs_validation,
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
    assert [name for name in MEASURES if needs_overlaps(name)] == list(OF_MASKS)
    assert {name for name in MEASURES if needs_leakage(name)} == {*OF_LEAKAGE}
    assert needs_leakage("lira_online_tpr@0.01")
    assert {name for name in MEASURES if needs_validation(name)} == {*OF_VALIDATION}
    assert [name for name in MEASURES if needs_latency(name)] == list(OF_LATENCY)
    assert not any(is_count(name) or is_fraction(name) for name in OF_LATENCY)
    assert len(set(MEASURES)) == len(MEASURES)
    assert not any(is_fraction(name) and is_count(name) for name in MEASURES)


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

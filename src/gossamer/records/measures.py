"""The names of measures: which there are, what a study needs to have them, what kind of number."""

import re
from itertools import product

OF_NETWORKS = (
    *("test_accuracy", "test_loss", "test_examples"),
    *("train_accuracy", "train_loss", "train_examples"),
    *("parameters", "nonzero_parameters", "trainable_parameters", "effective_parameters"),
    *("prunable_parameters", "nonzero_prunable"),
    *("sparsity", "sparsity_requested", "sparsity_all", "effective_sparsity"),
    *("bytes_dense", "bytes_compressed", "macs_dense", "macs_nonzero"),
    *("running_train_accuracy", "running_train_loss"),
)
OF_VALIDATION = ("validation_accuracy", "validation_loss", "validation_gain_second_half")
OF_LATENCY = (
    *("latency", "latency_masked", "latency_dense"),
    *("latency_ratio", "latency_ratio_masked"),
)
OF_MASKS = ("mask_overlap", "mask_overlap_by_chance")
OF_LEAKAGE = ("gap_attack_accuracy", "best_threshold_attack_accuracy", "one_hot_attack_accuracy")

READINGS = (
    *("auc", "balanced_accuracy"),
    *(f"{rate}@{fpr}" for rate, fpr in product(("tpr", "fpr", "curve_tpr"), ("0.01", "0.001"))),
)
MEASURES = (*OF_NETWORKS, *OF_VALIDATION, *OF_LATENCY, *OF_MASKS, *OF_LEAKAGE)
"""Every measure but those of attacks; the overlap of one layer's masks is ``"mask_overlap:NAME"``
besides."""

_COUNTS = {"parameters", "prunable", "bytes", "macs", "examples"}
_FRACTIONS = {"accuracy", "sparsity", "auc", "tpr", "fpr", "advantage", "overlap", "gain"}


def is_measure(name: str) -> bool:
    """Whether there is a measure of this name that is no attack's.

    Examples
    --------
    >>> is_measure("test_accuracy"), is_measure("accuracy")
    (True, False)
    >>> is_measure("mask_overlap:conv1.weight")
    True
    """
    return name in MEASURES or name.startswith("mask_overlap:")


def attack_reading(measure: str) -> tuple[str, str] | None:
    """Take the name of an attack's number apart; None for another measure.

    Which attacks there are, `gossamer.leakage.attacks` says.

    Examples
    --------
    >>> attack_reading("lira_online_curve_tpr@0.01"), attack_reading("test_accuracy")
    (('lira_online', 'curve_tpr@0.01'), None)
    """
    for reading in sorted(READINGS, key=len, reverse=True):
        if measure.endswith(f"_{reading}"):
            return measure.removesuffix(f"_{reading}"), reading
    return None


def needs_leakage(measure: str) -> bool:
    """Whether a measure is taken only where a study asks for leakage."""
    return measure in OF_LEAKAGE or attack_reading(measure) is not None


def needs_validation(measure: str) -> bool:
    """Whether a measure is taken only where data is held out for validation."""
    return measure in OF_VALIDATION


def needs_overlaps(measure: str) -> bool:
    """Whether a measure is taken only of arms whose masks a study compares."""
    return measure.startswith("mask_overlap")


def needs_latency(measure: str) -> bool:
    """Whether a measure is taken only of arms that a study times."""
    return measure in OF_LATENCY


def is_fraction(measure: str) -> bool:
    """Whether a measure is a fraction, to be shown in percent and compared in points.

    Examples
    --------
    >>> is_fraction("test_accuracy"), is_fraction("lira_online_tpr@0.01"), is_fraction("test_loss")
    (True, True, False)
    """
    return not _FRACTIONS.isdisjoint(re.split(r"[_@:]", measure))


def is_count(measure: str) -> bool:
    """Whether a measure counts something, so that its ratios are what matters.

    Examples
    --------
    >>> is_count("effective_parameters"), is_count("effective_sparsity"), is_count("test_loss")
    (True, False, False)
    """
    return not is_fraction(measure) and not _COUNTS.isdisjoint(measure.split("_"))


def counted_examples(measure: str) -> str | None:
    """Return the measure that says of how many examples a share is; None if none does.

    Such a share moves in steps of one example. The accusations of an attack are about members, of
    whom there are at least as many as training examples were measured.

    Examples
    --------
    >>> counted_examples("test_accuracy"), counted_examples("lira_online_tpr@0.001")
    ('test_examples', 'train_examples')
    >>> counted_examples("sparsity") is None
    True
    """
    if measure == "test_accuracy" or measure in OF_LEAKAGE:
        return "test_examples"
    attack = attack_reading(measure) and not measure.endswith("_auc")
    return "train_examples" if attack or measure.endswith("train_accuracy") else None

"""What is measured of trials, one file a measure, or a few that are taken together.

Records, columns, units, the glossary, the checks of claims and what is left to do follow from what
a measure says of itself once it is registered. Importing this does not import torch.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from gossamer.measures.accuracy import ACCURACY
from gossamer.measures.connectivity import CONNECTIVITY
from gossamer.measures.mask_overlap import MASK_OVERLAP
from gossamer.measures.measure import Condition, Measure, Measurement, Subject, Taken
from gossamer.measures.prediction_time import PREDICTION_TIME
from gossamer.measures.published_attacks import ONE_HOT_ATTACK, OPTIMISTIC_ATTACKS
from gossamer.measures.size import SIZE
from gossamer.measures.training import TRAINING
from gossamer.measures.work import WORK
from gossamer.records.measures import attack_reading

if TYPE_CHECKING:
    from gossamer.records.record import Phase

__all__ = [
    "MEASUREMENTS",
    "Measure",
    "Measurement",
    "Subject",
    "Taken",
    "condition_of",
    "counted_examples",
    "is_count",
    "is_fraction",
    "lacking",
    "measure_named",
    "measures",
    "measures_of",
    "optional",
    "read_training",
    "register",
    "take",
    "versions",
]

MEASUREMENTS: dict[str, Measurement] = {}
"""Everything that is measured, by name."""


def register(*some: Measurement) -> None:
    """Add measurements to those that trials have."""
    MEASUREMENTS.update({one.name: one for one in some})


register(ACCURACY, SIZE, CONNECTIVITY, WORK, TRAINING, PREDICTION_TIME, MASK_OVERLAP)
register(OPTIMISTIC_ATTACKS, ONE_HOT_ATTACK)


def measures() -> dict[str, Measure]:
    """Return every measure but those of attacks, by name."""
    return {one.name: one for group in MEASUREMENTS.values() for one in group.measures}


def measures_of(names: Iterable[str]) -> set[str]:
    """Return the measures of some measurements."""
    return {one.name for name in names for one in MEASUREMENTS[name].measures}


def measure_named(name: str) -> Measure | None:
    """Return a measure; None for what is none, or one of an attack.

    Examples
    --------
    >>> measure_named("test_loss").unit, measure_named("mask_overlap:conv1.weight").label
    ('nats', 'Mask overlap')
    >>> measure_named("accuracy") is None
    True
    """
    whole, _, part = name.partition(":")
    return measures().get("mask_overlap" if part and whole == "mask_overlap" else name)


def condition_of(name: str) -> Condition | None:
    """Return what a study must ask for to have a measure."""
    measure = measure_named(name)
    if measure is not None:
        return measure.condition
    return "leakage" if attack_reading(name) else None


_OF_ATTACKS = {"accuracy", "auc", "tpr", "fpr", "advantage"}


def is_fraction(name: str) -> bool:
    """Whether a measure is a fraction, to be shown in percent and compared in points.

    Examples
    --------
    >>> is_fraction("test_accuracy"), is_fraction("lira_online_tpr@0.01"), is_fraction("test_loss")
    (True, True, False)
    """
    measure = measure_named(name)
    if measure is not None:
        return measure.unit == "fraction"
    return not _OF_ATTACKS.isdisjoint(re.split(r"[_@]", name))


def is_count(name: str) -> bool:
    """Whether a measure counts something, so that its ratios are what matters.

    Examples
    --------
    >>> is_count("effective_parameters"), is_count("effective_sparsity"), is_count("test_loss")
    (True, False, False)
    """
    measure = measure_named(name)
    return measure is not None and measure.unit in _COUNTS


_COUNTS = ("parameters", "bytes", "multiply-adds", "examples")


def counted_examples(name: str) -> str | None:
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
    measure = measure_named(name)
    if measure is not None:
        return measure.examples
    return "train_examples" if attack_reading(name) and not name.endswith("_auc") else None


def asked(leakage: bool, also: Collection[str] = ()) -> list[Measurement]:
    """Return what is taken of every finished network of a study.

    Parameters
    ----------
    leakage
        Whether it asks for leakage.
    also
        The optional measurements that it asks for.
    """
    return [
        one
        for one in MEASUREMENTS.values()
        if one.take and (leakage or not one.leakage) and (one.name in also or not one.optional)
    ]


def versions(leakage: bool, also: Collection[str] = ()) -> dict[str, int]:
    """Return the versions of what is taken of every finished network; see `asked`."""
    return {one.name: one.version for one in asked(leakage, also)}


def lacking(
    recorded: Mapping[str, int], leakage: bool, also: Collection[str] = ()
) -> frozenset[str]:
    """Return what is to be taken of a network whose record has measurements of these versions."""
    return frozenset(one.name for one in asked(leakage, also) if not one.current(recorded))


def optional() -> dict[str, Measurement]:
    """Return what is taken only where a study asks for it, by name."""
    return {name: one for name, one in MEASUREMENTS.items() if one.optional}


def take(subject: Subject, names: Collection[str]) -> Taken:
    """Take measurements of a finished network, by their names."""
    return Taken.together([subject.of(one) for n, one in MEASUREMENTS.items() if n in names])


def read_training(phase: "Phase") -> dict[str, float]:
    """Return the measures that are read off the history of a network's last training."""
    found: dict[str, float] = {}
    for one in MEASUREMENTS.values():
        found |= one.read(phase) if one.read else {}
    return found

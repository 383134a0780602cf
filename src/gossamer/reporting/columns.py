"""The columns of the tables beside the page: what each holds, its unit, and when it is empty.

They are documented here once. The page explains those of ``results.csv`` that a study has, and
docs/results-columns.md, which is written from here, all of them.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from gossamer.core.formats import NOTHING
from gossamer.leakage.attacks import ATTACKS
from gossamer.measures import MEASUREMENTS, Measure
from gossamer.measures.mask_overlap import MASK_OVERLAP
from gossamer.records.joint import JointRecord
from gossamer.records.measures import READINGS
from gossamer.reporting.results import Results
from gossamer.reporting.tables import Section, Table

STANDS_FOR = (
    "In names, ATTACK stands for the name of an attack, LAYER for that of a layer's weights, OTHER "
    "for that of an arm and CLASS for the number of a class."
)
_MATCHED = {
    "LAYER": ".+?",
    "OTHER": ".+",
    "CLASS": r"\d+",
}
"""What may stand where the name of a column has one of these, and the name of an attack besides."""


@dataclass(frozen=True)
class Column:
    """One column, or several that differ in a part of their name."""

    name: str
    """As in the header; ATTACK, LAYER, OTHER and CLASS stand for one of several."""
    unit: str
    """Empty for names, and for numbers without one."""
    meaning: str
    empty: str
    """When a trial that is done has no value here; empty if it always has one."""

    def covers(self, header: str) -> bool:
        """Whether a column of this header is this one, or one of these.

        Examples
        --------
        >>> column = Column("ATTACK_auc", "fraction", "Area under the ROC curve.", "")
        >>> column.covers("lira_online_auc"), column.covers("auc"), column.covers("fast_auc")
        (True, False, False)
        """
        matched = {**_MATCHED, "ATTACK": f"(?:{'|'.join(ATTACKS)})"}
        parts = re.split(f"({'|'.join(matched)})", self.name)
        pattern = "".join(matched.get(part, re.escape(part)) for part in parts)
        return re.fullmatch(pattern, header) is not None


TRIAL = (
    Column("arm", "", "Name of the arm in the study file.", ""),
    Column("dataset", "", "Name of the dataset that the arm is trained and tested on.", ""),
    Column(
        "seed",
        "",
        "Seed of the trial. With paired halves seeds 2j and 2j + 1 are trained on complementary "
        "halves, and are no independent numbers: average them first.",
        "",
    ),
    Column(
        "level",
        "",
        "Where the trial stands on the axis of the study: the value of its grid variable, such as "
        "the sparsity as a fraction; 0 for an arm without one.",
        "",
    ),
)
CLASSES = tuple(
    Column(
        f"{part}_accuracy_class_CLASS",
        "fraction",
        f"Share of the {part} examples of a class, numbered from 0, that are classified correctly; "
        "0 for a class that none of them is of.",
        "the arm's dataset has fewer classes than that of another arm",
    )
    for part in ("test", "train")
)
KEY = Column(
    "key",
    "",
    "SHA-256 of everything that determines the numbers up to rounding; trials with the same key "
    "are one trained network.",
    "",
)

_NO_RESULT = (
    "the arm is not attacked (the study measures no leakage, or the arm is trained on the whole "
    "pool), or this attack cannot be run on it"
)


def _of_networks() -> Iterator[Column]:
    for group in MEASUREMENTS.values():
        for one in group.measures if group is not MASK_OVERLAP else ():
            yield Column(one.name, one.unit, _meaning(one), one.empty)


def _meaning(one: Measure) -> str:
    wished = f" {one.better.capitalize()} is better." if one.better else ""
    return f"{one.meaning}{wished}"


def _of_masks() -> Iterator[Column]:
    alone = "the study does not compare the arm's mask with that of exactly one other"
    several = "the study does not compare the arm's mask with those of several others"
    layer = "The same within one layer, by the name of its weights."
    for suffix, with_whom, empty in (
        ("", "with that of the arm that `overlaps` names beside this one", alone),
        (" with OTHER", "with that of the arm OTHER, where several are compared", several),
    ):
        for one in MASK_OVERLAP.measures:
            meaning = f"{one.meaning.removesuffix('.')}; {with_whom}."
            yield Column(f"{one.name}{suffix}", one.unit, meaning, empty)
        yield Column(f"mask_overlap:LAYER{suffix}", "fraction", layer, empty)


def _of_attacks() -> Iterator[Column]:
    meanings = {
        "auc": "Area under the ROC curve of the attack on this network; 0.5 is guessing.",
        "balanced_accuracy": "Mean of TPR and 1 - FPR on this network, at a threshold that was "
        "fixed on other data (that of best_threshold on the very scores it judges).",
        "tpr": "Share of this network's training examples that the attack accuses, at a threshold "
        "fixed on other data for an FPR of {rate}.",
        "fpr": "Share of the other examples that it accuses at that threshold.",
        "curve_tpr": "TPR read off this network's own ROC curve at an FPR of {rate} at most: the "
        "threshold saw the scores that it judges.",
    }
    for reading in READINGS:
        name, _, rate = reading.partition("@")
        meaning = meanings[name].format(rate=f"{100 * float(rate):g}%" if rate else "")
        yield Column(f"ATTACK_{reading}", "fraction", meaning, _NO_RESULT)


def columns() -> tuple[Column, ...]:
    """Return all that ``results.csv`` can have, in the order of docs/results-columns.md."""
    return (*TRIAL, *_of_networks(), *_of_masks(), *_of_attacks(), *CLASSES, KEY)


_NO_INTERVAL = "there are too few units for an interval, or none is known of this number"
IN_CLAIMS = (
    Column("claim", "", "Name of the claim in the study file.", ""),
    Column("text", "", "What it claims.", ""),
    Column("verdict", "", "supported, refuted or undecided: that of the whole claim.", ""),
    Column("evidence", "", "The sentence of the page on it.", ""),
    Column("role", "", "claim, or control for the comparison that could explain it away.", ""),
    Column("compare", "", "The arm that something is claimed of.", ""),
    Column("against", "", "The other arm; several, apart by spaces, if their mean or curve.", ""),
    Column("levels", "", "Levels of the comparison; several, apart by spaces, if their mean.", ""),
    Column("measure", "", "What is compared, as results.csv calls it.", ""),
    Column("says", "", "higher, lower, not-lower, not-higher or on-par.", ""),
    Column("margin", "of the measure", "The smallest difference that matters.", ""),
    Column(
        "difference",
        "of the measure",
        "Mean of the paired differences, the first arm minus the other.",
        "nothing is measured of it",
    ),
    Column(
        "low",
        "of the measure",
        "Lower end of its interval: simultaneous for all comparisons of the claims, of 95% alone "
        "for a control.",
        "there is one unit, or none",
    ),
    Column("high", "of the measure", "Upper end of the interval.", "there is one unit, or none"),
    Column("units", "", "Seeds, or pairs of seeds, that it rests on.", "nothing is measured of it"),
    Column(
        "comparison",
        "",
        "What this comparison alone says of the claim, or why it says nothing.",
        "it is a control",
    ),
)
"""Of ``claims.csv``, in order."""
IN_ATTACKS = (
    Column("attack", "", "The attack.", ""),
    Column("headline", "", "Whether it is the one that was chosen before looking.", ""),
    Column("optimistic", "", "Whether its threshold saw the scores that it judges.", ""),
    Column("measure", "", "auc, balanced_accuracy, advantage (TPR - FPR), tpr or curve_tpr.", ""),
    Column("fpr", "fraction", "The false-positive rate asked for.", "the measure is of none"),
    Column("realised_fpr", "fraction", "What it came to.", "the measure is not tpr"),
    Column("value", "fraction", "The measure, the mean over the networks attacked.", ""),
    Column("low", "fraction", "Lower end of its 95% interval.", _NO_INTERVAL),
    Column("high", "fraction", "Upper end of its 95% interval.", _NO_INTERVAL),
    Column("method", "", "How the interval was found, or why there is none.", ""),
)
"""Of ``leakage.csv`` behind arm and level, and of ``audit.csv``, in order."""


def column_of(header: str) -> Column | None:
    """Return the column that a header is of; None if it is none of ours.

    Examples
    --------
    >>> names = "lira_online_tpr@0.01", "mask_overlap:conv1.weight with shuffled"
    >>> [column.name for name in names if (column := column_of(name))]
    ['ATTACK_tpr@0.01', 'mask_overlap:LAYER with OTHER']
    """
    found = [column for column in columns() if column.covers(header)]
    return max(found, key=lambda column: len(column.name), default=None)


def columns_of(headers: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns that some headers are of, each once, in the order of `columns`."""
    found = {column_of(header) for header in headers}
    return tuple(column for column in columns() if column in found)


Numbers = Mapping[str, Mapping[str, float]]
"""Measures by the key of a record, and by name."""


def results_table(results: Results) -> str:
    """Return one line of CSV a trial: its name, every measure, every class, its key.

    Measures are written in full precision, those taken of several networks together beside a
    network's own; what is not measured is left empty. `gossamer.reporting.columns` has the meaning
    of each column.
    """
    numbers, parts = _numbers(results), _class_counts(results)
    measures = _measures(numbers)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headers(results))
    datasets = {arm.name: arm.dataset for arm in results.study.arms}
    for trial in results.study.trials:
        record = results.records.get(trial.key)
        found = numbers.get(trial.key, {})
        cells: list[object] = [trial.arm, datasets.get(trial.arm, ""), trial.seed, trial.level]
        cells += [found.get(name, "") for name in measures]
        for part, count in parts.items():
            values = record.per_class.get(part, ()) if record else ()
            cells += [*values, *[""] * (count - len(values))]
        writer.writerow([*cells, trial.key])
    return text.getvalue()


def headers(results: Results) -> list[str]:
    """Return the first line of the table."""
    parts = _class_counts(results).items()
    return [
        *(column.name for column in TRIAL),
        *_measures(_numbers(results)),
        *(f"{part}_accuracy_class_{number}" for part, count in parts for number in range(count)),
        KEY.name,
    ]


def columns_table(results: Results) -> Table | None:
    """Return what the columns of a study's table hold; None before there is anything in them."""
    if not results.done:
        return None
    return Table(
        "A line a trial",
        (),
        ("Column", "unit", "what it holds", "empty where"),
        (Section("", tuple(map(column_row, columns_of(headers(results))))),),
        f"A trial that is not done is empty everywhere but in its name. {STANDS_FOR}",
    )


def column_row(column: Column) -> tuple[str, str, str, str]:
    """Return what is printed of a column."""
    return column.name, column.unit or NOTHING, column.meaning, column.empty or "never"


def _measures(numbers: Numbers) -> list[str]:
    return sorted(set(chain.from_iterable(numbers.values())))


def _numbers(results: Results) -> Numbers:
    """Return the measures of each trial that is done, as columns have them.

    An overlap says with whom where the mask of one network is compared with those of several arms.
    """
    compared = _overlaps(results)
    numbers: dict[str, Mapping[str, float]] = {}
    for key in dict.fromkeys(trial.key for trial in results.done):
        numbers[key] = results.measures[key]
        others = compared.get(key, {})
        if len(others) > 1:
            alone = {name for overlaps in others.values() for name in overlaps}
            own = {name: one for name, one in numbers[key].items() if name not in alone}
            numbers[key] = own | {
                f"{name} with {other}": value
                for other, overlaps in others.items()
                for name, value in overlaps.items()
            }
    return numbers


def _overlaps(results: Results) -> dict[str, dict[str, Mapping[str, float]]]:
    """Return what masks have in common, by record and by the arm that it is compared with."""
    arms = {trial.key: trial.arm for trial in reversed(results.study.trials)}
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for joint in sorted(results.joints, key=_networks):
        other = arms.get(joint.others[0]) if joint.others else None
        if joint.kind == "overlap" and other is not None:
            for key, overlaps in joint.measures.items():
                found.setdefault(key, {})[other] = overlaps
    return found


def _networks(joint: JointRecord) -> int:
    return len(joint.records)


def _class_counts(results: Results) -> dict[str, int]:
    """Return the parts with classes, such as "test", and how many classes each has."""
    counts: dict[str, int] = {}
    for trial in results.done:
        for part, values in results.records[trial.key].per_class.items():
            counts[part] = max(counts.get(part, 0), len(values))
    return dict(sorted(counts.items()))

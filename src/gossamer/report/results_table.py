"""The table of every number, ``results.csv``, and what the page says of its columns."""

import csv
import io
from collections.abc import Mapping
from itertools import chain

from gossamer.core.formats import NOTHING
from gossamer.records.joint import JointRecord
from gossamer.report.columns import KEY, STANDS_FOR, TRIAL, Column, columns_of
from gossamer.report.results import Results
from gossamer.report.tables import Section, Table

Numbers = Mapping[str, Mapping[str, float]]
"""Measures by the key of a record, and by name."""


def results_table(results: Results) -> str:
    """Return one line of CSV a trial: its name, every measure, every class, its key.

    Measures are written in full precision, those taken of several networks together beside a
    network's own; what is not measured is left empty. `gossamer.report.columns` has the meaning of
    each column.
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

"""What is written beside the page: the table of every number, and files that appear whole."""

import csv
import io
from pathlib import Path

from gossamer.errors import InputError
from gossamer.files import replacing
from gossamer.records.record import Record
from gossamer.report.aggregate import Results


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that no reader sees half of it.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"the report's file {path} cannot be written ({reason}); "
            "a folder that can be written, with space left on its disk, is needed"
        ) from error


def results_table(results: Results) -> str:
    """Return one line of CSV a trial: its name, every measure, every class, its key.

    Measures are written in full precision; what is not measured yet is left empty.
    """
    records = [results.records.get(trial.key) for trial in results.study.trials]
    measures = sorted({name for record in records if record for name in record.measures})
    parts = _class_columns(records)
    header = ["arm", "seed", "level", *measures]
    header += [f"{part}_accuracy_class_{i}" for part, count in parts for i in range(count)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, "key"])
    for trial, record in zip(results.study.trials, records, strict=True):
        cells: list[object] = [trial.arm, trial.seed, trial.level]
        cells += [record.measures.get(name, "") if record else "" for name in measures]
        for part, count in parts:
            values = record.per_class.get(part, ()) if record else ()
            cells += [*values, *[""] * (count - len(values))]
        writer.writerow([*cells, trial.key])
    return text.getvalue()


def _class_columns(records: list[Record | None]) -> list[tuple[str, int]]:
    """Parts with classes, such as "test", and how many classes each has."""
    counts: dict[str, int] = {}
    for record in records:
        for part, values in record.per_class.items() if record else ():
            counts[part] = max(counts.get(part, 0), len(values))
    return sorted(counts.items())

"""The page of a comparison of speeds, its figure and its tables."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gossamer.core.formats import NOTHING, compact, listed, sentence
from gossamer.records.speed import CHOSEN, LABELS, RIVALS, SPARSE, Column, Row, Speed
from gossamer.report.files import write_whole
from gossamer.report.rendering import library, page_figure, render
from gossamer.report.speed_figure import speed_figure
from gossamer.report.speed_words import (
    break_even_text,
    finding,
    level,
    machine_text,
    milliseconds,
    place_text,
    pruned_text,
    times,
    versions_text,
    zeros_text,
)
from gossamer.report.tables import Section, Table
from gossamer.report.write import write_pictures

COLUMNS = (
    "threads", "batch", "sparsity", "achieved", "as_given", "column", "median_s", "low_s", "high_s",
    "fastest_s", "repeats", "speed_up", "speed_up_low", "speed_up_high", "difference", "remark",
    "absent",
)  # fmt: skip
"""Of ``speed.csv``."""


def write_speed(speed: Speed, folder: Path) -> Path:
    """Write ``speed.html``, ``figures/speed.*``, ``speed.json`` and ``speed.csv``.

    The page is one file that needs no network. Each file is replaced as a whole.

    Parameters
    ----------
    speed
        What was measured.
    folder
        Where the files go; made if it is not there.

    Returns
    -------
    Path
        The page, ``folder/speed.html``.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    text = json.dumps(speed.to_dict(), indent=1, allow_nan=False)
    write_whole(folder / "speed.json", text.encode())
    write_whole(folder / "speed.csv", speed_lines(speed).encode())
    figure = speed_figure(speed)
    if figure is not None:
        write_pictures(figure, machine_text(speed.machine), folder)
    page = folder / "speed.html"
    values = _values(speed) | {"figure": page_figure(1, figure) if figure else None}
    write_whole(page, render("speed.html.j2", values).encode())
    return page


def speed_lines(speed: Speed) -> str:
    """Return one line of CSV a column of each row; what there is not is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in speed.rows:
        for column in row.columns:
            place = (row.threads, row.batch, row.sparsity, row.achieved, row.as_given)
            writer.writerow([*place, *_cells(row, column)])
    return text.getvalue()


def _cells(row: Row, column: Column) -> Iterator[object]:
    latency, factor = column.latency, row.speed_up(column.name)
    yield column.name
    for name in ("median", "low", "high", "fastest", "repeats"):
        yield getattr(latency, name) if latency else ""
    for name in ("value", "low", "high"):
        yield getattr(factor, name) if factor and column.name in RIVALS else ""
    yield "" if column.difference is None else column.difference
    yield column.remark
    yield column.absent


def _values(speed: Speed) -> dict[str, Any]:
    absences = speed.absences().items()
    return {
        "title": speed.model,
        "facts": _facts(speed),
        "finished": speed.finished,
        "sentence": finding(speed),
        "break_even": _break_even_table(speed),
        "tables": [_table(speed, *place) for place in speed.places],
        "absences": [(LABELS[name], why) for name, why in absences],
        "method": speed.method,
        "notes": speed.notes,
        "library": library(),
    }


def _facts(speed: Speed) -> list[tuple[str, str]]:
    shape = " × ".join(str(size) for size in speed.input_shape)
    return [
        ("Parameters", compact(speed.parameters)),
        ("Input", shape),
        ("Weights", speed.weights or "initial"),
        ("Zeros", sentence(pruned_text(speed))),
        ("Machine", machine_text(speed.machine)),
        ("Versions", versions_text(speed.machine)),
    ]


def _table(speed: Speed, threads: int, batch: int) -> Table:
    """Return times and factors at one batch size and number of threads, a line a sparsity."""
    rows = speed.rows_at(threads, batch)
    timed = {one.name for row in rows for one in row.columns if one.latency}
    rivals = [name for name in RIVALS if name in timed]
    own = [name for name in (SPARSE, CHOSEN) if name in timed]
    lines = tuple(
        (
            zeros_text(row, speed),
            *(_time(row, name) for name in own),
            *(text for name in rivals for text in (_time(row, name), _factor(row, name))),
        )
        for row in rows
    )
    return Table(
        place_text(threads, batch),
        (*((LABELS[name], 1) for name in own), *((LABELS[name], 2) for name in rivals)),
        ("Zeros", *("ms" for _ in own), *(text for _ in rivals for text in ("ms", "factor"))),
        (Section("", lines),),
        "Milliseconds a batch, medians. Factor: that time over gossamer's; below 1× gossamer is "
        "slower.",
    )


def _time(row: Row, name: str) -> str:
    latency = row.latency(name)
    return milliseconds(latency.median) if latency else NOTHING


def _factor(row: Row, name: str) -> str:
    factor = row.speed_up(name)
    return times(factor.value) if factor else NOTHING


def _break_even_table(speed: Speed) -> Table | None:
    if not speed.break_even:
        return None
    found = {(one.column, one.threads, one.batch): one for one in speed.break_even}
    names = [name for name in RIVALS if any(column == name for column, _, _ in found)]
    rows = tuple(
        (
            LABELS[name],
            *(
                break_even_text(found[name, *place]) if (name, *place) in found else NOTHING
                for place in speed.places
            ),
        )
        for name in names
    )
    return Table(
        "Sparsity from which gossamer is faster",
        (),
        ("Against", *(place_text(*place) for place in speed.places)),
        (Section("", rows),),
        "Interpolated between measured sparsities on the logarithm of time; of several crossings "
        f"the highest. Measured at {listed(_levels(speed))}.",
    )


def _levels(speed: Speed) -> list[str]:
    return [
        level(share) for share in sorted({row.sparsity for row in speed.rows if not row.as_given})
    ]

"""The page of a comparison of speeds, its figure and its tables."""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt

from gossamer.core.formats import NOTHING, compact, listed, sentence
from gossamer.records.speed import CHOSEN, LABELS, RIVALS, SPARSE, Column, Row, Speed
from gossamer.reporting.charts import DASHES, INK, QUIET, STRONG, Figure, Layer, Panel
from gossamer.reporting.charts import Row as ChartRow
from gossamer.reporting.files import write_whole
from gossamer.reporting.rendering import library, page_figure, render
from gossamer.reporting.speed_words import (
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
from gossamer.reporting.tables import Section, Table
from gossamer.reporting.write import write_pictures

_TICKS = tuple(digit * 10**power for power in range(-3, 4) for digit in (1, 2, 5))
_MARGIN = 1.15
_SOLID = [1, 0]
_LOOKS = {
    name: (colour, dash)
    for name, colour, dash in zip(RIVALS, STRONG, (_SOLID, *DASHES), strict=False)
}
"""Colour and dash of each column, the same in every panel."""


def speed_figure(speed: Speed) -> Figure | None:
    """Return the figure, a panel for each batch size and number of threads; None without times."""
    rows = {place: figure_rows(speed.rows_at(*place)) for place in speed.places}
    present = {place: found for place, found in rows.items() if found}
    if not present:
        return None
    everything = [row for found in present.values() for row in found]
    domain = _domain(everything)
    # The same legend everywhere, so that panels line up and a line is found without searching.
    shown = {row["series"] for row in everything}
    labels = [LABELS[name] for name in RIVALS if LABELS[name] in shown]
    panels = tuple(
        _panel(Panel(f"speed-{index}"), found, labels, domain, place_text(*place))
        for index, (place, found) in enumerate(present.items())
    )
    return Figure(
        "speed",
        f"{speed.model}: how many times faster than dense",
        "How many times faster gossamer is than each of the others, on a log axis, over the share "
        "of zeros. Bands span from the other's lower quartile over gossamer's upper one to the "
        "reverse. Below the line at 1× gossamer is slower.",
        panels,
    )


def figure_rows(rows: tuple[Row, ...]) -> list[ChartRow]:
    """Return one row a point, by the order of the columns and rising sparsity."""
    return [
        {
            "series": LABELS[name],
            "zeros": 100 * row.achieved,
            "factor": factor.value,
            "low": factor.low,
            "high": factor.high,
            "place": level(row.achieved),
            "reading": f"{times(factor.value)} [{times(factor.low)}, {times(factor.high)}]",
        }
        for name in RIVALS
        for row in rows
        # Where a network's own zeros lie is another matter than a line of rising sparsity.
        if not row.as_given
        if (factor := row.speed_up(name)) is not None
    ]


def _domain(rows: list[ChartRow]) -> tuple[float, float]:
    """Return ends of the axis that hold every band, and the line at 1."""
    low = min(1.0, *(row["low"] for row in rows)) / _MARGIN
    high = max(1.0, *(row["high"] for row in rows)) * _MARGIN
    return low, high


def _panel(
    panel: Panel, rows: list[ChartRow], labels: list[str], domain: tuple[float, float], title: str
) -> Panel:
    looks = {LABELS[name]: look for name, look in _LOOKS.items()}
    colours, dashes = ([looks[label][part] for label in labels] for part in (0, 1))
    colour = alt.Color("series:N", title=None).scale(domain=labels, range=colours)
    dash = alt.StrokeDash("series:N", title=None).scale(domain=labels, range=dashes)
    pick = alt.selection_point(fields=["series"], bind="legend", toggle="true", name="pick")
    fade = alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.07))
    x = alt.X("zeros:Q", title="Share of zeros (%)").scale(zero=False, nice=False, padding=14)
    y = alt.Y("factor:Q", title="Times faster (log scale)", scale=_log(domain), axis=_axis(domain))
    hover = [
        alt.Tooltip("series:N", title="against"),
        alt.Tooltip("place:N", title="zeros"),
        alt.Tooltip("reading:N", title="times faster"),
    ]
    band = panel.of(rows).mark_area(fillOpacity=0.13)
    lines = panel.of(rows).mark_line(strokeWidth=2).add_params(pick)
    points = panel.of(rows).mark_point(filled=True, size=36)
    layers: list[Layer] = [
        _even(panel, y),
        band.encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), colour, opacity=fade),
        lines.encode(x, y, colour, dash, opacity=fade),
        points.encode(x, y, colour, tooltip=hover, opacity=fade),
    ]
    return panel.showing(layers, 300, title)


def _even(panel: Panel, y: alt.Y) -> Layer:
    rule: alt.Chart = panel.of([{"factor": 1.0}]).mark_rule(stroke=INK, strokeWidth=1.2)
    return rule.encode(y)


def _log(domain: tuple[float, float]) -> alt.Scale:
    return alt.Scale(type="log", domain=list(domain), nice=False, clamp=True)


def _axis(domain: tuple[float, float]) -> alt.Axis:
    """Label 1, 2 and 5 of each decade; where there are many decades the powers of ten alone."""
    low, high = domain
    within = [tick for tick in _TICKS if low <= tick <= high]
    if math.log10(high / low) > 3:
        within = [tick for tick in within if math.log10(tick).is_integer()]
    return alt.Axis(values=within, labelExpr="format(datum.value, '~g') + '×'", tickColor=QUIET)


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

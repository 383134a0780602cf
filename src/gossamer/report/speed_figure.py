"""Speed-up against sparsity: a line for each column that gossamer is held against."""

import math

import altair as alt

from gossamer.records.speed import LABELS, RIVALS, Row, Speed
from gossamer.report.charts import DASHES, INK, QUIET, STRONG, Figure, Layer, Panel
from gossamer.report.charts import Row as ChartRow
from gossamer.report.speed_words import level, place_text, times

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

"""ROC curves on log axes: what an attacker finds at the cost of how many innocents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from gossamer.core.formats import listed, percent
from gossamer.records.leakage import AttackResult
from gossamer.report.charts import INK, MUTED, QUIET, RULE, STRONG, Layer, Panel, Row

MARKED = (0.001, 0.01)
"""False-positive rates that tables name."""
TICKS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
PERCENTS = "format(datum.value * 100, '~g') + '%'"


@dataclass(frozen=True)
class Curve:
    """One line of a ROC figure."""

    label: str
    attack: AttackResult


def roc_rows(curves: Sequence[Curve]) -> list[Row]:
    """One row a point; what a log axis cannot show, rates of 0, is left out."""
    floor = lowest_rate(curves)
    return [
        {
            "series": curve.label,
            "fpr": point.fpr,
            "tpr": point.tpr,
            "low": None if point.low is None else min(1.0, max(floor, point.low)),
            "high": None if point.high is None else min(1.0, max(floor, point.high)),
            "reading": f"{percent(point.tpr)}% at {percent(point.fpr)}%",
        }
        for curve in curves
        for point in curve.attack.roc
        if point.tpr >= floor
    ]


def lowest_rate(curves: Sequence[Curve]) -> float:
    """Return the lowest false-positive rate of some curves, where the axes begin."""
    return min(point.fpr for curve in curves for point in curve.attack.roc)


def marked_rates(curves: Sequence[Curve]) -> str:
    """Return a sentence, with a space before it, on the vertical lines; empty if there are none."""
    rates = [f"{100 * rate:g}%" for rate in MARKED if rate >= lowest_rate(curves)]
    if not rates:
        return ""
    return f" Vertical line{'s' if len(rates) > 1 else ''}: FPR of {listed(rates)}."


def roc_panel(panel: Panel, curves: Sequence[Curve], title: str = "") -> Panel:
    """Curves with their 95% bands, and the diagonal of an attacker who guesses."""
    rows, floor = roc_rows(curves), lowest_rate(curves)
    labels = [curve.label for curve in curves]
    colours = [INK, *STRONG, *MUTED][: len(labels)]
    colour = alt.Color("series:N", title=None).scale(domain=labels, range=colours)
    pick = alt.selection_point(fields=["series"], bind="legend", toggle="true", name="pick")
    fade = alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.07))
    scale = alt.Scale(type="log", domain=[floor, 1], nice=False, clamp=True)
    axis = alt.Axis(values=[tick for tick in TICKS if tick >= floor], labelExpr=PERCENTS)
    x = alt.X("fpr:Q", title="False-positive rate (log scale)", scale=scale, axis=axis)
    y = alt.Y("tpr:Q", title="True-positive rate (log scale)", scale=scale, axis=axis)
    tooltip = [alt.Tooltip("series:N", title=" "), alt.Tooltip("reading:N", title="TPR at FPR")]
    lines = panel.of(rows).mark_line(strokeWidth=2, interpolate="linear").add_params(pick)
    layers: list[Layer] = [
        *_guides(panel, floor, x, y),
        *_bands(panel, rows, x, colour, fade),
        lines.encode(x, y, colour, tooltip=tooltip, opacity=fade),
    ]
    return panel.showing(layers, 420, title)


def _guides(panel: Panel, floor: float, x: alt.X, y: alt.Y) -> list[Layer]:
    """Draw the diagonal, and the rates that tables name."""
    ends = panel.of([{"fpr": floor, "tpr": floor}, {"fpr": 1.0, "tpr": 1.0}])
    diagonal = ends.mark_line(strokeDash=[2, 3], stroke=QUIET, strokeWidth=1.2).encode(x, y)
    marked = panel.of([{"fpr": rate} for rate in MARKED if rate >= floor])
    return [marked.mark_rule(stroke=RULE, strokeWidth=1.5).encode(x), diagonal]


def _bands(panel: Panel, rows: list[Row], x: alt.X, colour: alt.Color, fade: Any) -> list[Layer]:
    known = [row for row in rows if row["low"] is not None]
    if not known:
        return []
    band = panel.of(known).mark_area(fillOpacity=0.13)
    return [band.encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), colour, opacity=fade)]

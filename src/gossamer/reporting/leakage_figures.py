"""Leakage against sparsity, against test accuracy, and as ROC curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

import altair as alt

from gossamer.core.formats import listed, percent
from gossamer.records.leakage import AttackResult
from gossamer.reporting.charts import (
    INK,
    MUTED,
    NARROW,
    QUIET,
    RULE,
    STRONG,
    Figure,
    Layer,
    Panel,
    Row,
)
from gossamer.reporting.curves import MOST_LINES
from gossamer.reporting.glossary import spread
from gossamer.reporting.label_corners import Box, Frame, label_corners, line_boxes, point_box
from gossamer.reporting.leakage_tables import (
    AUC,
    LOW_TPR,
    READINGS,
    Audited,
    audited,
    detailed,
    place_label,
    reading,
)
from gossamer.reporting.lines import (
    Intervals,
    Quantity,
    chance_rule,
    dot_panel,
    dot_rows,
    level_rows,
    line_panel,
    point,
    tooltips,
)
from gossamer.reporting.results import Results
from gossamer.reporting.series import Group, Ink, all_series, along_axis, by_arm, groups, ink
from gossamer.reporting.size_figures import TEST_ACCURACY

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


PAIRS = "95% intervals over pairs of networks"
MATCHED_HEIGHT = 320
ACCURACY_KEYS = ("accuracy_low", "accuracy", "accuracy_high")


def leakage_figure(results: Results) -> Figure | None:
    """Four readings of the headline attack, over the axis or arm by arm."""
    found = audited(results)
    panels = [
        _level_panel(results, group, quantity)
        for group in groups(results)
        for quantity in READINGS
        if any(one.arm in {arm.name for arm in group.arms} for one in found)
    ]
    if not panels:
        return None
    return Figure(
        "leakage",
        f"Leakage {'of each arm' if by_arm(results) else f'against {results.axis}'}",
        f"What the headline attack, {_attacks(found)}, finds out about membership; {PAIRS}. "
        "TPR: share of the training examples that it accuses. FPR: share of the others that it "
        "accuses, by a threshold fixed on other networks. Dotted: guessing.",
        tuple(panels),
    )


def _attacks(found: tuple[Audited, ...]) -> str:
    return " or ".join(dict.fromkeys(one.headline.label for one in found))


def readings(results: Results, quantity: Quantity) -> Intervals:
    """Return a reading of the headline attack by arm and level.

    At level 0 of a main arm the baseline may stand in, as it does for accuracy.
    """
    found = {(one.arm, one.level): reading(one, quantity) for one in audited(results)}
    base = results.baseline.name if results.baseline else ""
    for arm in results.arms("main"):
        at = (arm.name, 0.0)
        if at not in found and 0.0 in results.levels(arm.name) and (base, 0.0) in found:
            found[at] = found[base, 0.0]
    return {at: interval for at, interval in found.items() if interval is not None}


def _level_panel(results: Results, group: Group, quantity: Quantity) -> Panel:
    known = readings(results, quantity)
    looks = all_series(results, group)
    panel = Panel(f"leakage-{group.title}-{quantity.name}")
    if by_arm(results):
        rows = dot_rows(results, quantity, looks, known)
        return dot_panel(panel, results, group, quantity, rows)
    lines = level_rows(results, quantity, looks, known)
    return line_panel(panel, results, group, quantity, lines, height=260)


def accuracy_leakage_figure(results: Results) -> Figure | None:
    """Leakage against test accuracy: at which accuracy a network leaks how much."""
    panels = [
        panel
        for group in groups(results)
        for quantity in (AUC, LOW_TPR)
        if (panel := _matched_panel(results, group, quantity)) is not None
    ]
    if not panels:
        return None
    return Figure(
        "leakage-accuracy",
        "Leakage against test accuracy",
        "The same networks by test accuracy, so that those above one another are compared at "
        f"equal accuracy. Lines join the levels of an arm, each with its {results.axis} beside "
        "it; networks that are not pruned are diamonds, joined from the shortest training to the "
        f"longest. {PAIRS}.",
        tuple(panels),
    )


def matched_rows(results: Results, group: Group, quantity: Quantity) -> list[Row]:
    """One row a network, by what it reaches and what it leaks."""
    rows = []
    looks = all_series(results, group)
    for (arm, level), leak in readings(results, quantity).items():
        accuracy = results.interval(arm, level)
        if (arm, False) not in looks or accuracy is None:
            continue
        low, high = TEST_ACCURACY.bounds(accuracy)
        rows.append(
            point(results, quantity, looks[arm, False], level, leak)
            | {
                "accuracy": 100 * accuracy.mean,
                "accuracy_low": 100 * low,
                "accuracy_high": 100 * high,
                "accuracy_reading": f"{spread(accuracy)}%",
                "fixed": not along_axis(results, arm),
                "steps": _steps(results, arm),
            }
        )
    return rows


def _steps(results: Results, arm: str) -> int:
    """Return how long an arm trains, in optimizer steps."""
    return max(trial.optimizer_steps for trial in results.study.trials if trial.arm == arm)


def _matched_panel(results: Results, group: Group, quantity: Quantity) -> Panel | None:
    rows = matched_rows(results, group, quantity)
    if not rows:
        return None
    panel = Panel(f"matched-{group.title}-{quantity.name}")
    labels = {row["series"] for row in rows}
    style = ink(look for look in all_series(results, group).values() if look.label in labels)
    chance = [] if quantity.chance is None else [quantity.scale * quantity.chance]
    across = Frame.around([row[key] for row in rows for key in ACCURACY_KEYS], NARROW)
    up = Frame.around([*chance, *(one for row in rows for one in _reached(row))], MATCHED_HEIGHT)
    x = alt.X("accuracy:Q", title=TEST_ACCURACY.title).axis(tickCount=6)
    x = x.scale(domain=[across.low, across.high], nice=False)
    y = alt.Y("mean:Q", title=quantity.title).scale(domain=[up.low, up.high], nice=False)
    hover = [*tooltips(results, quantity), alt.Tooltip("accuracy_reading:N", title="test accuracy")]
    layers = [
        *_unpruned(panel, rows, x, y),
        *_joined(panel, rows, x, y, style),
        *_marked(panel, rows, x, y, style, hover),
        *_labelled(panel, rows, across, up, style),
    ]
    if quantity.chance is not None:
        layers.append(chance_rule(panel, quantity))
    return panel.showing(style.pickable(layers), MATCHED_HEIGHT, group.title)


def _unpruned(panel: Panel, rows: list[Row], x: alt.X, y: alt.Y) -> list[Layer]:
    """Join the networks that are not pruned, from the shortest training to the longest."""
    fixed = [row for row in rows if row["fixed"]]
    line = panel.of(fixed).mark_line(stroke=QUIET, strokeWidth=1.1, strokeDash=[4, 3])
    return [line.encode(x, y, alt.Order("steps:Q"))] if len(fixed) > 1 else []


def _joined(panel: Panel, rows: list[Row], x: alt.X, y: alt.Y, style: Ink) -> list[Layer]:
    """Draw lines along the levels, and the intervals of either number."""
    moving = [row for row in rows if not row["fixed"]]
    known = [row for row in rows if row["low"] is not None]
    layers: list[Layer] = []
    if moving:
        lines = panel.of(moving).mark_line(strokeWidth=1.6)
        order = alt.Order("level:Q")
        layers.append(lines.encode(x, y, style.colour, style.dash, order, opacity=style.fade))
    if known:
        bars = panel.of(known).mark_rule(strokeWidth=1.2, strokeOpacity=0.55)
        across = (alt.X("accuracy_low:Q"), alt.X2("accuracy_high:Q"), y)
        up = (x, alt.Y("low:Q"), alt.Y2("high:Q"))
        layers += [bars.encode(*some, style.colour, opacity=style.fade) for some in (across, up)]
    return layers


def _marked(
    panel: Panel, rows: list[Row], x: alt.X, y: alt.Y, style: Ink, hover: list[alt.Tooltip]
) -> list[Layer]:
    """Draw a point for each network, or a diamond where it has no level."""
    layers: list[Layer] = []
    for shape, size, fixed in (("circle", 42, False), ("diamond", 110, True)):
        some = [row for row in rows if row["fixed"] == fixed]
        if some:
            marks = panel.of(some).mark_point(filled=True, shape=shape, size=size)
            layers.append(marks.encode(x, y, style.colour, tooltip=hover, opacity=style.fade))
    return layers


def _labelled(panel: Panel, rows: list[Row], across: Frame, up: Frame, style: Ink) -> list[Layer]:
    """Write the level of a pruned network beside its point, where there is room, in its colour."""
    named = [row for row in rows if not row["fixed"] and row["main"]]

    def down(value: float) -> float:
        return up.size - up.at(value)

    def place(row: Row) -> tuple[float, float]:
        return across.at(row["accuracy"]), down(row["mean"])

    covered: list[Box] = []
    for row in rows:
        middle, level = place(row)
        left, right = across.at(row["accuracy_low"]), across.at(row["accuracy_high"])
        top, bottom = down(max(_reached(row))), down(min(_reached(row)))
        covered += [
            point_box(middle, level),
            Box(middle - 1, top, middle + 1, bottom),
            Box(left, level - 1, right, level + 1),
        ]
    for line in _lines(rows):
        for begin, end in pairwise(line):
            covered += line_boxes(place(begin), place(end))
    corners = label_corners([place(row) for row in named], [row["place"] for row in named], covered)
    layers: list[Layer] = []
    for corner in dict.fromkeys(corners):
        here = [row for row, its in zip(named, corners, strict=True) if its == corner]
        if here:
            words = panel.of(here).mark_text(
                dx=corner.dx, dy=corner.dy, align=corner.align, fontSize=10.5
            )
            at = (alt.X("accuracy:Q"), alt.Y("mean:Q"), alt.Text("place:N"))
            layers.append(words.encode(*at, style.colour, opacity=style.fade))
    return layers


def _lines(rows: list[Row]) -> list[list[Row]]:
    """Return the rows that are joined, in order: those of each pruned arm, and all others."""
    fixed = sorted((row for row in rows if row["fixed"]), key=itemgetter("steps"))
    moving = sorted((row for row in rows if not row["fixed"]), key=itemgetter("level"))
    arms = dict.fromkeys(row["series"] for row in moving)
    return [fixed, *([row for row in moving if row["series"] == arm] for arm in arms)]


def _reached(row: Row) -> list[float]:
    """Return a reading with the ends of its interval, where it has one."""
    return [row[key] for key in ("low", "mean", "high") if row[key] is not None]


def roc_figure(results: Results) -> Figure | None:
    """ROC curves of the headline attack on networks with and without pruning."""
    shown = {group.title: detailed(results, group)[:MOST_LINES] for group in groups(results)}
    curves = {title: _curves(results, some) for title, some in shown.items() if some}
    panels = tuple(roc_panel(Panel(f"roc-{title}"), some, title) for title, some in curves.items())
    if not panels:
        return None
    attacks = _attacks(tuple(one for some in shown.values() for one in some))
    return Figure(
        "roc",
        "ROC curves of the headline attack",
        f"True-positive against false-positive rate of the headline attack, {attacks}, on "
        f"log axes, mean over networks; {PAIRS}. Dotted: guessing."
        + marked_rates([curve for some in curves.values() for curve in some]),
        panels,
        columns=1,
    )


def _curves(results: Results, shown: tuple[Audited, ...]) -> list[Curve]:
    return [
        Curve(place_label(results, one.arm, one.level, short=True), one.headline) for one in shown
    ]

"""Accuracy against the axis of the study, and against what is left of the network."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import altair as alt

from gossamer.formats import compact, counted, sentence, spread
from gossamer.report.aggregate import ACCURACY, Results, comparisons, reaching
from gossamer.report.charts import DASHES, MUTED, QUIET, STRONG, Figure, Layer, Panel, Row
from gossamer.stats.intervals import Interval

PUBLISHED = "published"


@dataclass(frozen=True)
class Series:
    """How one line of a figure looks."""

    label: str
    colour: str
    dash: Sequence[int]
    main: bool = False


def all_series(results: Results) -> dict[tuple[str, bool], Series]:
    """Look of each measured and published line, by arm and whether it is published."""
    strong, muted = cycle(STRONG), cycle(zip(MUTED, DASHES, strict=True))
    published = {one.arm for one in comparisons(results) if one.measure == ACCURACY}
    looks: dict[tuple[str, bool], Series] = {}
    for arm in results.arms("main"):
        colour, label = next(strong), sentence(arm.label)
        looks[arm.name, False] = Series(label, colour, [1, 0], main=True)
        if arm.name in published:
            looks[arm.name, True] = Series(f"{label}, published", colour, [6, 4])
    if (base := results.baseline) is not None:
        unpruned = "" if "unpruned" in base.label.lower() else " (unpruned)"
        looks[base.name, False] = Series(f"{sentence(base.label)}{unpruned}", QUIET, [1, 0])
    for arm in results.arms("control"):
        colour, dash = next(muted)
        looks[arm.name, False] = Series(sentence(arm.label), colour, dash)
    return looks


def _point(results: Results, series: Series, level: float, interval: Interval) -> Row:
    bounds = (interval.low, interval.high)
    low, high = (None if one is None else round(100 * min(1, max(0, one)), 4) for one in bounds)
    return {
        "series": series.label,
        "main": series.main,
        "level": results.position(level),
        "place": results.level_text(level),
        "mean": round(100 * interval.mean, 4),
        "low": low,
        "high": high,
        "reading": f"{spread(interval)}%",
        "seeds": counted(interval.count, "seed"),
    }


def _baseline_rows(results: Results) -> list[Row]:
    """Return the accuracy of the unpruned network, to be drawn as a line across the figure."""
    base = results.baseline
    interval = results.interval(base.name, 0.0) if base else None
    if base is None or interval is None:
        return []
    return [_point(results, all_series(results)[base.name, False], 0.0, interval)]


def _is_baseline(results: Results, arm: str) -> bool:
    return results.baseline is not None and arm == results.baseline.name


def accuracy_rows(results: Results) -> list[Row]:
    """One row a point: every arm but the baseline, then the published figures."""
    looks, rows = all_series(results), []
    for (arm, published), series in looks.items():
        for level in () if published or _is_baseline(results, arm) else results.levels(arm):
            interval = results.interval(arm, level)
            if interval is not None:
                rows.append(_point(results, series, level, interval))
    for one in comparisons(results):
        look = looks.get((one.arm, True))
        if look is not None and one.measure == ACCURACY:
            value = Interval(one.published, None, None, 1)
            rows.append(_point(results, look, one.level, value) | {"seeds": PUBLISHED})
    return rows


def effective_rows(results: Results) -> list[Row]:
    """One row a point, over the weights that still reach the output; at least one weight."""
    rows = []
    for (arm, published), series in all_series(results).items():
        for level in () if published or _is_baseline(results, arm) else results.levels(arm):
            interval, weights = results.interval(arm, level), reaching(results, arm, level)
            if interval is not None and weights is not None and weights > 0:
                row = _point(results, series, level, interval)
                rows.append(row | {"weights": weights, "count": compact(weights)})
    return rows


def accuracy_figure(results: Results) -> Figure | None:
    """Accuracy against the axis: every arm, and what was published."""
    rows = accuracy_rows(results)
    if not any(row["seeds"] != PUBLISHED for row in rows):
        return None
    x = alt.X("level:Q", title=results.axis_title).scale(nice=False, zero=True, padding=14)
    hollow = any(row["seeds"] == PUBLISHED for row in rows)
    return Figure(
        "accuracy",
        f"Test accuracy against {results.axis}",
        f"Test accuracy against {results.axis}, {_over(results)}. "
        + ("Hollow points on dashed lines are the published figures. " if hollow else "")
        + "Click an entry of the legend to single it out, again to release it.",
        (_panel(Panel("accuracy"), results, rows, x.axis(tickCount=10), []),),
    )


def effective_figure(results: Results) -> Figure | None:
    """Accuracy against the weights that can still change the output."""
    rows = effective_rows(results)
    if not rows:
        return None
    x = (
        alt.X("weights:Q", title="Weights that still reach the output (log scale)")
        .scale(type="log", reverse=True, nice=False, padding=14)
        .axis(format="~s", values=log_ticks([row["weights"] for row in rows]))
    )
    count = [alt.Tooltip("count:N", title="weights that reach the output")]
    return Figure(
        "effective",
        "Test accuracy at equal effective size",
        "The same networks at equal effective size: weights that lie on no path from the input "
        "to the output are not counted, so what pruning cut off beside what it zeroed is gone "
        f"too. Sparser to the right; {_over(results)}.",
        (_panel(Panel("effective"), results, rows, x, count),),
    )


def log_ticks(values: Sequence[float]) -> list[float]:
    """Return the round numbers 1, 2 and 5 times a power of ten that lie within some values.

    Examples
    --------
    >>> log_ticks([30, 700])
    [50, 100, 200, 500]
    """
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10**power for power in powers for digit in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _over(results: Results) -> str:
    return f"{results.basis}, {'without' if results.one_seed else 'with 95%'} intervals"


@dataclass(frozen=True)
class Ink:
    """Encodings that the layers of one panel share."""

    colour: alt.Color
    dash: alt.StrokeDash
    fade: Any
    pick: alt.Parameter


def _ink(looks: Iterable[Series]) -> Ink:
    looks = list(looks)
    labels = [look.label for look in looks]
    pick = alt.selection_point(fields=["series"], bind="legend", toggle="true", name="pick")
    return Ink(
        alt.Color("series:N", title=None).scale(
            domain=labels, range=[look.colour for look in looks]
        ),
        alt.StrokeDash("series:N", title=None).scale(
            domain=labels, range=[list(look.dash) for look in looks]
        ),
        alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.07)),
        pick,
    )


def _panel(
    panel: Panel, results: Results, rows: list[Row], x: alt.X, extra: list[alt.Tooltip]
) -> Panel:
    """Lines with their intervals and points; filled if measured, hollow if published."""
    base = _baseline_rows(results)
    present = {row["series"] for row in (*base, *rows)}
    ink = _ink(look for look in all_series(results).values() if look.label in present)
    tooltip = [
        alt.Tooltip("series:N", title=" "),
        alt.Tooltip("place:N", title=results.axis),
        *extra,
        alt.Tooltip("reading:N", title="test accuracy"),
        alt.Tooltip("seeds:N", title="over"),
    ]
    y = alt.Y("mean:Q", title="Test accuracy (%)").scale(zero=False, nice=True)
    width = alt.when("datum.main").then(alt.value(2.5)).otherwise(alt.value(1.5))
    lines = panel.of(rows).mark_line(strokeCap="butt").add_params(ink.pick)
    layers: list[Layer] = [
        lines.encode(
            x, y, ink.colour, ink.dash, alt.Order("level:Q"), strokeWidth=width, opacity=ink.fade
        ),
        *_intervals(panel, rows, x, ink),
    ]
    if base:
        rule = panel.of(base).mark_rule(strokeWidth=1.2)
        layers.append(rule.encode(y, ink.colour, tooltip=tooltip, opacity=ink.fade))
    hollow = [row for row in rows if row["seeds"] == PUBLISHED]
    filled = [row for row in rows if row["seeds"] != PUBLISHED]
    marks = (
        (hollow, panel.of(hollow).mark_point(fill="white", size=44, strokeWidth=1.6)),
        (filled, panel.of(filled).mark_point(filled=True, size=40)),
    )
    layers += [
        points.encode(x, y, ink.colour, tooltip=tooltip, opacity=ink.fade)
        for some, points in marks
        if some
    ]
    return panel.showing(layers, height=400)


def _intervals(panel: Panel, rows: list[Row], x: alt.X, ink: Ink) -> list[Layer]:
    """Draw bands for the main arms, and bars where there is no line for a band to follow."""
    known = [row for row in rows if row["low"] is not None]
    points = Counter(row["series"] for row in known)
    banded = [row for row in known if row["main"] and points[row["series"]] > 1]
    barred = [row for row in known if row not in banded]
    low, high = alt.Y("low:Q"), alt.Y2("high:Q")
    marks = (
        (banded, panel.of(banded).mark_area(fillOpacity=0.16)),
        (barred, panel.of(barred).mark_rule(strokeWidth=1.3, strokeOpacity=0.65)),
    )
    return [mark.encode(x, low, high, ink.colour, opacity=ink.fade) for some, mark in marks if some]

"""A quantity against the axis of the study: lines with their intervals."""

from collections import Counter
from dataclasses import dataclass
from math import ceil, floor, log10

import altair as alt

from gossamer.core.formats import decimal
from gossamer.reporting.charts import GREY, INK, QUIET, STRONG, Layer, Panel, Row
from gossamer.reporting.glossary import spread
from gossamer.reporting.results import Results
from gossamer.reporting.series import (
    PUBLISHED,
    Group,
    Ink,
    Looks,
    Series,
    all_series,
    along_axis,
    axis_levels,
    ink,
)
from gossamer.stats.intervals import Interval


@dataclass(frozen=True)
class Quantity:
    """What a figure shows of each arm at each level."""

    name: str
    """In a sentence, such as "test accuracy"."""
    title: str
    """On the axis, with its unit."""
    scale: float = 100
    """What a value is multiplied with to be shown; 100 for percent."""
    digits: int = 2
    unit: str = "%"
    lowest: float = 0
    """Ends of intervals are drawn no lower than this, before scaling."""
    highest: float = 1
    chance: float | None = None
    """What a coin would reach, before scaling; drawn as a dotted line."""

    def text(self, interval: Interval) -> str:
        """Return a mean with its interval, as a reader wants it."""
        mean = f"{decimal(self.scale * interval.mean, self.digits)}{self.unit}"
        if interval.low is None or interval.high is None:
            return mean
        low, high = (decimal(self.scale * one, self.digits) for one in self.bounds(interval))
        return f"{mean} [{low}, {high}]"

    def bounds(self, interval: Interval) -> tuple[float, float]:
        """Return the ends of an interval, kept within what the quantity can be."""
        low = interval.mean if interval.low is None else interval.low
        high = interval.mean if interval.high is None else interval.high
        return max(self.lowest, low), min(self.highest, high)


Intervals = dict[tuple[str, float], Interval]
"""What is known of a quantity, by arm and level."""


def point(
    results: Results, quantity: Quantity, series: Series, level: float, interval: Interval
) -> Row:
    """Return one point of a line, with its interval and what hovering says."""
    low, high = quantity.bounds(interval)
    known = interval.low is not None
    return {
        "series": series.label,
        "main": series.main,
        "level": results.position(level),
        "place": results.level_text(level),
        "mean": round(quantity.scale * interval.mean, 5),
        "low": round(quantity.scale * low, 5) if known else None,
        "high": round(quantity.scale * high, 5) if known else None,
        "reading": quantity.text(interval),
        "over": results.counted_units(interval.count),
    }


def level_rows(
    results: Results, quantity: Quantity, looks: Looks, known: Intervals
) -> tuple[list[Row], list[Row]]:
    """Return the points of arms that lie along the axis, and those of arms drawn across it."""
    along: list[Row] = []
    across: list[Row] = []
    for (arm, published), look in looks.items():
        lies_along = along_axis(results, arm)
        levels = results.levels(arm) if lies_along else results.own_levels(arm)
        where = along if lies_along else across
        where += (
            []
            if published
            else [
                point(results, quantity, look, level, known[arm, level])
                for level in levels
                if (arm, level) in known
            ]
        )
    return along, across


def line_panel(
    panel: Panel,
    results: Results,
    group: Group,
    quantity: Quantity,
    rows: tuple[list[Row], list[Row]],
    height: int = 400,
) -> Panel:
    """Lines with their intervals and points over the axis; filled if measured, else hollow."""
    along, across = rows
    x = alt.X("level:Q", title=results.axis_title).scale(nice=False, zero=True, padding=14)
    present = {row["series"] for row in (*along, *across)}
    looks = [look for look in all_series(results, group).values() if look.label in present]
    style = ink(looks)
    y = alt.Y("mean:Q", title=quantity.title).scale(zero=False, nice=True)
    hover = tooltips(results, quantity)
    layers = [
        *_across(panel, across, y, style, hover),  # below the lines, which may run along them
        *_lines(panel, along, x.axis(tickCount=10), y, style),
        *_spreads(panel, along, x, style),
        *marks(panel, along, x, y, style, hover),
    ]
    if quantity.chance is not None:
        layers.append(chance_rule(panel, quantity))
    return panel.showing(style.pickable(layers), height, group.title)


def tooltips(results: Results, quantity: Quantity) -> list[alt.Tooltip]:
    """Return what hovering over a point says."""
    return [
        alt.Tooltip("series:N", title=" "),
        alt.Tooltip("place:N", title=results.axis),
        alt.Tooltip("reading:N", title=quantity.name),
        alt.Tooltip("over:N", title="over"),
    ]


def chance_rule(panel: Panel, quantity: Quantity) -> Layer:
    """Draw a dotted line where a coin would be."""
    value = quantity.scale * (quantity.chance or 0)
    rule: alt.Chart = panel.of([{"mean": value}]).mark_rule(strokeDash=[2, 3], stroke=QUIET)
    return rule.encode(alt.Y("mean:Q"))


def _lines(panel: Panel, rows: list[Row], x: alt.X, y: alt.Y, style: Ink) -> list[Layer]:
    if not rows:
        return []
    width = alt.when("datum.main").then(alt.value(2.5)).otherwise(alt.value(1.5))
    lines = panel.of(rows).mark_line(strokeCap="butt")
    order = alt.Order("level:Q")
    return [
        lines.encode(x, y, style.colour, style.dash, order, strokeWidth=width, opacity=style.fade)
    ]


def _spreads(panel: Panel, rows: list[Row], x: alt.X, style: Ink) -> list[Layer]:
    """Draw bands for the main arms, and bars where there is no line for a band to follow."""
    known = [row for row in rows if row["low"] is not None]
    points = Counter(row["series"] for row in known)
    banded = [row for row in known if row["main"] and points[row["series"]] > 1]
    barred = [row for row in known if row not in banded]
    low, high = alt.Y("low:Q"), alt.Y2("high:Q")
    kinds = (
        (banded, panel.of(banded).mark_area(fillOpacity=0.16)),
        (barred, panel.of(barred).mark_rule(strokeWidth=1.3, strokeOpacity=0.65)),
    )
    return [
        mark.encode(x, low, high, style.colour, opacity=style.fade) for some, mark in kinds if some
    ]


def _across(
    panel: Panel, rows: list[Row], y: alt.Y, style: Ink, hover: list[alt.Tooltip]
) -> list[Layer]:
    """Draw arms that have no level as lines across the panel, with their intervals as bands."""
    known = [row for row in rows if row["low"] is not None]
    layers: list[Layer] = []
    if known:
        band = panel.of(known).mark_rect(fillOpacity=0.09, strokeWidth=0)
        layers.append(
            band.encode(alt.Y("low:Q"), alt.Y2("high:Q"), style.colour, opacity=style.fade)
        )
    if rows:
        rule = panel.of(rows).mark_rule(strokeWidth=1.4)
        layers.append(rule.encode(y, style.colour, style.dash, tooltip=hover, opacity=style.fade))
    return layers


def marks(
    panel: Panel, rows: list[Row], x: alt.X, y: alt.Y, style: Ink, hover: list[alt.Tooltip]
) -> list[Layer]:
    """Draw points: hollow where they are published figures, strokes where no line tells the arm.

    A stroke is drawn as the legend draws it: two arms of one point each, such as two unpruned
    networks, would otherwise be two dots in one place and two lines in the legend.
    """
    points = Counter(row["series"] for row in rows)
    hollow = [row for row in rows if row["over"] == PUBLISHED]
    measured = [row for row in rows if row["over"] != PUBLISHED]
    filled = [row for row in measured if points[row["series"]] > 1]
    alone = [row for row in measured if points[row["series"]] == 1]
    stroke = panel.of(alone).mark_point(shape="stroke", size=320, strokeWidth=2.2)
    kinds = (
        (hollow, panel.of(hollow).mark_point(fill="white", size=44, strokeWidth=1.6)),
        (filled, panel.of(filled).mark_point(filled=True, size=40)),
        (alone, stroke.encode(style.dash)),
    )
    return [
        mark.encode(x, y, style.colour, tooltip=hover, opacity=style.fade)
        for some, mark in kinds
        if some
    ]


BARE = "not pruned"
"""Place of an arm that has no level."""
ROOM = 0.3
"""What the axis has beyond its data on the right, for the numbers, as a part of their range."""
GAP = 0.05
"""The same, of which is still free before the numbers begin."""
MOST_TICKS = 10


def dot_rows(
    results: Results,
    quantity: Quantity,
    looks: Looks,
    known: Intervals,
    published: Intervals | None = None,
) -> list[Row]:
    """One row an arm and level in the order of the study, then the published numbers."""
    order = [arm.name for arm in results.study.arms if (arm.name, False) in looks]
    rows = [
        point(results, quantity, looks[arm, False], level, known[arm, level])
        | _dot(results, quantity, arm, level, known[arm, level])
        for arm in order
        for level in results.own_levels(arm)
        if (arm, level) in known
    ]
    return rows + [
        point(results, quantity, looks[arm, False], level, interval)
        | _dot(results, quantity, arm, level, interval)
        | {"over": PUBLISHED}
        for (arm, level), interval in (published or {}).items()
        if (arm, level) in known
    ]


def _dot(results: Results, quantity: Quantity, arm: str, level: float, interval: Interval) -> Row:
    """Return what a dot has beyond a point of a line: where it stands, its number, its end."""
    return {
        "where": results.place(level) if along_axis(results, arm) else BARE,
        "short": spread(interval, quantity.digits, quantity.scale),
        "end": quantity.scale * quantity.bounds(interval)[1],
    }


def dot_panel(
    panel: Panel, results: Results, group: Group, quantity: Quantity, rows: list[Row]
) -> Panel:
    """One line an arm, with a dot, its interval and its number for each level."""
    here = {row["where"] for row in rows}
    places = [BARE, *(results.place(level) for level in axis_levels(results))]
    places = [place for place in places if place in here]
    arms = list(dict.fromkeys(row["series"] for row in rows))
    several = max(Counter((row["series"], row["over"] == PUBLISHED) for row in rows).values())
    y = alt.Y("series:N", sort=arms, title=None).axis(
        labelLimit=300, labelColor=INK, ticks=False, domain=False, grid=True
    )
    shared = {"y": y, "color": _colour(places)}
    if several > 1:
        shared["yOffset"] = alt.YOffset("where:N", sort=places)
    layers = _layers(panel, results, quantity, rows, shared)
    height = (16 if several > 1 else 0) * len(arms) + 26 * len(arms)
    return panel.showing(layers, height, group.title)


def _colour(places: list[str]) -> alt.Color:
    colours = [GREY, *STRONG] if BARE in places else list(STRONG)
    colour = alt.Color("where:N", title=None).scale(domain=places, range=colours[: len(places)])
    if len(places) == 1:
        return colour.legend(None)
    return colour.legend(columns=4, symbolType="circle", symbolSize=90, symbolStrokeWidth=0)


def _layers(
    panel: Panel, results: Results, quantity: Quantity, rows: list[Row], shared: Row
) -> list[Layer]:
    """Bar, dot and number of what was measured; a hollow diamond for what was published."""
    measured = [row for row in rows if row["over"] != PUBLISHED]
    published = [row for row in rows if row["over"] == PUBLISHED]
    begin, end = _data(rows)
    width = end - begin
    scale = alt.Scale(domain=[begin - 0.04 * width, end + ROOM * width], nice=False, zero=False)
    axis = alt.Axis(values=round_ticks(begin, end))
    x, low = (
        alt.X(f"{name}:Q", title=quantity.title, scale=scale, axis=axis) for name in ("mean", "low")
    )
    at_the_right = alt.value("width")  # where no dot, no diamond and no line of the grid is
    hover = tooltips(results, quantity)
    base = panel.of(measured).encode(**shared, tooltip=hover)
    margin = panel.of([{"mean": end + GAP * width}]).mark_rect(
        fill="white", strokeWidth=0, aria=False
    )
    bars = base.mark_rule(strokeWidth=2, strokeOpacity=0.5)
    numbers = base.mark_text(align="right", fontSize=11)
    layers: list[Layer] = [
        margin.encode(alt.X("mean:Q"), x2=alt.value("width")),
        bars.encode(low, alt.X2("high:Q")),
        base.mark_point(filled=True, size=54, opacity=1).encode(x),
        numbers.encode(alt.Text("short:N"), x=at_the_right, color=alt.value(GREY)),
    ]
    if published:
        diamonds = panel.of(published).mark_point(shape="diamond", size=60, fill="white")
        layers.append(diamonds.encode(x, **shared, tooltip=hover))
    return layers


def _data(rows: list[Row]) -> tuple[float, float]:
    """Return from where to where dots, diamonds and intervals reach."""
    low = min(row["mean"] if row["low"] is None else row["low"] for row in rows)
    high = max(row["end"] for row in rows)
    return low, max(high, low + 0.2)


def round_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten that lie within two numbers.

    Examples
    --------
    >>> round_ticks(8.3, 97.0, 5), round_ticks(0.497, 0.561, 5)
    ([20.0, 40.0, 60.0, 80.0], [0.5, 0.52, 0.54, 0.56])
    """
    power = floor(log10((high - low) / most))
    steps = (digit * 10.0 ** (power + more) for more in range(3) for digit in (1, 2, 5))
    step = next(step for step in steps if floor(high / step) - ceil(low / step) < most)
    return [round(n * step, 12) for n in range(ceil(low / step), floor(high / step) + 1)]

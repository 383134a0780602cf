"""A quantity arm by arm, for studies whose axis has too few levels for a line."""

from collections import Counter
from math import ceil, floor, log10

import altair as alt

from gossamer.report.charts import GREY, INK, STRONG, Layer, Panel, Row
from gossamer.report.lines import Intervals, Quantity, point, tooltips
from gossamer.report.results import Results
from gossamer.report.series import (
    PUBLISHED,
    Group,
    Looks,
    along_axis,
    axis_levels,
)
from gossamer.report.units import spread
from gossamer.stats.intervals import Interval

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

"""A quantity arm by arm, for studies whose axis has too few levels for a line."""

from collections import Counter

import altair as alt

from gossamer.formats import spread
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
from gossamer.stats.intervals import Interval

BARE = "not pruned"
"""Place of an arm that has no level."""
ROOM = 0.3
"""Share of the panel kept free on the right, for the numbers."""


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
    scale = alt.Scale(domain=_domain(rows), nice=False, zero=False)
    most = quantity.scale * quantity.highest
    axis = alt.Axis(tickCount=8, labelExpr=f"datum.value <= {most:g} ? datum.label : ''")
    x, low = (
        alt.X(f"{name}:Q", title=quantity.title, scale=scale, axis=axis) for name in ("mean", "low")
    )
    at_the_right = alt.value("width")  # where no dot and no diamond is
    hover = tooltips(results, quantity)
    base = panel.of(measured).encode(**shared, tooltip=hover)
    bars = base.mark_rule(strokeWidth=2, strokeOpacity=0.5)
    numbers = base.mark_text(align="right", fontSize=11)
    layers: list[Layer] = [
        bars.encode(low, alt.X2("high:Q")),
        base.mark_point(filled=True, size=54, opacity=1).encode(x),
        numbers.encode(alt.Text("short:N"), x=at_the_right, color=alt.value(GREY)),
    ]
    if published:
        diamonds = panel.of(published).mark_point(shape="diamond", size=60, fill="white")
        layers.append(diamonds.encode(x, **shared, tooltip=hover))
    return layers


def _domain(rows: list[Row]) -> list[float]:
    """Return the ends of the horizontal axis, with room for the numbers on its right."""
    lows = [row["mean"] if row["low"] is None else row["low"] for row in rows]
    low, high = min(lows), max(row["end"] for row in rows)
    width = max(high - low, 0.2)
    return [low - 0.04 * width, high + ROOM * width]

"""How many times faster pruned networks predict, against the axis of the study."""

import math
from collections.abc import Sequence

import altair as alt

from gossamer.report.accuracy_figures import over
from gossamer.report.charts import INK, QUIET, Figure, Layer, Panel, Row
from gossamer.report.latencies import (
    RATIO,
    RATIO_MASKED,
    speed_up,
    timed_arms,
    timed_levels,
    times,
)
from gossamer.report.lines import Quantity, marks, point, tooltips
from gossamer.report.results import Results
from gossamer.report.series import Group, Ink, Series, all_series, groups, ink

SPEED_UP = Quantity("times faster", "Times faster (log scale)", 1, 2, "×", 0, math.inf)
ZEROS_KEPT = (6, 4)
_MARGIN = 1.15
_TICKS = tuple(digit * 10**power for power in range(-3, 4) for digit in (1, 2, 5))


def latency_figure(results: Results) -> Figure | None:
    """Speed-up of every timed arm, compressed and with its zeros kept; None if none was timed."""
    found = [(group, speed_rows(results, group)) for group in groups(results)]
    panels = [_panel(results, group, rows) for group, rows in found if rows]
    if not panels:
        return None
    mean = over(results) if results.one_seed else f"geometric {over(results)}"
    return Figure(
        "latency",
        "How many times faster pruned networks predict",
        "How many times faster pruned networks predict than the unpruned one timed beside them, on "
        f"a log axis; {mean}. Solid: compressed, against the unpruned network in its fastest way. "
        "Dashed: zeros kept, in PyTorch, against the unpruned network in PyTorch. "
        "Below the line at 1× a network is slower.",
        tuple(panels),
        columns=1,
    )


def speed_rows(results: Results, group: Group) -> list[Row]:
    """One row an arm, level and way to run it."""
    names = {arm.name for arm in group.arms}
    rows = []
    for arm in timed_arms(results):
        if arm.name in names:
            for ratio, look in _looks(results, group, arm.name).items():
                rows += [
                    point(results, SPEED_UP, look, level, gain) | {"reading": times(gain)}
                    for level in timed_levels(results, arm.name)
                    if (gain := speed_up(results, arm.name, level, ratio))
                ]
    return rows


def _looks(results: Results, group: Group, arm: str) -> dict[str, Series]:
    look = all_series(results, group)[arm, False]
    kept = Series(f"{look.label}, zeros kept", look.colour, ZEROS_KEPT)
    return {RATIO: look, RATIO_MASKED: kept}


def _panel(results: Results, group: Group, rows: Sequence[Row]) -> Panel:
    panel = Panel(f"latency-{group.title}" if group.title else "latency")
    present = {row["series"] for row in rows}
    names = [arm.name for arm in timed_arms(results) if arm in group.arms]
    looks = [look for name in names for look in _looks(results, group, name).values()]
    style = ink(look for look in looks if look.label in present)
    low, high = _ends(rows)
    x = alt.X("level:Q", title=results.axis_title).scale(nice=False, zero=True, padding=14)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    y = (
        alt.Y("mean:Q", title=SPEED_UP.title)
        .scale(type="log", domain=[low, high], nice=False, clamp=True)
        .axis(values=ticks, labelExpr="format(datum.value, '~g') + '×'", tickColor=QUIET)
    )
    hover = tooltips(results, SPEED_UP)
    layers: list[Layer] = [
        panel.of([{"mean": 1.0}]).mark_rule(stroke=INK, strokeWidth=1.2).encode(y),
        *_lines(panel, list(rows), x.axis(tickCount=10), y, style),
        *marks(panel, list(rows), x, y, style, hover),
    ]
    return panel.showing(style.pickable(layers), 360, group.title)


def _ends(rows: Sequence[Row]) -> tuple[float, float]:
    """Return ends of the axis that hold every interval, and the line at 1."""
    low = min(1.0, *(row["mean"] if row["low"] is None else row["low"] for row in rows))
    high = max(1.0, *(row["mean"] if row["high"] is None else row["high"] for row in rows))
    return low / _MARGIN, high * _MARGIN


def _lines(panel: Panel, rows: list[Row], x: alt.X, y: alt.Y, style: Ink) -> list[Layer]:
    """Draw the lines, with bars for intervals: lines that meet would hide each other's bands."""
    lines = panel.of(rows).mark_line(strokeWidth=2, strokeCap="butt")
    layers: list[Layer] = [
        lines.encode(x, y, style.colour, style.dash, alt.Order("level:Q"), opacity=style.fade)
    ]
    known = [row for row in rows if row["low"] is not None]
    if known:
        bars = panel.of(known).mark_rule(strokeWidth=1.5, strokeOpacity=0.65)
        low, high = alt.Y("low:Q"), alt.Y2("high:Q")
        layers.append(bars.encode(x, low, high, style.colour, opacity=style.fade))
    return layers

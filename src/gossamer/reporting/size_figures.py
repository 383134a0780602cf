"""Accuracy along the axis of a study, and against the size of its networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from gossamer.core.formats import compact
from gossamer.reporting.charts import INK, Figure, Layer, Panel, Row
from gossamer.reporting.lines import (
    Intervals,
    Quantity,
    dot_panel,
    dot_rows,
    level_rows,
    line_panel,
    marks,
    point,
    tooltips,
)
from gossamer.reporting.results import ACCURACY, Results
from gossamer.reporting.series import (
    PUBLISHED,
    Group,
    Ink,
    all_series,
    by_arm,
    groups,
    ink,
)
from gossamer.reporting.summaries import comparisons, reaching
from gossamer.stats.intervals import Interval

TEST_ACCURACY = Quantity("test accuracy", "Test accuracy (%)")


def measured(results: Results, group: Group, measure: str = ACCURACY) -> Intervals:
    """Return the mean of a measure by arm and level, for the arms of a panel."""
    found = {
        (arm.name, level): results.interval(arm.name, level, measure)
        for arm in group.arms
        for level in results.levels(arm.name)
    }
    return {cell: interval for cell, interval in found.items() if interval is not None}


def published(results: Results, group: Group, measure: str = ACCURACY) -> Intervals:
    """Return the published numbers of a measure by arm and level, for the arms of a panel."""
    names = {arm.name for arm in group.arms}
    return {
        (one.arm, one.level): Interval(one.published, None, None, 1)
        for one in comparisons(results)
        if one.measure == measure and one.arm in names
    }


def accuracy_rows(results: Results, group: Group) -> tuple[list[Row], list[Row]]:
    """Points of the arms along the axis and their published figures; arms drawn across it."""
    looks = all_series(results, group)
    along, across = level_rows(results, TEST_ACCURACY, looks, measured(results, group))
    along += [
        point(results, TEST_ACCURACY, looks[arm, True], level, value) | {"over": PUBLISHED}
        for (arm, level), value in published(results, group).items()
        if (arm, True) in looks
    ]
    return along, across


def accuracy_figure(results: Results) -> Figure | None:
    """Accuracy of every arm, and what was published: over the axis, or arm by arm."""
    panels = [
        one for group in groups(results) if (one := _accuracy_panel(results, group)) is not None
    ]
    if not panels:
        return None
    arms = by_arm(results)
    title = f"Test accuracy {'of each arm' if arms else f'against {results.axis}'}"
    words = [f"{title}, {over(results)}."]
    if any(row.get("over") == PUBLISHED for panel in panels for row in panel.all_rows):
        words.append(f"Hollow {'diamonds' if arms else 'points on dashed lines'}: published.")
    if not arms:
        words.append("Click an entry of the legend to single it out, again to release it.")
    return Figure("accuracy", title, " ".join(words), tuple(panels), columns=1)


def _accuracy_panel(results: Results, group: Group) -> Panel | None:
    known = measured(results, group)
    if not known:
        return None
    panel = Panel(f"accuracy-{group.title}" if group.title else "accuracy")
    if by_arm(results):
        looks, shown = all_series(results, group), published(results, group)
        rows = dot_rows(results, TEST_ACCURACY, looks, known, shown)
        return dot_panel(panel, results, group, TEST_ACCURACY, rows)
    return line_panel(panel, results, group, TEST_ACCURACY, accuracy_rows(results, group))


def over(results: Results) -> str:
    """Return what the numbers of a figure rest on, for its caption."""
    return f"{results.basis}, {'without' if results.one_seed else 'with 95%'} intervals"


VISIBLE = 0.02
"""Share of the weights below which a difference cannot be seen in a figure."""


@dataclass(frozen=True)
class Network:
    """The networks of one arm at one level: how large, how good."""

    arm: str
    level: float
    size: float
    accuracy: Interval


def networks(results: Results, group: Group, *, effective: bool = False) -> tuple[Network, ...]:
    """Return every arm at each of its own levels, by non-zero parameters.

    With effective, by the weights that still reach the output instead.
    """
    found = []
    sizes = measured(results, group, "nonzero_parameters")
    for (arm, level), accuracy in measured(results, group).items():
        if level not in results.own_levels(arm):
            continue
        size = sizes.get((arm, level))
        count = reaching(results, arm, level) if effective else size.mean if size else None
        if count is not None and count > 0:
            found.append(Network(arm, level, count, accuracy))
    return tuple(found)


def front(found: Sequence[Network]) -> tuple[Network, ...]:
    """Return the Pareto front: no other network is as small and as accurate, and better in one.

    Smallest first. Of several with the same size and accuracy the first stays.

    Examples
    --------
    >>> one = lambda size, accuracy: Network("a", 0.0, size, Interval(accuracy, None, None, 1))
    >>> [n.size for n in front([one(10, 0.9), one(20, 0.8), one(30, 0.95), one(30, 0.9)])]
    [10, 30]
    """
    kept: list[Network] = []
    for network in sorted(found, key=lambda one: (one.size, -one.accuracy.mean)):
        if not kept or network.accuracy.mean > kept[-1].accuracy.mean:
            kept.append(network)
    return tuple(kept)


def size_figure(results: Results) -> Figure | None:
    """Test accuracy against non-zero parameters, the front marked."""
    panels = []
    for group in groups(results):
        found = networks(results, group)
        if _differ_in_size(results, found):
            panels.append(_panel(results, group, found, "Non-zero parameters", best=front(found)))
    if not panels:
        return None
    return Figure(
        "size",
        "Test accuracy against non-zero parameters",
        "Test accuracy against the parameters that are not zero, smaller networks to the right; "
        f"{over(results)}. Ringed and joined by the thin line: the Pareto front of the means, "
        "networks that no other one here beats in size without losing accuracy.",
        tuple(panels),
        columns=1 if by_arm(results) else 2,
    )


ALIKE = 1.25
"""Sizes that differ by less than this factor stand on top of each other in a figure."""


def _differ_in_size(results: Results, found: Sequence[Network]) -> bool:
    """Whether the pruned networks do: at one size, the figure of accuracy shows all there is."""
    sizes = [one.size for one in found if _drawn(results, one)]
    return bool(sizes) and max(sizes) > ALIKE * min(sizes)


def effective_figure(results: Results) -> Figure | None:
    """Accuracy against the weights that can still change the output."""
    panels = []
    for group in groups(results):
        found = [one for one in networks(results, group, effective=True) if _drawn(results, one)]
        if any(_is_cut_off(results, one) for one in found):
            title = "Weights that still reach the output"
            panels.append(_panel(results, group, found, title, effective=True))
    if not panels or by_arm(results):
        return None
    return Figure(
        "effective",
        "Test accuracy at equal effective size",
        "The same networks at equal effective size: weights that lie on no path from the input "
        "to the output are not counted, so what pruning cut off beside what it zeroed is gone "
        f"too. Sparser to the right; {over(results)}.",
        tuple(panels),
    )


def _drawn(results: Results, network: Network) -> bool:
    return results.baseline is None or network.arm != results.baseline.name


def _is_cut_off(results: Results, network: Network) -> bool:
    """Whether pruning cut off weights that it did not zero, so many that a figure shows it."""
    layers = [record.layers for record in results.found(network.arm, network.level).values()]
    left = sum(layer.nonzero for some in layers for layer in some) / len(layers)
    return network.size < (1 - VISIBLE) * left


def size_rows(results: Results, group: Group, found: Sequence[Network]) -> list[Row]:
    """One row a network, with its size."""
    looks = all_series(results, group)
    return [
        point(results, TEST_ACCURACY, looks[one.arm, False], one.level, one.accuracy)
        | {"size": one.size, "count": compact(one.size)}
        for one in found
    ]


def _panel(
    results: Results,
    group: Group,
    found: Sequence[Network],
    title: str,
    *,
    best: Sequence[Network] = (),
    effective: bool = False,
) -> Panel:
    rows = size_rows(results, group, found)
    x = (
        alt.X("size:Q", title=f"{title} (log scale)")
        .scale(type="log", reverse=True, nice=False, padding=14)
        .axis(format="~s", values=log_ticks([row["size"] for row in rows]))
    )
    y = alt.Y("mean:Q", title=TEST_ACCURACY.title).scale(zero=False, nice=True)
    labels = {row["series"] for row in rows}
    style = ink(s for s in all_series(results, group).values() if s.label in labels)
    hover = [*tooltips(results, TEST_ACCURACY), alt.Tooltip("count:N", title=title.lower())]
    name = f"{'effective' if effective else 'size'}-{group.title}"
    panel = Panel(name)
    layers = [
        *_front(panel, size_rows(results, group, best), x, y),
        *_lines(panel, rows, x, y, style),
        *marks(panel, rows, x, y, style, hover),
    ]
    return panel.showing(style.pickable(layers), 260 if by_arm(results) else 380, group.title)


def _lines(panel: Panel, rows: list[Row], x: alt.X, y: alt.Y, style: Ink) -> list[Layer]:
    """Draw a line for each arm, where it has several levels, and bars for the intervals."""
    width = alt.when("datum.main").then(alt.value(2.2)).otherwise(alt.value(1.3))
    lines = panel.of(rows).mark_line()
    order = alt.Order("level:Q")
    layers: list[Layer] = [
        lines.encode(x, y, style.colour, style.dash, order, strokeWidth=width, opacity=style.fade)
    ]
    known = [row for row in rows if row["low"] is not None]
    if known:
        bars = panel.of(known).mark_rule(strokeWidth=1.3, strokeOpacity=0.6)
        low, high = alt.Y("low:Q"), alt.Y2("high:Q")
        layers.append(bars.encode(x, low, high, style.colour, opacity=style.fade))
    return layers


def _front(panel: Panel, rows: list[Row], x: alt.X, y: alt.Y) -> list[Layer]:
    """Draw the front as a thin line through rings."""
    if not rows:
        return []
    line = panel.of(rows).mark_line(stroke=INK, strokeWidth=0.8, strokeOpacity=0.7)
    rings = panel.of(rows).mark_point(size=150, stroke=INK, strokeWidth=0.9, filled=False)
    return [line.encode(x, y, alt.Order("size:Q")), rings.encode(x, y)]


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

"""How much the masks of two arms have in common."""

from collections.abc import Mapping
from dataclasses import dataclass

import altair as alt

from gossamer.core.formats import inside, percent
from gossamer.records.joint import JointRecord
from gossamer.records.record import Layer, TrialLabel
from gossamer.report.charts import GREY, INK, STRONG, Figure, Panel, Row
from gossamer.report.charts import Layer as Drawing
from gossamer.report.results import Results
from gossamer.report.series import axis_levels, short_label, titled_label
from gossamer.report.units import spread
from gossamer.stats.intervals import Interval, mean_interval

OVERLAP = "mask_overlap"
CHANCE = "mask_overlap_by_chance"
WHOLE = "all layers"


@dataclass(frozen=True)
class Overlap:
    """What two masks share of one layer, or of all: intersection over union of kept weights."""

    layer: str
    measured: Interval
    chance: float | None
    """Expected of two masks with these counts and random positions."""


@dataclass(frozen=True)
class Pair:
    """Two arms whose masks are compared, at one level."""

    first: str
    second: str
    level: float
    layers: tuple[Overlap, ...]
    """All layers together first."""


def overlaps(results: Results) -> tuple[Pair, ...]:
    """Return every comparison of masks that was made."""
    trials = {trial.key: trial for trial in reversed(results.study.trials)}
    found = []
    for joint in results.joints:
        known = [key for key in (*joint.records, *joint.others) if key in trials]
        if joint.kind == "overlap" and len(known) == len(joint.records) + len(joint.others):
            found.append(_pair(results, joint, trials))
    return tuple(found)


def _pair(results: Results, joint: JointRecord, trials: Mapping[str, TrialLabel]) -> Pair:
    first, second = trials[joint.records[0]], trials[joint.others[0]]
    names = [n for n in joint.measures[first.key] if n.split(":")[0] == OVERLAP]
    chances = _chances(results, joint)
    layers = []
    for name in names:
        values = {trials[key].seed: joint.measures[key][name] for key in joint.records}
        units = results.units(values)
        layer = name.partition(":")[2] or WHOLE
        if units:
            layers.append(Overlap(layer, mean_interval(units), chances.get(layer)))
    layers.sort(key=lambda one: one.layer != WHOLE)
    return Pair(first.arm, second.arm, first.level, tuple(layers))


def _chances(results: Results, joint: JointRecord) -> dict[str, float]:
    """Return what chance gives all layers, as measured, and each layer, from its counts."""
    whole = [one[CHANCE] for one in joint.measures.values() if CHANCE in one]
    found = {WHOLE: sum(whole) / len(whole)} if whole else {}
    ours, theirs = (results.records.get(keys[0]) for keys in (joint.records, joint.others))
    if ours is None or theirs is None:
        return found
    others = {layer.name: layer for layer in theirs.layers}
    return found | {
        layer.name: chance_overlap(layer, others[layer.name])
        for layer in ours.layers
        if layer.name in others
    }


def chance_overlap(first: Layer, second: Layer) -> float:
    """Return the overlap of two masks of these counts, expected if positions are random.

    With densities p and q they share pq of the weights and together keep p + q - pq.
    """
    p, q = first.nonzero / first.weights, second.nonzero / second.weights
    return p * q / (p + q - p * q) if p or q else 0.0


def overlap_figure(results: Results) -> Figure | None:
    """Overlap of masks by layer, beside what chance gives."""
    found = overlaps(results)
    if not found:
        return None
    spreads = "" if results.one_seed else " with 95% intervals"
    return Figure(
        "overlap",
        "What two masks have in common",
        "Share of the weights kept by either mask that both keep (Jaccard index), "
        f"{results.basis}{spreads}. Hollow diamonds: what two masks with as many weights in each "
        "layer at random positions would share.",
        tuple(_panel(results, pair, Panel(f"overlap-{i}")) for i, pair in enumerate(found)),
    )


def _panel(results: Results, pair: Pair, panel: Panel) -> Panel:
    rows = [_row(one) for one in pair.layers]
    title = f"{titled_label(results, pair.first)} and {inside(short_label(results, pair.second))}"
    several = len(axis_levels(results)) > 1
    place = f", {results.place(pair.level)}" if pair.level and several else ""
    order = [row["layer"] for row in rows]
    y = alt.Y("layer:N", sort=order, title=None).axis(labelColor=INK, ticks=False, domain=False)
    x = alt.X("mean:Q", title="Overlap (%)").scale(zero=True, nice=True)
    tooltip = [
        alt.Tooltip("layer:N", title=" "),
        alt.Tooltip("reading:N", title="overlap"),
        alt.Tooltip("by_chance:N", title="by chance"),
    ]
    base = panel.of(rows).encode(y, tooltip=tooltip)
    known = [row for row in rows if row["chance"] is not None]
    layers: list[Drawing] = [
        base.mark_rule(strokeWidth=2, stroke=STRONG[0], strokeOpacity=0.5).encode(
            alt.X("low:Q"), alt.X2("high:Q")
        ),
        base.mark_point(filled=True, size=54, opacity=1, color=STRONG[0]).encode(x),
    ]
    if known:
        diamonds = panel.of(known).mark_point(shape="diamond", size=60, fill="white", stroke=GREY)
        layers.append(diamonds.encode(y, alt.X("chance:Q"), tooltip=tooltip))
    return panel.showing(layers, 26 * len(rows), f"{title}{place}")


def _row(one: Overlap) -> Row:
    known = one.measured.low is not None and one.measured.high is not None
    return {
        "layer": one.layer.removesuffix(".weight"),
        "mean": 100 * one.measured.mean,
        "low": 100 * max(0.0, one.measured.low or 0.0) if known else None,
        "high": 100 * min(1.0, one.measured.high or 0.0) if known else None,
        "reading": f"{spread(one.measured)}%",
        "chance": None if one.chance is None else 100 * one.chance,
        "by_chance": "unknown" if one.chance is None else f"{percent(one.chance)}%",
    }

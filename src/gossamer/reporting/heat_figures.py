"""Results taken apart: sparsity layer by layer, accuracy class by class, masks that overlap."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import altair as alt

from gossamer.core.formats import decimal, inside, percent, sentence
from gossamer.records.joint import JointRecord
from gossamer.records.record import Arm, Layer, Record, TrialLabel
from gossamer.reporting.charts import GREY, INK, SHADES, STRONG, Figure, Panel, Row
from gossamer.reporting.charts import Layer as Drawing
from gossamer.reporting.glossary import spread
from gossamer.reporting.results import Results
from gossamer.reporting.series import (
    along_axis,
    axis_levels,
    by_arm,
    groups,
    short_label,
    titled_label,
)
from gossamer.stats.intervals import Interval, mean_interval


@dataclass(frozen=True)
class LayerSparsity:
    """Zeros of one layer, mean over the seeds, as fractions; effective is None if unknown."""

    arm: str
    level: float
    layer: str
    prunable: bool
    masked: float
    effective: float | None


def layer_sparsities(results: Results) -> tuple[LayerSparsity, ...]:
    """Sparsity of each layer at each level of every arm."""
    return tuple(
        row
        for arm in results.study.arms
        for level in results.levels(arm.name)
        for row in _layers_of(arm.name, level, list(results.found(arm.name, level).values()))
    )


def _layers_of(arm: str, level: float, records: list[Record]) -> list[LayerSparsity]:
    layers: dict[str, list[Layer]] = {}
    for record in records:
        for layer in record.layers:
            layers.setdefault(layer.name, []).append(layer)
    return [
        LayerSparsity(
            arm=arm,
            level=level,
            layer=name,
            prunable=all(one.prunable for one in same),
            masked=fmean(1 - one.nonzero / one.weights for one in same),
            effective=_effective(same),
        )
        for name, same in layers.items()
    ]


def _effective(layers: Sequence[Layer]) -> float | None:
    known = [1 - one.effective / one.weights for one in layers if one.effective is not None]
    return fmean(known) if known else None


@dataclass(frozen=True)
class ClassAccuracy:
    """Test accuracy of one class, mean over the seeds, as a fraction."""

    arm: str
    level: float
    class_index: int
    accuracy: float


def class_accuracies(results: Results) -> tuple[ClassAccuracy, ...]:
    """Test accuracy of each class at each level of the unpruned network and the main arms."""
    rows = []
    for arm in (*results.arms("baseline"), *results.arms("main")):
        for level in results.levels(arm.name):
            found = results.found(arm.name, level).values()
            columns = [record.per_class["test"] for record in found if "test" in record.per_class]
            means = [fmean(one) for one in zip(*columns, strict=True)]
            rows += [ClassAccuracy(arm.name, level, i, mean) for i, mean in enumerate(means)]
    return tuple(rows)


VISIBLE = 0.005
"""Differences of densities below this are lost in rounding."""
LIGHT = 62
"""Above this, in percent, white is easier to read on the shade of a cell than ink."""


def _heat(panel: Panel, rows: list[Row], title: str, axes: tuple[str, str]) -> Panel:
    """Heat map with the number in each cell; axes are named across and down."""
    across, down = axes
    base = panel.of(rows).encode(
        alt.X("place:N", sort=None, title=across).axis(labelAngle=0, ticks=False, domain=False),
        alt.Y("row:N", sort=None, title=down).axis(ticks=False, domain=False, labelLimit=420),
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1.5).encode(
        alt.Color("value:Q", legend=None).scale(domain=[0, 20, 40, 60, 80, 100], range=SHADES),
        tooltip=[
            alt.Tooltip("row:N", title=down.lower()),
            alt.Tooltip("place:N", title=across),
            alt.Tooltip("reading:N", title="mean"),
        ],
    )
    light = alt.condition(f"datum.value > {LIGHT}", alt.value("white"), alt.value(INK))
    text = base.mark_text(fontSize=10.5).encode(alt.Text("text:N"), color=light)
    height = 24 * len({row["row"] for row in rows}) + 4
    return panel.showing((cells, text), height, title)


def _cell(place: str, row: str, value: float) -> Row:
    return {
        "place": place,
        "row": row,
        "value": round(100 * value, 4),
        "text": _short(value),
        "reading": f"{percent(value)}%",
    }


def _short(value: float) -> str:
    """Return a share in percent in as few digits as tell it from none and from all.

    Examples
    --------
    >>> _short(0.5), _short(0.025), _short(0.9999), _short(0.0)
    ('50', '2.5', '>99.9', '0')
    """
    text = decimal(100 * value, 0)
    if value in (0.0, 1.0):
        return text
    return percent(value, 1) if value < 0.095 or text == "100" else text


def layer_figure(results: Results) -> Figure | None:
    """Density of each layer: by level, or arm by arm where there are few levels."""
    rows = layer_sparsities(results)
    panels = _arm_panels(results, rows) if by_arm(results) else _level_panels(results, rows)
    if not panels:
        return None
    kept = any(not row.prunable for row in rows)
    cut = any(panel.name.endswith("effective") for panel in panels)
    return Figure(
        "layers",
        "Density of each layer (%)",
        f"Share of each layer's weights that are not zero, in percent, {results.basis}."
        + (" Effective: those that also lie on a path from input to output." if cut else "")
        + (" Layers marked * are kept out of pruning." if kept else ""),
        tuple(panels),
        columns=1 if by_arm(results) else 2,
    )


def _level_panels(results: Results, rows: Sequence[LayerSparsity]) -> list[Panel]:
    """Return layers against levels for each main arm; effective only where that differs."""
    panels = []
    for arm in results.arms("main"):
        here = [row for row in rows if row.arm == arm.name]
        if here:
            panels.append(_level_panel(results, arm, here, effective=False))
        if any(row.effective is not None and row.effective - row.masked > VISIBLE for row in here):
            panels.append(_level_panel(results, arm, here, effective=True))
    return panels


def _level_panel(
    results: Results, arm: Arm, rows: Sequence[LayerSparsity], *, effective: bool
) -> Panel:
    kept = {row.layer for row in rows if not row.prunable}
    cells = [
        _cell(f"{results.position(row.level):g}", _layer_name(row.layer, kept), 1 - value)
        for row in rows
        if (value := row.effective if effective else row.masked) is not None
    ]
    kind = "effective" if effective else "not zero"
    panel = Panel(f"layers-{arm.name}-{kind}")
    return _heat(panel, cells, f"{sentence(arm.label)}: {kind}", (results.axis_title, "Layer"))


def _arm_panels(results: Results, rows: Sequence[LayerSparsity]) -> list[Panel]:
    """Arms against layers, for each group of arms and each level."""
    panels: list[Panel] = []
    for group in groups(results):
        labels = {arm.name: group.label(arm) for arm in group.arms}
        places = {
            row.level: results.place(row.level) if row.level else ""
            for row in rows
            if row.arm in labels and row.level
        }
        for level, place in sorted(places.items()) or [(0.0, "")]:
            here = [
                row
                for row in rows
                if row.arm in labels and row.level == _shown_level(results, row.arm, level)
            ]
            kept = {row.layer for row in here if not row.prunable}
            cells = [
                _cell(_layer_name(row.layer, kept), labels[row.arm], 1 - row.masked) for row in here
            ]
            title = ", ".join(filter(None, (group.title, place)))
            if cells:
                panel = Panel(f"layers-{len(panels)}")
                panels.append(_heat(panel, cells, title, ("Layer", "Arm")))
    return panels


def _shown_level(results: Results, arm: str, level: float) -> float | None:
    """Return the level of an arm in a panel of one level: 0 if it lies nowhere on the axis."""
    if along_axis(results, arm):
        return level
    return 0.0 if results.own_levels(arm) else None


def _layer_name(layer: str, kept: Collection[str]) -> str:
    """Return a layer's name, marked if any network of the panel keeps it out of pruning."""
    return layer.removesuffix(".weight") + (" *" if layer in kept else "")


def class_figure(results: Results) -> Figure | None:
    """Accuracy of each class: by level, or arm by arm where there are few levels."""
    rows = class_accuracies(results)
    panels = _classes_by_arm(results, rows) if by_arm(results) else _classes_by_level(results, rows)
    if not panels:
        return None
    return Figure(
        "classes",
        "Test accuracy of each class (%)",
        f"Test accuracy of each class in percent, {results.basis}.",
        tuple(panels),
        columns=1 if by_arm(results) else 2,
    )


def _classes_by_level(results: Results, rows: Sequence[ClassAccuracy]) -> list[Panel]:
    panels = []
    for arm in results.arms("main"):
        cells = [
            _cell(f"{results.position(row.level):g}", str(row.class_index), row.accuracy)
            for row in rows
            if row.arm == arm.name
        ]
        if cells:
            panel, title = Panel(f"classes-{arm.name}"), sentence(arm.label)
            panels.append(_heat(panel, cells, title, (results.axis_title, "Class")))
    return panels


def _classes_by_arm(results: Results, rows: Sequence[ClassAccuracy]) -> list[Panel]:
    panels: list[Panel] = []
    for group in groups(results):
        labels = {arm.name: group.label(arm) for arm in group.arms}
        cells = [
            _cell(
                str(row.class_index),
                f"{labels[row.arm]}{f', {results.place(row.level)}' if row.level else ''}",
                row.accuracy,
            )
            for row in rows
            if row.arm in labels and row.level in results.own_levels(row.arm)
        ]
        if cells:
            panel = Panel(f"classes-{len(panels)}")
            panels.append(_heat(panel, cells, group.title, ("Class", "Arm")))
    return panels


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

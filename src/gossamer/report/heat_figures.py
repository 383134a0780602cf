"""Heat maps: density of each layer, accuracy of each class."""

from collections.abc import Collection, Sequence

import altair as alt

from gossamer.core.formats import decimal, percent, sentence
from gossamer.records.record import Arm
from gossamer.report.breakdowns import (
    ClassAccuracy,
    LayerSparsity,
    class_accuracies,
    layer_sparsities,
)
from gossamer.report.charts import INK, SHADES, Figure, Panel, Row
from gossamer.report.results import Results
from gossamer.report.series import along_axis, by_arm, groups

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

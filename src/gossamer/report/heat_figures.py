"""Heat maps: sparsity of each layer, accuracy of each class."""

import altair as alt

from gossamer.formats import decimal, percent, sentence
from gossamer.records.record import Arm
from gossamer.report.aggregate import (
    LayerSparsity,
    Results,
    class_accuracies,
    layer_sparsities,
)
from gossamer.report.charts import INK, SHADES, Figure, Panel, Row


def _heat(panel: Panel, rows: list[Row], title: str, x: str, y: str, height: int) -> Panel:
    """Heat map with the number in each cell."""
    base = panel.of(rows).encode(
        alt.X("place:N", sort=None, title=x).axis(labelAngle=0, ticks=False, domain=False),
        alt.Y("row:N", sort=None, title=y).axis(ticks=False, domain=False, labelLimit=140),
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1.5).encode(
        alt.Color("value:Q", legend=None).scale(domain=[0, 20, 40, 60, 80, 100], range=SHADES),
        tooltip=[
            alt.Tooltip("row:N", title=y.lower()),
            alt.Tooltip("place:N", title=x),
            alt.Tooltip("reading:N", title="mean"),
        ],
    )
    light = alt.condition("datum.value > 55", alt.value("white"), alt.value(INK))
    text = base.mark_text(fontSize=10.5).encode(alt.Text("text:N"), color=light)
    return panel.showing((cells, text), height, title)


def _cell(results: Results, level: float, row: str, value: float) -> Row:
    rounded = decimal(100 * value, 0)
    near = rounded in {"0", "100"} and value not in (0.0, 1.0)
    return {
        "place": f"{results.position(level):g}",
        "row": row,
        "value": round(100 * value, 4),
        "text": percent(value, 1).lstrip("<>") if near else rounded,
        "reading": f"{percent(value)}%",
    }


def layer_figure(results: Results) -> Figure | None:
    """Sparsity of each layer by level, as masked and as effective."""
    rows = layer_sparsities(results)
    panels = [
        _layer_panel(results, arm, [row for row in rows if row.arm == arm.name], effective)
        for arm in results.arms("main")
        for effective in (False, True)
        if any(row.arm == arm.name and not (effective and row.effective is None) for row in rows)
    ]
    if not panels:
        return None
    kept = any(not row.prunable for row in rows)
    unknown = all(row.effective is None for row in rows)
    cut = "" if unknown else "; effective: also those that lie on no path from input to output"
    return Figure(
        "layers",
        "Sparsity of each layer",
        f"Sparsity of each layer in percent, {results.basis}. Masked: the weights that are "
        f"zero{cut}." + (" Layers marked * are kept out of pruning." if kept else ""),
        tuple(panels),
    )


def _layer_panel(results: Results, arm: Arm, rows: list[LayerSparsity], effective: bool) -> Panel:
    kept = {row.layer for row in rows if not row.prunable}
    cells = [
        _cell(
            results,
            row.level,
            row.layer.removesuffix(".weight") + (" *" if row.layer in kept else ""),
            value,
        )
        for row in rows
        if (value := row.effective if effective else row.masked) is not None
    ]
    kind = "effective" if effective else "masked"
    height = 30 * len({row.layer for row in rows}) + 4
    panel = Panel(f"layers-{arm.name}-{kind}")
    return _heat(
        panel, cells, f"{sentence(arm.label)}: {kind}", results.axis_title, "Layer", height
    )


def class_figure(results: Results) -> Figure | None:
    """Accuracy of each class by level."""
    rows = class_accuracies(results)
    panels = []
    for arm in results.arms("main"):
        cells = [
            _cell(results, row.level, str(row.class_index), row.accuracy)
            for row in rows
            if row.arm == arm.name
        ]
        height = 24 * len({cell["row"] for cell in cells}) + 4
        if cells:
            panel, title = Panel(f"classes-{arm.name}"), sentence(arm.label)
            panels.append(_heat(panel, cells, title, results.axis_title, "Class", height))
    if not panels:
        return None
    return Figure(
        "classes",
        "Test accuracy of each class",
        f"Test accuracy of each class in percent, {results.basis}.",
        tuple(panels),
    )

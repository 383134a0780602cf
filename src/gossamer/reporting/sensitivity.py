"""Sensitivity as a figure and a table, and the files they are written to."""

import csv
import io
import json
from pathlib import Path

import altair as alt

from gossamer.core.formats import compact, decimal
from gossamer.records.sensitivity import LayerSensitivity, Level, Sensitivity
from gossamer.reporting.charts import INK, Figure, Panel, Row
from gossamer.reporting.files import write_whole
from gossamer.reporting.write import write_pictures

COLUMNS = (
    "layer", "weights", "asked", "sparsity", "drop", "drop_low", "drop_high", "loss_increase",
)  # fmt: skip
"""Of ``sensitivity.csv``."""
_SHADES = ["#fbf7f2", "#fae3d2", "#f3b48a", "#dc7a3c", "#a8450c", "#6b2a05"]
_WHITE_FROM = 0.6
"""Of the darkest shade, from where white is easier to read on it than ink."""


def write_sensitivity(found: Sensitivity, folder: Path) -> Path:
    """Write ``sensitivity.csv``, ``sensitivity.json`` and ``figures/sensitivity.*``.

    Returns
    -------
    Path
        The picture, ``folder/figures/sensitivity.png``.

    Raises
    ------
    UnwritableError
        If the folder cannot be written or its disk is full.
    """
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
    write_whole(folder / "sensitivity.json", text.encode())
    write_whole(folder / "sensitivity.csv", sensitivity_lines(found).encode())
    write_pictures(sensitivity_figure(found), subtitle(found), folder)
    return folder / "figures" / "sensitivity.png"


def sensitivity_lines(found: Sensitivity) -> str:
    """Return one line of CSV a layer and level."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for layer in found.layers:
        for one in layer.levels:
            writer.writerow(
                [" ".join(layer.names), layer.weights, one.asked, one.sparsity, one.drop, one.low,
                 one.high, one.loss]
            )  # fmt: skip
    return text.getvalue()


def subtitle(found: Sensitivity) -> str:
    """Say what was looked at: the network, its metric, and on how many examples."""
    value = f"{100 * found.before:.2f}%" if found.is_share else f"{found.before:.4g}"
    return f"{found.model}, {found.task} {value} on {found.examples:,} examples"


def amount(found: Sensitivity, value: float) -> str:
    """Return a drop as people read it: in points of a share, else as a number.

    A drop of nothing is 0, and what is better than before is below it.
    """
    if found.is_share:
        return decimal(100 * value, 1)
    return decimal(value, 2) if 0.01 <= abs(value) < 100 else f"{value:.1e}" if value else "0"


def unit(found: Sensitivity) -> str:
    """Return what drops are in."""
    return "points" if found.is_share else found.task


def sensitivity_figure(found: Sensitivity) -> Figure:
    """Return the heat map: layers down, sparsities across, how much is lost in each cell."""
    rows = [_cell(found, layer, one) for layer in found.layers for one in layer.levels]
    top = max((row["value"] for row in rows), default=0.0) or 1.0
    panel = Panel("sensitivity")
    base = panel.of(rows).encode(
        alt.X("place:N", sort=None, title="Sparsity of this layer alone (%)").axis(
            labelAngle=0, ticks=False, domain=False
        ),
        alt.Y("row:N", sort=None, title="Layer (weights)").axis(
            ticks=False, domain=False, labelLimit=420
        ),
    )
    colour = alt.Color("shade:Q", legend=None).scale(
        domain=[top * share for share in (0, 0.1, 0.25, 0.5, 0.75, 1)],
        range=_SHADES,
        interpolate="rgb",
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1.5).encode(
        colour,
        tooltip=[
            alt.Tooltip("names:N", title="weights"),
            alt.Tooltip("reached:N", title="sparsity"),
            alt.Tooltip("reading:N", title="drop"),
            alt.Tooltip("loss:N", title="loss grows by"),
        ],
    )
    light = alt.condition(f"datum.value > {_WHITE_FROM * top}", alt.value("white"), alt.value(INK))
    text = base.mark_text(fontSize=11).encode(alt.Text("text:N"), color=light)
    return Figure(
        "sensitivity",
        f"What pruning one layer alone costs ({unit(found)})",
        f"By how much {found.task} is worse, in {unit(found)}, where this layer alone is pruned "
        f"({found.pattern}) and nothing is trained, on {found.examples:,} validation examples. "
        "Below 0 it is better. Fine-tuning wins much of it back.",
        (panel.showing((cells, text), max(110, 24 * len(found.layers) + 4)),),
        columns=1,
    )


def _cell(found: Sensitivity, layer: LayerSensitivity, one: Level) -> Row:
    interval = f"[{amount(found, one.low)}, {amount(found, one.high)}]"
    return {
        "place": f"{100 * one.asked:g}",
        "row": f"{layer.label} ({compact(layer.weights)})",
        "names": ", ".join(layer.names),
        "value": one.drop,
        "shade": max(0.0, one.drop),
        "text": amount(found, one.drop),
        "reached": f"{100 * one.sparsity:.1f}%",
        "reading": f"{amount(found, one.drop)} {interval} {unit(found)}",
        "loss": decimal(one.loss, 3, signed=True),
    }

"""The figure of the training curves, dense and sparse together."""

from collections.abc import Mapping, Sequence

import altair as alt

from gossamer.records.record import Phase
from gossamer.report.charts import INK, MUTED, QUIET, STRONG, Figure, Layer, Panel, Row
from gossamer.report.curves import Chain, boundaries, chosen_chains, curve_points, histories
from gossamer.report.results import Results
from gossamer.report.series import Group, along_axis, axis_levels, by_arm, groups

MOST_BOUNDARIES = 4
"""With more ends of trainings than this, they are not marked."""
UNITS = {"accuracy": "Accuracy (%)", "loss": "Loss (nats)"}


def curve_figure(results: Results) -> Figure | None:
    """Accuracy and loss by epoch, over all trainings of each network one after the other."""
    panels: list[Panel] = []
    phases = results.phases
    for group in groups(results):
        shown = chosen_chains(results, phases, group.arms)
        rows = curve_rows(results, phases, group, shown)
        ends = boundaries(shown, phases)
        panels += [
            _curve_panel(Panel(f"curves-{len(panels)}-{quantity}"), group, some, quantity, ends)
            for quantity in UNITS
            if (some := [row for row in rows if row["quantity"] == quantity])
        ]
    if not panels:
        return None
    return Figure("curves", "Training curves", _caption(panels), tuple(panels))


def _caption(panels: Sequence[Panel]) -> str:
    rows = [row for panel in panels for row in panel.all_rows if "part" in row]
    words = "Training curves by epoch, mean over the seeds"
    if any(row["low"] < row["high"] for row in rows):
        words += "; bands run from the lowest to the highest seed"
    if len({row["part"] for row in rows}) > 1:
        words += ". Solid: validation, taken at the end of an epoch. Dashed: training, a mean over "
        words += (
            "the epoch while the weights change, with augmentation and dropout if there are any"
        )
    else:
        words += ", over the epoch while the weights change"
    if any("end" in row for panel in panels for row in panel.all_rows):
        words += ". Vertical lines: one training ends and the next begins"
    return f"{words}. The test set has no part in them."


def curve_rows(
    results: Results, phases: Mapping[str, Phase], group: Group, shown: Sequence[Chain]
) -> list[Row]:
    """One row a chain, quantity and epoch; what chains share is drawn with the first of them."""
    rows: list[Row] = []
    drawn: set[str] = set()
    for chain in shown:
        label = _label(results, group, chain, len(shown))
        for point in curve_points(histories(chain, phases, drawn)):
            scale = 100 if point.quantity == "accuracy" else 1
            rows.append(
                {
                    "series": label,
                    "part": point.part,
                    "quantity": point.quantity,
                    "epoch": point.epoch,
                    "mean": round(scale * point.mean, 5),
                    "low": round(scale * point.lowest, 5),
                    "high": round(scale * point.highest, 5),
                }
            )
        drawn |= {key for keys in chain.phases.values() for key in keys}
    return rows


def _label(results: Results, group: Group, chain: Chain, lines: int) -> str:
    arm = next(arm for arm in group.arms if arm.name == chain.arm)
    if lines == 1 and len(group.arms) > 1:
        return "All arms"
    if by_arm(results) and len(axis_levels(results)) == 1:
        return group.label(arm)
    place = f", {results.place(chain.level)}" if along_axis(results, chain.arm) else ""
    return f"{group.label(arm)}{place}"


def _curve_panel(
    panel: Panel, group: Group, rows: list[Row], quantity: str, ends: Sequence[int]
) -> Panel:
    """Lines over their bands; the ends of trainings as thin vertical lines."""
    colour = _colour(list(dict.fromkeys(row["series"] for row in rows)))
    parts = list(dict.fromkeys(row["part"] for row in rows))
    dashes = {"training": [4, 3] if len(parts) > 1 else [1, 0], "validation": [1, 0]}
    dash = alt.StrokeDash("part:N", title=None).scale(
        domain=parts, range=[dashes[part] for part in parts]
    )
    dash = dash.legend(None)
    x = alt.X("epoch:Q", title="Epoch").scale(zero=False, nice=False, padding=6)
    x = x.axis(format="d", tickMinStep=1, labelFlush=False)
    told = "; solid: validation, dashed: training" if len(parts) > 1 else ""
    y = alt.Y("mean:Q", title=f"{UNITS[quantity]}{told}").scale(zero=False)
    tooltip = [
        alt.Tooltip("series:N", title=" "),
        alt.Tooltip("part:N", title="part"),
        alt.Tooltip("epoch:Q", title="epoch"),
        alt.Tooltip("mean:Q", title=quantity, format=".4~r"),
    ]
    base = panel.of(rows)
    pick = alt.selection_point(fields=["series"], bind="legend", toggle="true", name="pick")
    fade = alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.07))
    band = base.mark_area(fillOpacity=0.13).encode(
        x, alt.Y("low:Q"), alt.Y2("high:Q"), colour, alt.Detail("part:N"), opacity=fade
    )
    point = alt.OverlayMarkDef(size=22, filled=True) if _is_short(rows) else False
    line = base.mark_line(strokeWidth=1.9, point=point).add_params(pick)
    layers: list[Layer] = [
        *_ends(panel, ends, x),
        band,
        line.encode(x, y, colour, dash, tooltip=tooltip, opacity=fade),
    ]
    return panel.showing(layers, 300, f"{group.title}: {quantity}" if group.title else "")


def _is_short(rows: list[Row]) -> bool:
    return len({row["epoch"] for row in rows}) <= 15


def _colour(labels: list[str]) -> alt.Color:
    colours = [*STRONG, *MUTED] if len(labels) == 1 else [INK, *STRONG]
    return alt.Color("series:N", title=None).scale(domain=labels, range=colours[: len(labels)])


def _ends(panel: Panel, ends: Sequence[int], x: alt.X) -> list[Layer]:
    if not ends or len(ends) > MOST_BOUNDARIES:
        return []
    rows = [{"epoch": end, "end": True} for end in ends]
    return [panel.of(rows).mark_rule(stroke=QUIET, strokeWidth=0.8).encode(x)]

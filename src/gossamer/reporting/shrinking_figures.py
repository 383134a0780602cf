"""Figures of a search within an accuracy budget."""

import math

import altair as alt

from gossamer.core.formats import compact
from gossamer.records.shrinking import Shrinking, Tried
from gossamer.reporting.charts import GREY, INK, QUIET, RULE, STRONG, Figure, Layer, Panel, Row

GAINS = {
    "latency": "Times as fast as the dense network in PyTorch",
    "size": "Times smaller than the dense network",
    "flops": "Times less work than the dense network",
}
"""What the speed-up is, by the target."""
_CHOSEN, _WITHIN, _BEYOND = "chosen", "within the budget", "not within the budget"
_LOOKS = {_CHOSEN: STRONG[0], _WITHIN: STRONG[2], _BEYOND: STRONG[1]}
_LEAST_HEIGHT = 110
"""In which the title of an axis finds room."""
_TICKS = 8
"""Of the axis of gains or shares, about."""
_SHADES = ["#fbf7f2", "#fae3d2", "#f3b48a", "#dc7a3c", "#a8450c", "#6b2a05"]


def is_share(report: Shrinking) -> bool:
    """Whether the metric is a share of examples, told in percent and drops in points."""
    return report.task == "accuracy"


def scaled(report: Shrinking, value: float) -> float:
    """Return a drop in points where the metric is a share."""
    return 100 * value if is_share(report) else value


def drop_unit(report: Shrinking) -> str:
    """Return what a drop is in."""
    return "points" if is_share(report) else report.task


def shrinking_figures(report: Shrinking) -> tuple[Figure, ...]:
    """Return the figures that a search can fill, in the order of the page."""
    found = (
        _trade_off(report) if report.tried else None,
        _kept(report) if report.layers else None,
        _tolerances(report) if report.sensitivity else None,
        _curves(report) if any(len(one.losses) for one in report.tried) else None,
    )
    return tuple(one for one in found if one is not None)


def _verdict(one: Tried) -> str:
    return _CHOSEN if one.chosen else _WITHIN if one.within else _BEYOND


def _trade_off(report: Shrinking) -> Figure:
    """Return what was lost against what was won, for all that was tried."""
    rows: list[Row] = [
        {
            "series": _verdict(one),
            "gain": one.speed_up,
            "drop": scaled(report, one.drop),
            "bound": scaled(report, one.drop if one.bound is None else one.bound),
            "name": f"candidate {one.number + 1}",
            "number": str(one.number + 1),
            "order": one.number,
            "sparsity": f"{100 * one.sparsity:.1f}%",
            "pattern": one.pattern,
        }
        for one in report.tried
    ]
    unit = drop_unit(report)
    panel = Panel("trade-off")
    budget = panel.of([{"drop": scaled(report, report.max_drop), "text": "budget"}])
    x = alt.X("gain:Q", title=GAINS[report.target]).scale(zero=False, nice=True, padding=18)
    x = x.axis(tickCount=_TICKS)
    y = alt.Y("drop:Q", title=f"Drop on validation data ({unit})").scale(zero=True, padding=8)
    present = [name for name in _LOOKS if any(row["series"] == name for row in rows)]
    colour = alt.Color("series:N", title=None).scale(
        domain=present, range=[_LOOKS[name] for name in present]
    )
    line = panel.of(rows).mark_line(stroke=QUIET, strokeWidth=1.2)
    bars = panel.of(rows).mark_rule(strokeWidth=2)
    points = panel.of(rows).mark_point(filled=True, opacity=1)
    numbers = panel.of(rows).mark_text(dx=9, dy=9, fontSize=11, align="left", color=GREY)
    hover = [
        alt.Tooltip("name:N", title="tried"),
        alt.Tooltip("series:N", title="it is"),
        alt.Tooltip("gain:Q", title="times", format=".2f"),
        alt.Tooltip("drop:Q", title=f"drop ({unit})", format=".3g"),
        alt.Tooltip("bound:Q", title="at most", format=".3g"),
        alt.Tooltip("sparsity:N", title="zeros"),
        alt.Tooltip("pattern:N", title="pattern"),
    ]
    size = alt.condition("datum.series === 'chosen'", alt.value(170), alt.value(70))
    layers: list[Layer] = [
        budget.mark_rule(stroke=INK, strokeWidth=1.2, strokeDash=[4, 3]).encode(alt.Y("drop:Q")),
        budget.mark_text(align="left", dy=-7, dx=4, color=INK).encode(
            alt.Y("drop:Q"), x=alt.value(0), text="text:N"
        ),
        line.encode(x, y, alt.Order("order:Q")),
        bars.encode(x, alt.Y("drop:Q"), alt.Y2("bound:Q"), colour),
        points.encode(x, y, colour, size=size, tooltip=hover),
        numbers.encode(x, y, alt.Text("number:N")),
    ]
    return Figure(
        "trade-off",
        "What was tried: drop against gain",
        "Each point is a candidate, numbered in the order in which they were made; upright lines "
        "reach from the drop on validation data to what it does not exceed, as surely as the "
        "table says. A candidate is within the budget where that lies below the dashed line, "
        "and none before it in its order failed.",
        (panel.showing(layers, 320),),
        columns=1,
    )


def _short(name: str) -> str:
    return name.removesuffix(".weight") or name


def _kept(report: Shrinking) -> Figure:
    """Return how much of each layer stays."""
    rows: list[Row] = [
        {
            "layer": f"{_short(one.name)} ({compact(one.weights)})",
            "kept": 100 * one.kept / one.weights,
            "text": f"{100 * one.kept / one.weights:.{1 if one.kept < 0.1 * one.weights else 0}f}%",
            "reading": f"{one.kept:,} of {one.weights:,}",
        }
        for one in report.layers
    ]
    panel = Panel("kept")
    y = alt.Y("layer:N", sort=None, title="Layer (weights)").axis(
        ticks=False, domain=False, labelLimit=420
    )
    x = alt.X("kept:Q", title="Share of its weights that stays (%)").scale(domain=[0, 100])
    x = x.axis(tickCount=_TICKS)
    bars = panel.of(rows).mark_bar(color=STRONG[0], height={"band": 0.66})
    words = panel.of(rows).mark_text(align="left", dx=5, fontSize=11, color=INK)
    layers: list[Layer] = [
        bars.encode(x, y, tooltip=[alt.Tooltip("layer:N"), alt.Tooltip("reading:N", title="kept")]),
        words.encode(x, y, alt.Text("text:N")),
    ]
    return Figure(
        "kept",
        "What stays of each layer",
        "Share of each layer's weights that the chosen network keeps, from input to output.",
        (panel.showing(layers, max(_LEAST_HEIGHT, 24 * len(rows) + 8)),),
        columns=1,
    )


def _tolerances(report: Shrinking) -> Figure:
    """Return the heat map of what pruning one layer alone does."""
    rows: list[Row] = [
        {
            "row": _short(one.name),
            "place": f"{100 * sparsity:g}",
            "log": math.log10(max(damage, 1e-6)),
            "text": f"{damage:.2g}" if damage >= 0.0001 else "0" if not damage else f"{damage:.0e}",
        }
        for one in report.sensitivity
        for sparsity, damage in zip(one.sparsities, one.damage, strict=True)
    ]
    logs = [row["log"] for row in rows]
    low, high = min(logs), max(*logs, min(logs) + 1e-9)
    stops = [low + (high - low) * part / (len(_SHADES) - 1) for part in range(len(_SHADES))]
    panel = Panel("tolerance")
    base = panel.of(rows).encode(
        alt.X("place:N", sort=None, title="Sparsity of this layer alone (%)").axis(
            labelAngle=0, ticks=False, domain=False
        ),
        alt.Y("row:N", sort=None, title="Layer").axis(ticks=False, domain=False, labelLimit=420),
    )
    colour = alt.Color("log:Q", legend=None).scale(domain=stops, range=_SHADES, interpolate="rgb")
    light = alt.condition(
        f"datum.log > {low + 0.6 * (high - low)}", alt.value("white"), alt.value(INK)
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1.5).encode(colour)
    words = base.mark_text(fontSize=11).encode(alt.Text("text:N"), color=light)
    measure = report.measure[:1].lower() + report.measure[1:].rstrip(".")
    return Figure(
        "tolerance",
        "What pruning one layer alone does",
        f"Before any training: {measure}. The darker a cell, the more the network depends on these "
        "weights; shades are on a log scale.",
        (panel.showing((cells, words), max(_LEAST_HEIGHT, 24 * len(report.sensitivity) + 4)),),
        columns=1,
    )


def _curves(report: Shrinking) -> Figure:
    """Return the loss of fine-tuning, one candidate after the other."""
    rows: list[Row] = []
    epoch = 0.0
    for one in report.tried:
        step = one.epochs / len(one.losses) if one.losses else 0.0
        for index, loss in enumerate(one.losses, start=1):
            rows.append(
                {
                    "series": _verdict(one),
                    "name": f"candidate {one.number + 1}",
                    "epoch": epoch + index * step,
                    "loss": loss,
                }
            )
        epoch += one.epochs
    panel = Panel("curves")
    present = [name for name in _LOOKS if any(row["series"] == name for row in rows)]
    colour = alt.Color("series:N", title=None).scale(
        domain=present, range=[_LOOKS[name] for name in present]
    )
    x = alt.X("epoch:Q", title="Epochs of fine-tuning").scale(zero=True, nice=False)
    x = x.axis(format="~g")
    y = alt.Y("loss:Q", title="Mean loss of an epoch").scale(zero=False)
    whole = panel.of(rows).mark_line(stroke=RULE, strokeWidth=1.2).encode(x, y)
    lines = panel.of(rows).mark_line(strokeWidth=2).encode(x, y, colour, alt.Detail("name:N"))
    points = panel.of(rows).mark_point(filled=True, size=34).encode(
        x, y, colour,
        tooltip=[alt.Tooltip("name:N", title="of"), alt.Tooltip("epoch:Q", format=".1f"),
                 alt.Tooltip("loss:Q", format=".4f")],
    )  # fmt: skip
    return Figure(
        "curves",
        "Fine-tuning",
        "Loss of fine-tuning, candidate after candidate: each goes on from the one before it, with "
        "fewer weights.",
        (panel.showing((whole, lines, points), 240),),
        columns=1,
    )

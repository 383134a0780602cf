"""The figure of the training curves."""

from collections.abc import Mapping

import altair as alt

from gossamer.formats import inside, sentence
from gossamer.records.record import Phase
from gossamer.report.aggregate import Results
from gossamer.report.charts import GREY, STRONG, Figure, Layer, Panel, Row
from gossamer.report.curves import Training, curve_points, trainings

POINTS = 15
"""Most epochs that are marked by a point each."""


def curve_figure(results: Results, phases: Mapping[str, Phase]) -> Figure | None:
    """Loss and accuracy by epoch: two panels for each training of the recipe."""
    panels: list[Panel] = []
    for title, group in _curve_groups(results, trainings(results, phases)):
        rows = _curve_rows(results, group)
        for quantity in ("loss", "accuracy"):
            some = [row for row in rows if row["quantity"] == quantity]
            if some:
                panel = Panel(f"curves-{len(panels)}")
                words = f"{title}: {quantity}"
                panels.append(_curve_panel(panel, results, words, some, group, quantity))
    if not panels:
        return None
    seeds = {row["seed"] for panel in panels for rows in panel.rows.values() for row in rows}
    thin = "; thin lines are single seeds, thick ones their mean" if len(seeds) > 1 else ""
    return Figure(
        "curves",
        "Training curves",
        f"Training curves by epoch; dashed lines are validation{thin}. Training figures are "
        "means over the epoch while the weights change, validation figures are taken at its end; "
        "the test set has no part in them.",
        tuple(panels),
    )


def _curve_groups(
    results: Results, found: tuple[Training, ...]
) -> list[tuple[str, tuple[Training, ...]]]:
    """Trainings that share their panels: at one place of the recipe, by arm or by level."""
    groups = []
    positions = sorted({one.position for one in found})
    several = len(positions) > 1
    for position in positions:
        here = [one for one in found if one.position == position]
        families = {one.arms: [same for same in here if same.arms == one.arms] for one in here}
        if all(len(family) == 1 for family in families.values()) and len(here) <= len(STRONG):
            groups.append((_curve_title(results, here, several), tuple(here)))
        else:
            groups += [
                (_curve_title(results, some, several), tuple(some)) for some in families.values()
            ]
    return groups


def _curve_title(results: Results, group: list[Training], several: bool) -> str:
    """Say which training it is, if there are several, and who rests on it."""
    place = f"Training {group[0].position + 1}" if several else "Training"
    arms = list(dict.fromkeys(arm for one in group for arm in one.arms))
    if len(arms) <= 2:
        return f"{place}, {' and '.join(inside(results.label(arm)) for arm in arms)}"
    if len(group) > 1:
        return place
    everyone = len(arms) == len(results.study.arms)
    return f"{place}, shared by {'all' if everyone else len(arms)} arms"


def _curve_rows(results: Results, group: tuple[Training, ...]) -> list[Row]:
    rows = []
    by_level = _by_level(group)
    for one in group:
        name = " and ".join(inside(results.label(arm)) for arm in one.arms)
        name = name if len(one.arms) <= 2 else f"{name[:40]} …"
        for point in curve_points(one, seeds=not by_level):
            scale = 100 if point.quantity == "accuracy" else 1
            rows.append(
                {
                    "part": point.part,
                    "quantity": point.quantity,
                    "seed": "mean" if point.seed is None else str(point.seed),
                    "epoch": point.epoch,
                    "value": round(scale * point.value, 5),
                    "arm": sentence(name),
                    "place": f"{results.position(one.levels[0]):g}",
                }
            )
    return rows


def _by_level(group: tuple[Training, ...]) -> bool:
    return len(group) > 1 and len({one.arms for one in group}) == 1


def _curve_panel(
    panel: Panel,
    results: Results,
    title: str,
    rows: list[Row],
    group: tuple[Training, ...],
    quantity: str,
) -> Panel:
    """One panel; each seed is a thin line behind the mean, unless there are many levels."""
    colour, dash = _curve_ink(results, rows, group)
    x = alt.X("epoch:Q", title="Epoch").scale(zero=False, nice=False, padding=8)
    x = x.axis(format="d", tickMinStep=1, labelFlush=False)
    unit = "Loss (nats)" if quantity == "loss" else "Accuracy (%)"
    y = alt.Y("value:Q", title=unit).scale(zero=False)
    detail = alt.Detail(["seed:N", "place:N", "arm:N"])
    tooltip = [
        alt.Tooltip("part:N", title=" "),
        *([alt.Tooltip("place:N", title=results.axis_title)] if _by_level(group) else []),
        alt.Tooltip("epoch:Q", title="epoch"),
        alt.Tooltip("value:Q", title=quantity, format=".4~r"),
    ]
    many = _by_level(group) or len({row["epoch"] for row in rows}) > POINTS
    point = False if many else alt.OverlayMarkDef(size=26, filled=True)
    mean = panel.of(row for row in rows if row["seed"] == "mean")
    line = mean.mark_line(strokeWidth=1.6 if _by_level(group) else 2.2, point=point)
    layers: list[Layer] = [line.encode(x, y, colour, dash, detail, tooltip=tooltip)]
    thin = [row for row in rows if row["seed"] != "mean"]
    if thin:
        single = panel.of(thin).mark_line(strokeWidth=0.9, strokeOpacity=0.35)
        layers.insert(0, single.encode(x, y, colour, dash, detail))
    return panel.showing(layers, 240, title)


def _curve_ink(
    results: Results, rows: list[Row], group: tuple[Training, ...]
) -> tuple[alt.Color, alt.StrokeDash]:
    """Colour tells the part of one training, else the level or the arm; dashes tell the part."""
    parts, arms = ["training", "validation"], list(dict.fromkeys(row["arm"] for row in rows))
    dash = alt.StrokeDash("part:N", title=None).scale(domain=parts, range=[[1, 0], [5, 3]])
    if len(group) == 1:
        colour = alt.Color("part:N", title=None).scale(domain=parts, range=list(STRONG[:2]))
        return colour, dash
    if _by_level(group):
        levels = list(dict.fromkeys(row["place"] for row in rows))
        dark = alt.SchemeParams(name="viridis", extent=[0.88, 0])
        colour = alt.Color("place:O", title=results.axis_title, sort=levels).scale(scheme=dark)
        return colour.legend(symbolSize=300, columnPadding=10), dash.legend(None)
    colour = alt.Color("arm:N", title=None).scale(domain=arms, range=list(STRONG[: len(arms)]))
    return colour, dash.legend(symbolStrokeColor=GREY)

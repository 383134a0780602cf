"""From trainings to the rows of the training curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from gossamer.records.record import Arm, Epoch, Phase, TrialLabel
from gossamer.reporting.charts import INK, MUTED, QUIET, STRONG, Figure, Layer, Panel, Row
from gossamer.reporting.results import Results
from gossamer.reporting.series import Group, along_axis, axis_levels, by_arm, groups

CURVES = (
    ("training", "loss", "train_loss"),
    ("validation", "loss", "validation_loss"),
    ("training", "accuracy", "train_accuracy"),
    ("validation", "accuracy", "validation_accuracy"),
)
MOST_LINES = 6
"""More lines than this cannot be told apart."""
MOST_LEVELS = 4
LEAST_FIXED = 2
"""Lines kept for arms that have no level, if there are so many."""


@dataclass(frozen=True)
class Chain:
    """Everything that an arm trains at one level, one training after the other."""

    arm: str
    level: float
    phases: Mapping[int, tuple[str, ...]]
    """Keys of the trainings, by seed."""


def chains(results: Results, phases: Mapping[str, Phase], arms: Iterable[Arm]) -> list[Chain]:
    """Return each distinct chain of trainings once, for the first arm that has it."""
    found: dict[tuple[tuple[int, tuple[str, ...]], ...], Chain] = {}
    for arm in sorted(arms, key=lambda arm: along_axis(results, arm.name)):
        for level in results.own_levels(arm.name):
            trials = results.asked[arm.name, level]
            done = {
                seed: own_phases(trial.phases, phases)
                for seed, trial in trials.items()
                if _done(trial, phases)
            }
            if any(done.values()):
                found.setdefault(tuple(sorted(done.items())), Chain(arm.name, level, done))
    return list(found.values())


def own_phases(keys: Sequence[str], phases: Mapping[str, Phase]) -> tuple[str, ...]:
    """Return the trainings of a network itself, without those of one that it has its mask from.

    Epochs are counted over all trainings of a network: where the count starts again, what came
    before was another network.
    """
    start, last = 0, 0
    for position, key in enumerate(keys):
        history = phases[key].history
        if history and history[0].epoch <= last:
            start = position
        last = history[-1].epoch if history else last
    return tuple(keys[start:])


def _done(trial: TrialLabel, phases: Mapping[str, Phase]) -> bool:
    return all(key in phases for key in trial.phases)


def chosen_chains(
    results: Results, phases: Mapping[str, Phase], arms: Sequence[Arm]
) -> tuple[Chain, ...]:
    """Choose few enough chains to be told apart: of main arms, and of arms that have no level.

    Main arms are shown at as many levels as there is room for, from the lowest to the highest. A
    chain that another one merely continues is not shown: it is that one's beginning.
    """
    bare = [arm for arm in arms if not along_axis(results, arm.name)]
    fixed = _longest(chains(results, phases, bare), phases)
    fixed.sort(key=lambda chain: -len(_losses(chain, phases)))
    main = [arm for arm in arms if arm.role == "main" and along_axis(results, arm.name)]
    known = [chain.phases for chain in fixed]
    found = [chain for chain in chains(results, phases, main) if chain.phases not in known]
    room = MOST_LINES - min(len(fixed), LEAST_FIXED)
    picked: list[Chain] = []
    for count in range(MOST_LEVELS, 0, -1):
        some = [one for one in found if one.level in spread_out(_levels(results, one), count)]
        picked = _longest(some, phases)
        if len(picked) <= room:
            break
    picked = picked[:room]
    both = _longest([*fixed, *picked], phases)
    kept = [chain for chain in fixed if chain in both][: MOST_LINES - len(picked)]
    return (*kept, *picked)


def _levels(results: Results, chain: Chain) -> tuple[float, ...]:
    return results.own_levels(chain.arm)


def _longest(found: Sequence[Chain], phases: Mapping[str, Phase]) -> list[Chain]:
    """Leave out chains that are the beginning of another one, epoch by epoch."""
    losses = [_losses(chain, phases) for chain in found]
    return [
        chain
        for chain, ours in zip(found, losses, strict=True)
        if not any(len(ours) < len(theirs) and theirs[: len(ours)] == ours for theirs in losses)
    ]


def _losses(chain: Chain, phases: Mapping[str, Phase]) -> tuple[tuple[int, float], ...]:
    """Return what a chain's first seed trained: its epochs and their losses."""
    keys = chain.phases[min(chain.phases)]
    return tuple((one.epoch, one.train_loss) for key in keys for one in phases[key].history)


def spread_out(levels: Sequence[float], count: int) -> tuple[float, ...]:
    """Return some levels, evenly spread in their order; the highest if there is room for one.

    Examples
    --------
    >>> spread_out((0.1, 0.3, 0.5, 0.7, 0.9), 3), spread_out((0.1, 0.9), 1)
    ((0.1, 0.5, 0.9), (0.9,))
    """
    if count >= len(levels):
        return tuple(levels)
    if count == 1:
        return (levels[-1],)
    last = len(levels) - 1
    return tuple(levels[round(index * last / (count - 1))] for index in range(count))


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve, over the seeds."""

    part: str
    """"training" or "validation"."""
    quantity: str
    """"loss" or "accuracy"."""
    epoch: int
    mean: float
    lowest: float
    highest: float


def histories(
    chain: Chain, phases: Mapping[str, Phase], drawn: Iterable[str] = ()
) -> dict[int, tuple[Epoch, ...]]:
    """Return a chain's epochs by seed, from the last one that is drawn already."""
    known = set(drawn)
    found: dict[int, tuple[Epoch, ...]] = {}
    for seed, keys in chain.phases.items():
        before = [epoch for key in keys if key in known for epoch in phases[key].history]
        rest = [epoch for key in keys if key not in known for epoch in phases[key].history]
        found[seed] = (*before[-1:], *rest)
    return found


def curve_points(found: Mapping[int, Sequence[Epoch]]) -> tuple[CurvePoint, ...]:
    """Return mean and range over the seeds, where all seeds have an epoch."""
    points = []
    for part, quantity, attribute in CURVES:
        columns: dict[int, list[float]] = {}
        for history in found.values():
            for epoch in history:
                value = getattr(epoch, attribute)
                if value is not None and math.isfinite(value):
                    columns.setdefault(epoch.epoch, []).append(value)
        points += [
            CurvePoint(part, quantity, epoch, math.fsum(some) / len(some), min(some), max(some))
            for epoch, some in sorted(columns.items())
            if len(some) == len(found)
        ]
    return tuple(points)


def boundaries(shown: Sequence[Chain], phases: Mapping[str, Phase]) -> tuple[int, ...]:
    """Return the last epochs of trainings that another one follows in all seeds and chains."""
    ends = {
        phases[key].history[-1].epoch
        for chain in shown
        for keys in chain.phases.values()
        for key in keys[:-1]
        if phases[key].history
    }
    return tuple(sorted(ends))


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
    # Vega's least step between ticks is no more than a hint: it would label 1.5 as 2.
    x = x.axis(format="d", values=epoch_ticks(row["epoch"] for row in rows), labelFlush=False)
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


def epoch_ticks(epochs: Iterable[int], most: int = 10) -> list[int]:
    """Return whole epochs to label: the multiples of 1, 2 or 5 times a power of ten among them.

    Examples
    --------
    >>> epoch_ticks([1, 2, 3]), epoch_ticks(range(1, 52))
    ([1, 2, 3], [5, 10, 15, 20, 25, 30, 35, 40, 45, 50])
    """
    first, last = min(found := list(epochs)), max(found)
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    step = next(step for step in steps if last // step - (first - 1) // step <= most)
    return [step * n for n in range(-(-first // step), last // step + 1)]


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

"""How fast pruned networks predict: times by arm and level, in numbers and in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from gossamer.core.formats import NOTHING, counted, decimal, listed, sentence
from gossamer.records.joint import JointRecord
from gossamer.records.record import Arm
from gossamer.reporting.charts import INK, QUIET, Figure, Layer, Panel, Row
from gossamer.reporting.glossary import spread
from gossamer.reporting.lines import Quantity, marks, point, tooltips
from gossamer.reporting.results import ACCURACY, Results
from gossamer.reporting.series import Group, Ink, Series, all_series, groups, ink
from gossamer.reporting.size_figures import over
from gossamer.reporting.tables import Section, Table
from gossamer.stats.intervals import Interval, mean_interval

RATIO, RATIO_MASKED = "latency_ratio", "latency_ratio_masked"


@dataclass(frozen=True)
class LatencySection:
    """Everything of the section but its figure."""

    sentences: tuple[str, ...]
    table: Table


def latency_section(results: Results) -> LatencySection | None:
    """Return what is said of the speed of predictions; None if nothing was timed."""
    if not timed_arms(results):
        return None
    return LatencySection((*_sentences(results), _conditions(results)), latency_table(results))


def speed_up(results: Results, arm: str, level: float, ratio: str = RATIO) -> Interval | None:
    """Return how many times faster an arm is than the unpruned network timed beside it.

    It is the geometric mean over the units, with Student's interval of the logarithms: ten times
    faster and ten times slower have the mean one, whichever network is divided by which.

    Parameters
    ----------
    results
        The study.
    arm, level
        Which networks.
    ratio
        `RATIO`, or `RATIO_MASKED` for networks whose zeros are kept in PyTorch.

    References
    ----------
    Fleming and Wallace (1986), "How not to lie with statistics: the correct way to summarize
    benchmark results", Communications of the ACM 29.
    """
    ratios = results.values(arm, level, ratio)
    logarithms = results.units({seed: -math.log(value) for seed, value in ratios.items()})
    if not logarithms:
        return None
    interval = mean_interval(logarithms)
    low, high = (None if e is None else math.exp(e) for e in (interval.low, interval.high))
    return Interval(math.exp(interval.mean), low, high, interval.count)


def timed_arms(results: Results) -> tuple[Arm, ...]:
    """Return the pruned arms that were timed, in the study's order."""
    return tuple(
        arm
        for arm in results.study.arms
        if arm.role != "baseline" and timed_levels(results, arm.name)
    )


def timed_levels(results: Results, arm: str) -> tuple[float, ...]:
    """Return an arm's own levels at which it was timed, ascending."""
    levels = results.own_levels(arm)
    return tuple(level for level in levels if speed_up(results, arm, level) is not None)


def faster_from(results: Results, arm: str) -> float | None:
    """Return the lowest level from which on every interval lies above once; None if none does."""
    found = None
    for level in reversed(timed_levels(results, arm)):
        gain = speed_up(results, arm, level)
        if gain is None or gain.low is None or gain.low <= 1:
            break
        found = level
    return found


def times(factor: Interval) -> str:
    """Return a speed-up with its interval.

    Examples
    --------
    >>> times(Interval(12.34, 11.0, 13.9, 6)), times(Interval(0.987, None, None, 1))
    ('12.3× [11.0, 13.9]', '0.99×')
    """
    digits = _digits(factor.mean)
    mean = f"{decimal(factor.mean, digits)}×"
    if factor.low is None or factor.high is None:
        return mean
    return f"{mean} [{decimal(factor.low, digits)}, {decimal(factor.high, digits)}]"


def _digits(factor: float) -> int:
    return 2 if factor < 9.995 else 1 if factor < 99.95 else 0


UNPRUNED = "the unpruned network in its fastest way"


def _sentences(results: Results) -> list[str]:
    each = [_arm_sentence(results, arm.name) for arm in timed_arms(results)]
    kept = {
        (arm.name, level): gain
        for arm in timed_arms(results)
        for level in timed_levels(results, arm.name)
        if (gain := speed_up(results, arm.name, level, RATIO_MASKED))
    }
    ends = dict.fromkeys(choose(kept, key=lambda at: kept[at].mean) for choose in (min, max))
    reach = " to ".join(
        f"{times(kept[arm, level])} ({results.named(arm)}, {results.place(level)})"
        for arm, level in ends
    )
    return [
        *each,
        f"With their zeros kept, in PyTorch, the same networks are {reach} as fast as the unpruned "
        "network in PyTorch.",
    ]


def _arm_sentence(results: Results, arm: str) -> str:
    """Say from which level on an arm is faster than what, and by how much."""
    name, levels = f"{sentence(results.named(arm))}, compressed,", timed_levels(results, arm)
    gains = {level: speed_up(results, arm, level) for level in levels}
    texts = {level: times(gain) for level, gain in gains.items() if gain}
    first, last = faster_from(results, arm), levels[-1]
    if results.one_seed:
        return f"{name} is {_reach(results, texts)} as {UNPRUNED}."
    if first is None:
        return (
            f"{name} is not shown to be faster than {UNPRUNED} at {results.place(last)}: it is "
            f"{_reach(results, texts)}."
        )
    if first == last:
        return (
            f"{name} is faster than {UNPRUNED} at {results.place(last)}: {texts[last]} as fast."
            f"{_below(results, texts, first)}"
        )
    return (
        f"{name} is faster than {UNPRUNED} from {results.place(first)} on: {texts[first]} as fast "
        f"there, {texts[last]} at {results.short_place(last)}.{_below(results, texts, first)}"
    )


def _below(results: Results, texts: Mapping[float, str], first: float) -> str:
    """Say what is known of the levels below the first at which an arm is shown to be faster."""
    below = {level: text for level, text in texts.items() if level < first}
    return f" Below that, it is {_reach(results, below)}." if below else ""


def _reach(results: Results, texts: Mapping[float, str]) -> str:
    """Return the speed-ups at the first and the last of some levels."""
    ends = dict.fromkeys((min(texts), max(texts)))
    return listed([f"{texts[level]} as fast at {results.short_place(level)}" for level in ends])


def _conditions(results: Results) -> str:
    """Say how, where and when it was timed."""
    joints = [joint for joint in results.joints if joint.timed is not None]
    places = listed(sorted({_place(joint) for joint in joints}))
    several = len({joint.environment.processor for joint in joints}) > 1
    warning = " Times of different processors cannot be compared, their ratios can." * several
    return (
        f"Timed on {places}, in float32, after all training and with nothing else of the run "
        "going on; warm, the ways to run a network and the unpruned one of its seed in turn, "
        f"medians over the repeats.{warning}"
    )


def _place(joint: JointRecord) -> str:
    timed = joint.timed
    assert timed is not None
    return (
        f"{joint.environment.processor} ({timed.instruction_set} in gossamer's engine) with "
        f"{counted(timed.threads, 'thread')} and batches of {timed.batch}"
    )


def latency_table(results: Results) -> Table:
    """Return the times of the unpruned network, and of pruned ones as they are and compressed."""
    base = results.baseline
    unpruned = [_unpruned_row(results, base.name)] if base else []
    sections = [Section(sentence(results.label(base.name)), tuple(unpruned))] if base else []
    sections += [
        Section(
            sentence(arm.label),
            tuple(_row(results, arm.name, level) for level in timed_levels(results, arm.name)),
        )
        for arm in timed_arms(results)
    ]
    return Table(
        "Speed of prediction",
        (("Accuracy, %", 1), ("Milliseconds a batch", 3), ("Times faster", 2)),
        (
            sentence(results.axis),
            "test",
            "unpruned, fastest way",
            "zeros kept, in PyTorch",
            "compressed",
            "zeros kept, in PyTorch",
            "compressed",
        ),
        tuple(sections),
        _note(results),
    )


def _note(results: Results) -> str:
    what = (
        f"With one {results.unit}: numbers, never a verdict."
        if results.one_seed
        else f"{sentence(results.basis)}: milliseconds ± half the width of their 95% interval, "
        "speed-ups as geometric means with theirs."
    )
    return (
        f"{what} The unpruned network stands beside each pruned one, timed in turn with it, in its "
        "fastest way: PyTorch, or gossamer's engine on all weights. Zeros kept: the pruned network "
        "in PyTorch, against the unpruned one in PyTorch. Compressed: what gossamer.compress makes "
        "of it, against the unpruned one in its fastest way."
    )


def _unpruned_row(results: Results, arm: str) -> tuple[str, ...]:
    plain, fastest = (_milliseconds(results, arm, 0.0, m) for m in ("latency_masked", "latency"))
    return (NOTHING, _accuracy(results, arm, 0.0), fastest, plain, NOTHING, NOTHING, NOTHING)


def _row(results: Results, arm: str, level: float) -> tuple[str, ...]:
    measures: Sequence[str] = ("latency_dense", "latency_masked", "latency")
    gains = (speed_up(results, arm, level, ratio) for ratio in (RATIO_MASKED, RATIO))
    return (
        results.level_text(level),
        _accuracy(results, arm, level),
        *(_milliseconds(results, arm, level, measure) for measure in measures),
        *(times(gain) if gain else NOTHING for gain in gains),
    )


def _milliseconds(results: Results, arm: str, level: float, measure: str) -> str:
    interval = results.interval(arm, level, measure)
    return spread(interval, 3, 1000) if interval else NOTHING


def _accuracy(results: Results, arm: str, level: float) -> str:
    interval = results.interval(arm, level, ACCURACY)
    return spread(interval) if interval else NOTHING


SPEED_UP = Quantity("times faster", "Times faster (log scale)", 1, 2, "×", 0, math.inf)
ZEROS_KEPT = (6, 4)
_MARGIN = 1.15
_TICKS = tuple(digit * 10**power for power in range(-3, 4) for digit in (1, 2, 5))


def latency_figure(results: Results) -> Figure | None:
    """Speed-up of every timed arm, compressed and with its zeros kept; None if none was timed."""
    found = [(group, speed_rows(results, group)) for group in groups(results)]
    panels = [_panel(results, group, rows) for group, rows in found if rows]
    if not panels:
        return None
    mean = over(results) if results.one_seed else f"geometric {over(results)}"
    return Figure(
        "latency",
        "How many times faster pruned networks predict",
        "How many times faster pruned networks predict than the unpruned one timed beside them, on "
        f"a log axis; {mean}. Solid: compressed, against the unpruned network in its fastest way. "
        "Dashed: zeros kept, in PyTorch, against the unpruned network in PyTorch. "
        "Below the line at 1× a network is slower.",
        tuple(panels),
        columns=1,
    )


def speed_rows(results: Results, group: Group) -> list[Row]:
    """One row an arm, level and way to run it."""
    names = {arm.name for arm in group.arms}
    rows = []
    for arm in timed_arms(results):
        if arm.name in names:
            for ratio, look in _looks(results, group, arm.name).items():
                rows += [
                    point(results, SPEED_UP, look, level, gain) | {"reading": times(gain)}
                    for level in timed_levels(results, arm.name)
                    if (gain := speed_up(results, arm.name, level, ratio))
                ]
    return rows


def _looks(results: Results, group: Group, arm: str) -> dict[str, Series]:
    look = all_series(results, group)[arm, False]
    kept = Series(f"{look.label}, zeros kept", look.colour, ZEROS_KEPT)
    return {RATIO: look, RATIO_MASKED: kept}


def _panel(results: Results, group: Group, rows: Sequence[Row]) -> Panel:
    panel = Panel(f"latency-{group.title}" if group.title else "latency")
    present = {row["series"] for row in rows}
    names = [arm.name for arm in timed_arms(results) if arm in group.arms]
    looks = [look for name in names for look in _looks(results, group, name).values()]
    style = ink(look for look in looks if look.label in present)
    low, high = _ends(rows)
    x = alt.X("level:Q", title=results.axis_title).scale(nice=False, zero=True, padding=14)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    y = (
        alt.Y("mean:Q", title=SPEED_UP.title)
        .scale(type="log", domain=[low, high], nice=False, clamp=True)
        .axis(values=ticks, labelExpr="format(datum.value, '~g') + '×'", tickColor=QUIET)
    )
    hover = tooltips(results, SPEED_UP)
    layers: list[Layer] = [
        panel.of([{"mean": 1.0}]).mark_rule(stroke=INK, strokeWidth=1.2).encode(y),
        *_lines(panel, list(rows), x.axis(tickCount=10), y, style),
        *marks(panel, list(rows), x, y, style, hover),
    ]
    return panel.showing(style.pickable(layers), 360, group.title)


def _ends(rows: Sequence[Row]) -> tuple[float, float]:
    """Return ends of the axis that hold every interval, and the line at 1."""
    low = min(1.0, *(row["mean"] if row["low"] is None else row["low"] for row in rows))
    high = max(1.0, *(row["mean"] if row["high"] is None else row["high"] for row in rows))
    return low / _MARGIN, high * _MARGIN


def _lines(panel: Panel, rows: list[Row], x: alt.X, y: alt.Y, style: Ink) -> list[Layer]:
    """Draw the lines, with bars for intervals: lines that meet would hide each other's bands."""
    lines = panel.of(rows).mark_line(strokeWidth=2, strokeCap="butt")
    layers: list[Layer] = [
        lines.encode(x, y, style.colour, style.dash, alt.Order("level:Q"), opacity=style.fade)
    ]
    known = [row for row in rows if row["low"] is not None]
    if known:
        bars = panel.of(known).mark_rule(strokeWidth=1.5, strokeOpacity=0.65)
        low, high = alt.Y("low:Q"), alt.Y2("high:Q")
        layers.append(bars.encode(x, low, high, style.colour, opacity=style.fade))
    return layers

"""The answer of a study in two sentences, made from its records."""

from dataclasses import dataclass
from itertools import combinations

from gossamer.records.record import Arm
from gossamer.report.aggregate import Results
from gossamer.report.formats import counted, decimal, inside, listed, percent, short_spread
from gossamer.stats.intervals import Interval

MARGIN = 0.005
"""What counts as the same accuracy, unless a study says otherwise."""


@dataclass(frozen=True)
class Answer:
    """Two sentences, and what must be borne in mind when reading them."""

    first: str
    second: str
    note: str


@dataclass(frozen=True)
class Reach:
    """How far an arm goes within the margin of the baseline."""

    arm: Arm
    level: float | None
    """Highest level up to which it stays within the margin; None if already the first fails."""
    first_level: float
    end: str
    """Why it ends there: "margin", "highest" (of the levels tried) or "missing" (not done)."""


@dataclass(frozen=True)
class Contrast:
    """Two arms at the level where they differ most, the better one first."""

    better: tuple[str, float]
    worse: tuple[str, float]
    difference: Interval


def answer(results: Results) -> Answer:
    """Say what the records of a study say so far."""
    if not results.done:
        return Answer("No trial is done yet, so there is nothing to say.", "", "")
    note = (
        "One seed gives a number, never a verdict: run more seeds for an interval."
        if results.one_seed
        else "Means over seeds with 95% Student-t intervals, each for its own level alone."
    )
    return Answer(_first(results), _second(results), note)


def reach(results: Results, arm: Arm) -> Reach | None:
    """Find the level up to which an arm stays within the margin; None if nothing is paired."""
    if results.baseline is None:
        return None
    start = (results.baseline.name, 0.0)
    levels = [level for level in results.levels(arm.name) if level > 0]
    reached: float | None = None
    for level in levels:
        difference = results.paired((arm.name, level), start)
        if difference is None:
            return Reach(arm, reached, level, "missing") if reached is not None else None
        if difference.mean < -MARGIN:
            return Reach(arm, reached, levels[0], "margin")
        reached = level
    return Reach(arm, reached, levels[0], "highest") if levels else None


def contrast(results: Results) -> Contrast | None:
    """Find where two main arms, or one and the baseline, differ most over the most seeds."""
    main, baseline = results.arms("main"), results.baseline
    pairs = [
        ((first.name, level), (second.name, level))
        for first, second in combinations(main, 2)
        for level in sorted(set(results.levels(first.name)) & set(results.levels(second.name)))
        if level > 0
    ]
    if len(main) == 1 and baseline is not None:
        arm = main[0].name
        pairs = [((arm, x), (baseline.name, 0.0)) for x in results.levels(arm) if x > 0]
    found = [(pair, results.paired(*pair)) for pair in pairs]
    known = [(pair, difference) for pair, difference in found if difference is not None]
    if not known:
        return None
    (first, second), difference = max(known, key=lambda one: (one[1].count, abs(one[1].mean)))
    if difference.mean >= 0:
        return Contrast(first, second, difference)
    return Contrast(second, first, _negative(difference))


def _negative(interval: Interval) -> Interval:
    low, high = interval.low, interval.high
    if low is None or high is None:
        return Interval(-interval.mean, None, None, interval.count)
    return Interval(-interval.mean, -high, -low, interval.count)


def _first(results: Results) -> str:
    base = results.baseline
    if base is None:
        return "The study has no unpruned network, so what pruning costs cannot be said."
    interval = results.interval(base.name, 0.0)
    if interval is None:
        return "The unpruned network is not measured yet, so what pruning costs cannot be said."
    opening = f"The unpruned network reaches {short_spread(interval)} on the test set"
    if not results.arms("main"):
        return f"{opening}; the study has no pruned arm to hold against it."
    known = [one for arm in results.arms("main") if (one := reach(results, arm)) is not None]
    if not known:
        return f"{opening}; no pruned network is measured beside it yet."
    return f"{opening}; {_reaches(results, known)}."


def _reaches(results: Results, known: list[Reach]) -> str:
    """Say how far each arm goes: those that go somewhere, then those that do not."""
    parts: list[str] = []
    clauses: list[str] = []
    endings = {
        "margin": "",
        "highest": " (the highest level tried)",
        "missing": " (the highest level done so far)",
    }
    for one in known:
        if one.level is not None:
            goes, place = (
                (" goes", results.place(one.level))
                if not parts
                else ("", results.level_text(one.level))
            )
            parts.append(f"{inside(one.arm.label)}{goes} to {place}{endings[one.end]}")
    if parts:
        clauses.append(f"within half a point of it, {listed(parts)}")
    for one in known:
        if one.level is None:
            place = results.level_text(one.first_level) if parts else results.place(one.first_level)
            clauses.append(f"{inside(one.arm.label)} falls further behind already at {place}")
    return listed(clauses) if not parts else "; ".join(clauses)


def _second(results: Results) -> str:
    main = results.arms("main")
    found = contrast(results)
    if not main:
        return ""
    if found is None and len(main) == 1 and results.baseline is None:
        return "With one arm alone there is nothing to compare it with."
    if found is None:
        return "No two arms are measured at the same level and seed yet, so none can be compared."
    better, worse = (results.interval(*side) for side in (found.better, found.worse))
    level = max(found.better[1], found.worse[1])
    if better is None or worse is None:  # for the type checker: a contrast has both
        return ""
    figures = (
        f"{_name(results, found.better)} reaches {percent(better.mean, 1)}% and "
        f"{_name(results, found.worse)} {percent(worse.mean, 1)}%, {_difference(found.difference)}"
    )
    if len(main) == 1:
        return f"It differs most at {results.place(level)}: {figures}."
    if len(main) == 2:
        return f"The two differ most at {results.place(level)}: {figures}."
    return f"The largest contrast between two arms is at {results.place(level)}: {figures}."


def _name(results: Results, side: tuple[str, float]) -> str:
    base = results.baseline
    return (
        "the unpruned network" if base and side[0] == base.name else inside(results.label(side[0]))
    )


def _difference(difference: Interval) -> str:
    mean = decimal(100 * difference.mean, 1)
    if difference.low is None or difference.high is None:
        return f"a difference of {mean} points with one seed"
    low, high = decimal(100 * difference.low, 1), decimal(100 * difference.high, 1)
    doubt = ", which these seeds cannot tell from none" if difference.low <= 0 else ""
    seeds = counted(difference.count, "seed")
    return f"a paired difference of {mean} [{low}, {high}] points over {seeds}{doubt}"

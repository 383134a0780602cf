"""The answer of a study in two sentences, made from its records."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations

from gossamer.core.formats import counted, decimal, inside, listed, percent, sentence
from gossamer.measures import condition_of
from gossamer.records.record import Arm
from gossamer.reporting.glossary import short_spread
from gossamer.reporting.results import ACCURACY, Results, same_setting
from gossamer.stats.intervals import Interval, binomial_half_width, bounded, simultaneous_confidence
from gossamer.stats.verdicts import one_unit_note

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
    """How far an arm goes within the margin of an unpruned network."""

    arm: Arm
    level: float | None
    """Highest level up to which it stays within the margin; None if already the first fails."""
    first_level: float
    """Its first level; 0 for an arm without a grid, which has no other."""
    end: str
    """Why it ends there: "margin", "highest" (of the levels tried) or "missing" (not done)."""
    beside: Arm
    """The unpruned network: one that trains as the arm does where there is one."""


@dataclass(frozen=True)
class Contrast:
    """Two arms at the level where they differ most, the better one first."""

    better: tuple[str, float]
    worse: tuple[str, float]
    difference: Interval
    """With an interval that holds for all that were searched at once."""
    searched: int
    """Number of differences that this one was picked from."""


def answer(results: Results) -> Answer:
    """Say what the records of a study say so far."""
    if not results.done:
        return Answer("No trial is done yet, so there is nothing to say.", "", "")
    found = contrast(results)
    return Answer(_first(results), _second(results, found), _note(results, found))


def _note(results: Results, found: Contrast | None) -> str:
    if results.one_seed:
        return one_unit_note(results.unit)
    what = "pairs of seeds" if results.study.paired else "seeds"
    note = f"Means over {what} with 95% Student-t intervals, each for its own level alone"
    if found is None or found.searched == 1 or found.difference.low is None:
        return f"{note}."
    return (
        f"{note}; the difference is the largest of {found.searched}, and its [ , ] a simultaneous "
        "95% interval (Bonferroni)."
    )


def reach(results: Results, arm: Arm) -> Reach | None:
    """Find the level up to which an arm stays within the margin; None if nothing is paired."""
    beside = _beside(results, arm)
    if beside is None:
        return None
    start = (beside.name, 0.0)
    levels = _pruned_levels(results, arm)
    reached: float | None = None
    for level in levels:
        difference = results.paired((arm.name, level), start)
        if difference is None:
            return Reach(arm, reached, level, "missing", beside) if reached is not None else None
        if difference.mean < -MARGIN:
            return Reach(arm, reached, levels[0], "margin", beside)
        reached = level
    return Reach(arm, reached, levels[0], "highest", beside) if levels else None


def _beside(results: Results, arm: Arm) -> Arm | None:
    """Return the unpruned network that an arm is held against, of its dataset and network."""
    base = results.baseline
    same = base is not None and same_setting(base, arm)
    return results.unpruned(arm.name) or (base if same else None)


def _pruned_levels(results: Results, arm: Arm) -> list[float]:
    """Return the levels of an arm at which it is pruned; 0 alone if it has no grid."""
    levels = results.own_levels(arm.name)
    return [level for level in levels if level > 0 or levels == (0.0,)]


def contrast(results: Results) -> Contrast | None:
    """Find where two main arms, or one and the unpruned, differ most over the most seeds."""
    main = results.arms("main")
    levels = {arm.name: _pruned_levels(results, arm) for arm in main}
    pairs = [
        ((first.name, level), (second.name, level))
        for first, second in combinations(main, 2)
        if same_setting(first, second)
        for level in levels[first.name]
        if level in levels[second.name]
    ]
    if len(main) == 1 and (beside := _beside(results, main[0])):
        arm = main[0].name
        pairs = [((arm, level), (beside.name, 0.0)) for level in levels[arm]]
    known = {pair: found for pair in pairs if (found := results.paired(*pair)) is not None}
    if not known:
        return None
    first, second = max(known, key=lambda pair: (known[pair].count, abs(known[pair].mean)))
    difference = results.paired(first, second, simultaneous_confidence(len(known)))
    if difference is None:  # for the type checker: it is known
        return None
    if difference.mean >= 0:
        return Contrast(first, second, difference, len(known))
    return Contrast(second, first, _negative(difference), len(known))


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
    if not any(_beside(results, arm) for arm in results.arms("main")):
        return f"{opening}; the study has no pruned arm to hold against it."
    known = [one for arm in results.arms("main") if (one := reach(results, arm)) is not None]
    if not known:
        return f"{opening}; no pruned network is measured beside it yet."
    return f"{opening}; {_reaches(results, known)}."


NAMED = 3
"""Of more arms than this a sentence names the first and the last only."""


def _reaches(results: Results, known: list[Reach]) -> str:
    """Say how far each arm goes: those that go somewhere, then those that do not."""
    if len(known) > NAMED:
        return _in_short(results, known)
    goes = [one for one in known if one.level]
    levels = [one.level for one in goes if one.level]
    stays = [one for one in known if one.level == 0]
    behind = [one for one in known if one.level is None]
    parts = [
        f"{inside(one.arm.label)} {verb} {results.place(level)} "
        f"({_apart(results, one, level)}{_end(one)})"
        for one, level, verb in zip(goes, levels, ("goes to", *["to"] * len(goes)), strict=False)
    ]
    near = [f"{inside(one.arm.label)} ({_apart(results, one, 0.0)})" for one in stays]
    clauses = [f"on average within half a point of it, {listed(parts)}"] if parts else []
    if near:
        verb = "is" if len(near) == 1 else "are"
        clauses.append(f"{listed(near)} {verb} on average within half a point of it")
    clauses += [
        f"{inside(one.arm.label)} is {_apart(results, one, one.first_level)}"
        f"{_already(results, one)}"
        for one in behind
    ]
    return "; ".join(clauses)


def _in_short(results: Results, known: list[Reach]) -> str:
    """Say how many arms go somewhere, and which go furthest or are nearest and farthest."""
    within = [one for one in known if one.level is not None]
    furthest = sorted(within, key=lambda one: -(one.level or 0.0))[:NAMED]
    named = [
        f"{inside(one.arm.label)}{_at(results, one.level or 0.0)} "
        f"({_apart(results, one, one.level or 0.0)}{_end(one)})"
        for one in furthest
    ]
    behind = sorted((one for one in known if one.level is None), key=partial(_gap, results))
    ends = [
        f"{inside(one.arm.label)}{_at(results, one.first_level)} "
        f"({_apart(results, one, one.first_level)})"
        for one in behind
    ]
    if not within:
        return (
            f"none of the {len(known)} pruned arms is on average within half a point of it: the "
            f"nearest is {ends[0]}, the farthest {ends[-1]}"
        )
    verb = "is" if len(within) == 1 else "are"
    clauses = [
        f"{len(within)} of the {len(known)} pruned arms {verb} on average within half a point of "
        f"it: {'' if len(within) == len(named) else 'among them '}{listed(named)}"
    ]
    if len(ends) == 1:
        clauses.append(f"the other one is {ends[0]}")
    elif ends:
        clauses.append(f"of the others {ends[0]} is the nearest and {ends[-1]} the farthest")
    return "; ".join(clauses)


def _at(results: Results, level: float) -> str:
    """Say at which level an arm is; nothing for one without a grid."""
    return f" at {results.place(level)}" * bool(level)


def _gap(results: Results, one: Reach) -> float:
    """Return by how much an arm is below its unpruned network at its first level."""
    difference = results.paired((one.arm.name, one.first_level), (one.beside.name, 0.0))
    return -difference.mean if difference else 0.0


def _apart(results: Results, one: Reach, level: float) -> str:
    """Say how far below or above its unpruned network an arm is at a level, and which that is."""
    difference = results.paired((one.arm.name, level), (one.beside.name, 0.0))
    if difference is None:  # for the type checker: it is known
        return ""
    below = difference.mean < 0
    gap = bounded(_negative(difference) if below else difference, 1.0)
    points = decimal(100 * gap.mean, 2)
    if gap.low is not None and gap.high is not None:
        points += f" [{decimal(100 * gap.low, 2)}, {decimal(100 * gap.high, 2)}]"
    side = "from" if points.startswith("0.00") else "below" if below else "above"
    return f"{points} points {side} {_whom(results, one)}"


def _whom(results: Results, one: Reach) -> str:
    """Name the unpruned network that an arm is held against, and what sets them apart."""
    if results.unpruned(one.arm.name) is None:
        longer = results.trains_longer(one.arm.name)
        return "it, after more training" if longer else "it, trained in another way"
    against = results.interval(one.beside.name, 0.0)
    if one.beside == results.baseline or against is None:
        return "it"
    return f"an unpruned network trained as long, {short_spread(against)}"


def _end(one: Reach) -> str:
    """Say why an arm's reach ends at a level, if it is not for its accuracy."""
    ends = {"highest": "; the highest level tried", "missing": "; the highest level done so far"}
    return ends.get(one.end, "")


def _already(results: Results, one: Reach) -> str:
    """Say at which level an arm falls behind; nothing for one without a grid."""
    return f" already at {results.place(one.first_level)}, its lowest level" * bool(one.first_level)


def _second(results: Results, found: Contrast | None) -> str:
    main = results.arms("main")
    if not main:
        return ""
    if found is None and len(main) == 1 and _beside(results, main[0]) is None:
        return "With one arm alone there is nothing to compare it with."
    if found is None:
        return "No two arms are measured at the same level and seed yet, so none can be compared."
    better, worse = (results.interval(*side) for side in (found.better, found.worse))
    level = max(found.better[1], found.worse[1])
    if better is None or worse is None:  # for the type checker: a contrast has both
        return ""
    figures = (
        f"{results.named(found.better[0])} reaches {percent(better.mean, 1)}% and "
        f"{results.named(found.worse[0])} {percent(worse.mean, 1)}%, "
        f"{_difference(results, found.difference)}"
    )
    if not level:
        few = len(main) <= 2
        return f"{sentence(figures) if few else f'The largest contrast: {figures}'}."
    if len(main) == 1:
        sides = (found.better[0], found.worse[0])
        other = next(arm for arm in sides if arm != main[0].name)
        both = f"{results.named(main[0].name)} and {results.named(other)}"
        return f"{sentence(both)} differ most at {results.place(level)}: {figures}."
    if len(main) == 2:
        return f"The two differ most at {results.place(level)}: {figures}."
    return f"The largest contrast between two arms is at {results.place(level)}: {figures}."


def _difference(results: Results, difference: Interval) -> str:
    mean = decimal(100 * difference.mean, 1)
    if difference.low is None or difference.high is None:
        return f"a difference of {mean} points with one {results.unit}"
    interval = bounded(difference, 1.0)
    low, high = (decimal(100 * (one or 0.0), 1) for one in (interval.low, interval.high))
    doubt = ", which these seeds cannot tell from none" if difference.low <= 0 else ""
    units = results.counted_units(difference.count)
    return f"a paired difference of {mean} [{low}, {high}] points over {units}{doubt}"


FIXED = (
    "Every interval is for a number of {units} that was fixed in advance: whoever looks at a "
    "verdict and adds {units} until it pleases is wrong more often than 5%."
)


def interval_note(results: Results) -> str:
    """Say what the intervals of a study cover; nothing where there are none.

    Sequential looks widen the error (Armitage, McPherson and Rowe 1969, "Repeated significance
    tests on accumulating data", Journal of the Royal Statistical Society A 132), and seeds share
    the test set, whose own chance is a binomial one.
    """
    if not results.unit_counts or results.unit_counts[-1] < 2:
        return ""
    units = "pairs of seeds" if results.study.paired else "seeds"
    return f"{FIXED.format(units=units)}{_test_set(results)}"


def _test_set(results: Results) -> str:
    """Say by how much another test set would move the accuracy of the first network measured."""
    step = results.resolution(ACCURACY)
    intervals = ((arm, results.interval(arm, level)) for arm, level in results.asked)
    known = [(arm, interval) for arm, interval in intervals if interval]
    if not step or not known:
        return ""
    (arm, interval), count = known[0], round(1 / step)
    half = decimal(100 * binomial_half_width(interval.mean, count), 2)
    return (
        f" The {count:,} test examples are the same for all seeds, and the intervals cover the "
        f"chance of the seeds, not of these: other test examples would move the "
        f"{percent(interval.mean, 1)}% of {results.named(arm)} by ± {half} points (95%, "
        "Wilson)."
    )


LEARNT = 0.1
"""Share of the way from guessing to no error at all that a network has to go."""

_OF_ANSWERS = ("test_", "train_", "running_", "validation_")
"""How measures begin that are taken of what networks answer, not of their size or speed."""


def chance_note(results: Results) -> str:
    """Say of which datasets no network does much better than guessing; nothing where one does.

    Networks at chance are on a par with each other, whatever is done to them.
    """
    sentences = []
    for dataset in results.datasets:
        found = list(_accuracies(results, dataset))
        if not found:
            continue
        accuracy, label, chance = max(found)
        if accuracy < _learnt_from(chance):
            sentences.append(_sentence(results, dataset, accuracy, label, chance))
    return " ".join(sentences)


def _accuracies(results: Results, dataset: str) -> Iterator[tuple[float, str, float]]:
    """Yield the mean accuracy of each arm at each level, its label, and that of guessing."""
    for arm in results.study.arms:
        classes = results.classes(arm.name)
        if arm.dataset != dataset or not classes:
            continue
        for level in results.own_levels(arm.name):
            interval = results.interval(arm.name, level, ACCURACY)
            if interval:
                yield interval.mean, arm.label, 1 / classes


def _sentence(results: Results, dataset: str, accuracy: float, label: str, chance: float) -> str:
    where = f" on {dataset}" if len(results.datasets) > 1 else ""
    return (
        f"The highest test accuracy{where} is {percent(accuracy, 1)}% ({inside(label)}), where "
        f"guessing reaches {percent(chance, 1)}%: what is compared so close to guessing says "
        "nothing of networks that have learnt."
    )


def _learnt_from(chance: float) -> float:
    return chance + LEARNT * (1 - chance)


def not_learnt(results: Results, cells: Iterable[tuple[str, float]], measure: str) -> str:
    """Say which of some arms have not learnt, so that no difference from them has a size.

    An arm that ends in training and whose networks are no better than guessing shows that this
    training was too short or impossible, not what a pruning costs; and where only some networks of
    an arm are, the mean over both kinds is that of neither. Networks that are pruned after training
    are what the pruning made of them, at chance, too.

    Returns
    -------
    str
        Empty where all have learnt, or where the measure is not one of what networks answer.
    """
    if not measure.startswith(_OF_ANSWERS) and condition_of(measure) != "leakage":
        return ""
    found = (_without_learning(results, arm, level) for arm, level in cells)
    return "; ".join(note for note in found if note)


def _without_learning(results: Results, arm: str, level: float) -> str:
    classes = results.classes(arm)
    recipe = next(one.recipe for one in results.study.arms if one.name == arm)
    accuracies = list(results.values(arm, level, ACCURACY).values())
    if not classes or not accuracies or not recipe or recipe[-1].get("step") != "train":
        return ""
    unlearnt = [one for one in accuracies if one < _learnt_from(1 / classes)]
    if not unlearnt:
        return ""
    number = "" if len(unlearnt) == len(accuracies) else f"{len(unlearnt)} of "
    reaches = percent(max(unlearnt), 1)
    return (
        f"{number}{counted(len(accuracies), 'network')} of {inside(results.label(arm))} "
        f"{'has' if len(accuracies) == 1 else 'have'} not learnt: {reaches}% at most, where "
        f"guessing reaches {percent(1 / classes, 1)}%"
    )

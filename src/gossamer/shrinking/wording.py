"""What a search found, in sentences."""

from collections.abc import Sequence

import numpy as np

from gossamer.core.formats import counted, duration, epochs_in_words, listed, percent, sentence
from gossamer.records.shrinking import Bounded, Timed, Tried, Weighed
from gossamer.shrinking.data import Data
from gossamer.shrinking.judging import Budget
from gossamer.shrinking.options import Options
from gossamer.shrinking.searching import Found
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import Task, points


def budget_remarks(budget: Budget) -> list[str]:
    """Say beforehand what so many validation examples can show, where that is too little."""
    if budget.is_provable:
        return []
    n, task = len(budget.before), budget.task
    shown = f"a drop of at most {points(budget.max_drop, task)}"
    if budget.min_metric is not None:
        shown = f"that even the network as it is reaches {budget.min_metric:g} {task.name}"
    return [
        f"{counted(n, 'validation example')} {'is' if n == 1 else 'are'} too few to show {shown} "
        f"with {budget.confidence:.0%} confidence: at the least {budget.needed_at_least:,} would "
        "do. Candidates are taken by their estimates instead, which flatter the one that is "
        "chosen; the bound beside each says what is shown."
    ]


def triviality_remarks(budget: Budget, split: Split) -> list[str]:
    """Say where a network that learnt nothing would keep the budget of an accuracy, too."""
    labels = split.classes
    if not budget.task.is_classification or labels is None:
        return []
    commonest = float(np.unique_counts(labels).counts.max() / len(labels))
    own = float(budget.before.mean())
    if own - commonest > budget.may_lose:
        return []
    return [
        f"Giving the commonest class always is right on {commonest:.1%} of the validation "
        f"examples, the network on {own:.1%}: one that tells nothing apart would keep the budget, "
        "so give a smaller one, or a loss and a metric in which each class counts."
    ]


def coverage_remarks(data: Data, task: Task) -> list[str]:
    """Say which classes a part of the data lacks that another has."""
    if not task.is_classification:
        return []
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    held = {
        name: set(split.classes.tolist())
        for name, split in parts.items()
        if split is not None and split.classes is not None
    }
    every: set[int] = set().union(*held.values())
    found = []
    for name, own in held.items():
        lacking = sorted(every - own)
        if not lacking:
            continue
        shown = ", ".join(map(str, lacking[:_SHOWN])) + (", …" if len(lacking) > _SHOWN else "")
        found.append(
            f"No example of {counted(len(lacking), 'class')} that other parts hold is "
            f"in {name} ({shown}): {_LACKING[name]}."
        )
    return found


_SHOWN = 5
_LACKING = {
    "train": "fine-tuning may unlearn them",
    "validation": "the bound says nothing of them",
    "test": "what is lost of them does not show at the end",
}


def findings(
    found: Found,
    budget: Budget,
    options: Options,
    before: Weighed,
    after: Weighed,
    drop: Bounded,
    times: Sequence[Timed],
    part: str,
) -> tuple[str, ...]:
    """Return the answer first, then how it came about."""
    chosen = next((one for one in found.tried if one.chosen), None)
    task = budget.task
    if chosen is None:
        return (_nothing(found.tried, budget), found.ended)
    low, high = (points(one, task).removesuffix(" points") for one in (drop.low, drop.high))
    answer = (
        f"{_gain(chosen, options, times)}: {percent(chosen.sparsity, 1)}% of the "
        f"weights are zero, {after.bytes / before.bytes:.0%} of the bytes are left; {task.name} "
        f"{before.metric.value:.4g} before, {after.metric.value:.4g} after on "
        f"{drop.examples:,} {part} examples, a drop of {points(drop.value, task)} "
        f"({low} to {high})."
    )
    bound = chosen.bound if chosen.bound is not None else chosen.drop
    examples = counted(len(budget.before), "validation example")
    shown = (
        f"On {examples} the drop is {points(chosen.drop, task)}, "
        f"and with {(chosen.confidence or budget.confidence) * 100:.3g}% confidence at most "
        f"{points(bound, task)}"
    )
    shown += "." if budget.is_provable else ": the budget is kept by the estimate alone."
    return (answer, shown, found.ended)


def _gain(chosen: Tried, options: Options, times: Sequence[Timed]) -> str:
    """Say what was gained; of speed beside whatever runs the dense network fastest."""
    if options.target != "latency":
        gain = {"size": "times smaller", "flops": "times less work"}
        return f"{chosen.speed_up:.1f} {gain[options.target]}"
    here = [one for one in times if one.batch == options.batch]
    rival = min((o for o in here if o.network == "dense"), key=lambda one: one.latency.median)
    own = min(one.latency.median for one in here if one.network == "shrunk")
    if own > rival.latency.median:
        return (
            f"Not faster: a batch of {options.batch} takes {own / rival.latency.median:.1f} times "
            f"as long as the dense network where that is fastest, in {rival.runner}"
        )
    return (
        f"{rival.latency.median / own:.1f} times as fast as the dense network where that is "
        f"fastest, in {rival.runner}, at batch {options.batch}"
    )


def _nothing(tried: tuple[Tried, ...], budget: Budget) -> str:
    task = budget.task
    if not tried:
        return "The dense network stays: nothing smaller was tried to its end."
    if any(one.within for one in tried):
        return "The dense network stays: no candidate within the budget was faster."
    first = tried[0]
    text = (
        f"The dense network stays: the safest candidate already lost {points(first.drop, task)}, "
        f"at most {points(first.bound or first.drop, task)}, of {points(budget.may_lose, task)} "
        "that may be lost"
    )
    if budget.min_metric is not None:
        return f"{text}."
    needed = budget.needed(max(first.changed, budget.max_drop))
    if budget.is_provable and first.drop < budget.max_drop and needed > len(budget.before):
        text += (
            f". {needed:,} validation examples, instead of {len(budget.before):,}, would show it "
            "of a network that is no worse at all"
        )
    return f"{text}."


def widths_kept(pattern: str, before: Weighed, after: Weighed) -> str:
    """Say that a plain module is no narrower though whole units were pruned; empty where it is."""
    pruned = "unit" in pattern and after.nonzero < before.nonzero
    if not pruned or after.parameters < before.parameters:
        return ""
    return (
        "The plain module is as wide as it was, with zeros in the place of the units: they cannot "
        "be cut out of it (print gossamer.compression.compaction_report of found.masked for the "
        "reasons)."
    )


def faster(found: Sequence[Timed]) -> str:
    """Say how many times faster than the dense network the new one is, by batch and runner."""
    new = {one.batch: one.latency.median for one in found if one.network == "shrunk"}
    told = [
        f"{one.latency.median / new[one.batch]:.1f} times as fast as {one.runner} on the dense "
        f"network at batch {one.batch}"
        for one in found
        if one.network == "dense"
    ]
    return f"{sentence(listed(told))}, with {counted(found[0].threads, 'thread')}." if told else ""


def spent(epochs: float, seconds: float, foretold: str) -> str:
    """Say what a search took."""
    return (
        f"It took {duration(seconds)} ({foretold} was foretold) and {epochs_in_words(epochs)} of "
        "fine-tuning."
    )

"""Whether a candidate keeps the budget: shown by a bound, or by its estimate where none can be had.

In which order, and how surely, `gossamer.shrinking.ordering` says.
"""

import math
from dataclasses import dataclass, replace

from scipy import special
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.records.shrinking import Bounded
from gossamer.shrinking.task import Task
from gossamer.stats import paired_drop
from gossamer.stats.paired_drop import (
    Pairs,
    drop_bound,
    drop_p_value,
    examples_needed,
    mean_drop_bound,
)


def check_asked(task: Task, max_drop: float | None, min_accuracy: float | None) -> None:
    """Refuse a budget that says two things, nothing where no default can be meant, or everything.

    Raises
    ------
    InputError
        If both are given, or none for a metric of one's own, whose unit is not known, or a share
        of one or more, which percent are.
    """
    if max_drop is not None and min_accuracy is not None:
        raise InputError("min_accuracy cannot stand beside max_drop: leave one of them out")
    if max_drop is None and min_accuracy is None and not task.is_classification:
        raise InputError(
            f"max_drop is missing: say by how much {task.name}, a metric of your own, may get "
            "worse, in its own unit, or what it must reach, as min_accuracy"
        )
    if task.is_binary and max_drop is not None and max_drop >= 1:
        raise InputError(
            f"max_drop is {max_drop:g}, but a share below 1 was expected, such as 0.005 for half a "
            f"point: {max_drop:g} points are {max_drop / 100:g}"
        )


_CHANGED = 2.0
"""How many budgets' worth of examples a pruned network answers otherwise, at the least."""


@dataclass(frozen=True, eq=False)
class Budget:
    """What may be lost, and how surely."""

    task: Task
    before: Tensor
    """Metric of the dense network on each validation example."""
    max_drop: float
    min_metric: float | None
    confidence: float

    @property
    def may_lose(self) -> float:
        """By how much the metric may get worse; what is above `min_metric`, where that counts."""
        if self.min_metric is None:
            return self.max_drop
        gap = float(self.before.mean()) - self.min_metric
        return gap if self.task.higher_is_better else -gap

    @property
    def is_provable(self) -> bool:
        """Whether so many examples can show such a budget; settled before any candidate is."""
        return self.can_show(self.confidence)

    def can_show(self, confidence: float) -> bool:
        """Return whether so many examples can show such a budget as surely."""
        if self.min_metric is not None:
            return _surely_reaches(self, self.before, confidence)
        needed = replace(self, confidence=confidence).needed(_CHANGED * self.max_drop)
        return len(self.before) >= needed

    @property
    def needed_at_least(self) -> int:
        """How many examples could show a network that is as good as the dense one."""
        if self.min_metric is None:
            return self.needed(_CHANGED * self.max_drop)
        spread = float(self.before.double().var(correction=0)) / self.may_lose**2
        return max(30, math.ceil(float(special.ndtri(self.confidence)) ** 2 * spread))

    def needed(self, changed: float) -> int:
        """Return how many examples would do for a network that differs on such a share of them."""
        if not self.task.is_binary:
            return 30
        return examples_needed(self.max_drop, changed, self.confidence)


@dataclass(frozen=True)
class Judged:
    """What validation data says of a candidate."""

    metric: float
    drop: float
    bound: float
    changed: float
    within: bool


def judged(budget: Budget, after: Tensor, confidence: float | None = None) -> Judged:
    """Judge a candidate by its metric on each validation example.

    The confidence of its bound is the budget's where it is None.
    """
    sure = budget.confidence if confidence is None else confidence
    drops = budget.task.drop(budget.before, after)
    drop, changed = float(drops.mean()), float((drops != 0).double().mean())
    metric = float(after.double().mean())
    if budget.task.is_binary and not are_shares(after):  # a metric of one's own, seen as 0 and 1
        budget = replace(budget, task=replace(budget.task, is_binary=False))
    bound = bound_of(budget.task, drops, sure)
    if not budget.is_provable:
        within = drop <= budget.max_drop if budget.min_metric is None else _reaches(budget, metric)
    elif budget.min_metric is not None:
        within = _surely_reaches(budget, after, sure)
    elif budget.task.is_binary:
        within = drop_p_value(pairs_of(drops), budget.max_drop) <= 1 - sure
    else:
        within = bound <= budget.max_drop
    return Judged(metric, drop, bound, changed, within)


def are_shares(values: Tensor) -> bool:
    """Return whether a metric is 0 or 1 of each example, so that exact tests of shares apply."""
    return bool(((values == 0) | (values == 1)).all())


def pairs_of(drops: Tensor) -> Pairs:
    """Return drops of 1, 0 and -1 as counts."""
    return Pairs(len(drops), int((drops > 0).sum()), int((drops < 0).sum()))


def bound_of(task: Task, drops: Tensor, confidence: float) -> float:
    """Return what the true drop does not exceed."""
    if task.is_binary:
        return drop_bound(pairs_of(drops), confidence)
    return mean_drop_bound(drops.tolist(), confidence)


def drop_interval(task: Task, drops: Tensor, confidence: float) -> Bounded:
    """Return the drop with an interval of two bounds."""
    if task.is_binary:
        low, high = paired_drop.drop_interval(pairs_of(drops), confidence)
    else:
        each = (1 + confidence) / 2
        low, high = -mean_drop_bound((-drops).tolist(), each), mean_drop_bound(drops.tolist(), each)
    return Bounded(value=float(drops.mean()), low=low, high=high, examples=len(drops))


def mean_bounds(task: Task, values: Tensor, confidence: float) -> Bounded:
    """Return the mean of a metric with its interval; of shares that of Clopper and Pearson."""
    n, mean, error = len(values), float(values.double().mean()), (1 - confidence) / 2
    if task.is_binary:
        hits = round(float(values.sum()))
        low = float(special.betaincinv(hits, n - hits + 1, error)) if hits else 0.0
        high = float(special.betaincinv(hits + 1, n - hits, 1 - error)) if hits < n else 1.0
        return Bounded(value=mean, low=low, high=high, examples=n)
    high = mean_drop_bound(values.tolist(), 1 - error)
    low = -mean_drop_bound((-values).tolist(), 1 - error)
    finite = math.isfinite(high)
    return Bounded(value=mean, low=low if finite else mean, high=high if finite else mean,
                   examples=n)  # fmt: skip


def _reaches(budget: Budget, metric: float) -> bool:
    least = budget.min_metric or 0.0
    return metric >= least if budget.task.higher_is_better else metric <= least


def _surely_reaches(budget: Budget, after: Tensor, confidence: float) -> bool:
    found = mean_bounds(budget.task, after, 2 * confidence - 1)
    return _reaches(budget, found.low if budget.task.higher_is_better else found.high)

"""The descent: candidate after candidate, each pruned further, trained and tested."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import TrainingError
from gossamer.core.formats import counted, epochs_in_words
from gossamer.masks import Mask
from gossamer.records.shrinking import Tried
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.data import Data
from gossamer.shrinking.descent import LEAST_STEPS, MOST, Ground, mask_of
from gossamer.shrinking.fine_tuning import Lesson, StoppedError
from gossamer.shrinking.journal import Journal
from gossamer.shrinking.judging import Budget, judged
from gossamer.shrinking.ordering import Order, early_of
from gossamer.shrinking.pace import Pace
from gossamer.shrinking.planning import Plan, plan
from gossamer.shrinking.task import evaluate, points
from gossamer.shrinking.teaching import Room, rate_for, taught

_TIMED_TOGETHER = 4
_TOGETHER_SECONDS = 2.0
_WORTH = 1.02
"""Speed-up that a candidate needs to be taken in the place of the dense network."""


@dataclass(frozen=True, eq=False)
class Search:
    """Everything that a search works with."""

    dense: nn.Module
    data: Data
    learnt: Lesson
    ground: Ground
    meter: Meter
    budget: Budget
    journal: Journal
    follow: Callable[[str], None]
    stop: Callable[[], bool]
    deadline: float
    """By `time.monotonic`."""
    pace: Pace

    def pulse(self, epochs: float) -> None:
        """Look up from training.

        Raises
        ------
        StoppedError
            If someone asked for an end, or time is over.
        """
        del epochs
        if self.stop():
            raise StoppedError("it was stopped")
        if time.monotonic() > self.deadline:
            raise StoppedError("the time is over")


@dataclass(frozen=True)
class Found:
    """How a search ended."""

    plan: Plan | None
    tried: tuple[Tried, ...]
    chosen: int | None
    """The number of the candidate taken; None: the dense network stays."""
    ended: str
    """Why, as a sentence."""
    finished: bool


def search(task: Search) -> Found:
    """Go down the candidates until one fails, nothing more can be pruned, or time is over."""
    way: Plan | None = None
    try:
        way = _plan(task)
        ended = _descend(task, way)
        finished = True
    except (StoppedError, KeyboardInterrupt) as reason:
        ended = f"The search ended early: {reason or 'it was stopped'}."
        finished = "time" in str(reason)
    tried = _timed_together(task)
    chosen = taken(tried)
    if chosen is not None:
        tried = [replace_chosen(one, chosen.number) for one in tried]
    return Found(way, tuple(tried), chosen.number if chosen else None, ended, finished)


def _timed_together(task: Search) -> list[Tried]:
    """Return the candidates, the sparsest that could be taken timed anew, in turn.

    Each was timed beside the dense network alone, at a moment of its own.
    """
    tried = list(task.journal.tried)
    last = [one for one in tried if one.within][-_TIMED_TOGETHER:]
    if task.meter.target != "latency" or len(last) < 2:
        return tried
    task.follow("timing the last candidates in turn")
    networks = [restored(task, one.number)[0] for one in last]
    found = task.meter.in_turn(networks, _TOGETHER_SECONDS)
    for one, (cost, speed_up) in zip(last, found, strict=True):
        tried[one.number] = one.model_copy(update={"cost": cost, "speed_up": speed_up})
    return tried


def taken(tried: Sequence[Tried]) -> Tried | None:
    """Return the candidate within the budget that gains most; None if none is worth it.

    Speed-ups are ratios of runs that took turns; seconds alone are of different moments.
    """
    good = [one for one in tried if one.within and one.speed_up >= _WORTH]
    return max(good, key=lambda one: (one.speed_up, -one.drop), default=None)


def replace_chosen(one: Tried, number: int) -> Tried:
    """Return a candidate with whether it is the one that was taken."""
    return one.model_copy(update={"chosen": one.number == number})


def _plan(task: Search) -> Plan:
    known = task.journal.note("plan")
    if known is not None:
        made, asked = Plan.of(known), task.ground.options.rate
        if asked is not None and made.rate != asked:
            raise task.journal.another()
        return made
    made = plan(
        task.dense, task.learnt, task.ground, task.meter, _epochs_in_time(task), task.pulse,
        task.follow, timed=task.pace.times_layers(task.ground.options, _left(task)),
    )  # fmt: skip
    made = replace(
        made, epochs=_affordable(task, made), early=early_in(task.budget, len(made.rungs))
    )
    task.journal.write("plan", made.to_dict())
    task.journal.keep_time()
    return made


def early_in(budget: Budget, count: int) -> int:
    """Return how many of so many candidates are early: none where too few examples are known."""
    early = early_of(count)
    sure = Order(early, budget.confidence).sure(())
    return 0 if budget.is_provable and not budget.can_show(sure) else early


def _left(task: Search) -> float:
    """Return the seconds that are left."""
    return task.deadline - time.monotonic()


def _epochs_in_time(task: Search) -> float:
    """Return how many of the epochs the time that is left has room for, beside what is measured."""
    asked = float(task.ground.options.epochs)
    if not task.pace.epoch or task.deadline == math.inf:
        return asked
    planning = task.pace.planning(task.ground.options, _left(task))
    left = (_left(task) - planning - MOST * task.pace.candidate) / task.pace.epoch
    return min(asked, max(left, LEAST_STEPS / task.learnt.steps))


def _affordable(task: Search, made: Plan) -> tuple[float, ...]:
    """Return so many epochs of each candidate as the time that is left has room for."""
    left = _left(task) - len(made.rungs) * task.pace.candidate
    whole = sum(made.epochs) * task.pace.epoch
    if not whole or left >= whole:
        return made.epochs
    share, least = max(0.0, left / whole), LEAST_STEPS / task.learnt.steps
    return tuple(max(one * share, min(one, least)) for one in made.epochs)


def _descend(task: Search, way: Plan) -> str:
    if not way.helps:
        return f"Nothing was trained, as {way.reason}."
    journal, order = task.journal, Order(way.early, task.budget.confidence)
    network = plain_copy(task.dense)
    mask = task.ground.given
    if journal.tried:
        mask = journal.restore(len(journal.tried) - 1, network)
    for number in range(len(journal.tried), len(way.rungs)):
        if order.has_ended(_within(journal)):
            break
        task.pulse(0.0)
        if time.monotonic() + _needed(task, way, number) > task.deadline:
            raise StoppedError("the time that is left is too short for another candidate")
        try:
            mask = _candidate(task, way, number, network, mask)
        except TrainingError as error:
            if not journal.tried:
                raise
            return f"The search ended at candidate {number + 1}: {error}."
    if order.has_ended(_within(journal)):
        after = f" after the {way.early} early ones" if way.early else ""
        return (
            f"The search ended at candidate {len(journal.tried)}, the first{after} that is not "
            "within the budget."
        )
    if len(way.rungs) == 1:
        return "The one candidate that was planned is within the budget."
    if all(one.within for one in journal.tried):
        return f"All {counted(len(way.rungs), 'candidate')} are within the budget."
    return "The sparsest candidate is within the budget."


def _within(journal: Journal) -> list[bool]:
    return [one.within for one in journal.tried]


def _needed(task: Search, way: Plan, number: int) -> float:
    """Return the seconds of a candidate; of a training of one's own as the last one took."""
    epoch = task.pace.epoch
    if task.learnt.train is not None and task.journal.tried:
        last = task.journal.tried[-1]
        epoch = max(0.0, last.seconds - task.pace.candidate) / last.epochs
    return _room(task, way, number).share * epoch + task.pace.candidate


def _room(task: Search, way: Plan, number: int) -> Room:
    """Return the epochs of a candidate: those that are left, shared out as was planned."""
    if task.learnt.train is not None:
        return Room(way.epochs[number], way.epochs[number])
    left = sum(way.epochs) - sum(one.epochs for one in task.journal.tried)
    share = left * way.epochs[number] / sum(way.epochs[number:])
    if not task.pace.epoch or task.deadline == math.inf:
        return Room(share, left)
    return Room(share, min(left, (_left(task) - task.pace.candidate) / task.pace.epoch))


def _candidate(
    task: Search, way: Plan, number: int, network: nn.Module, before: Mask | None
) -> Mask:
    """Make, train, measure and keep one candidate."""
    rung, room = way.rungs[number], _room(task, way, number)
    started = time.perf_counter()
    task.follow(f"candidate {number + 1}: {rung}, {epochs_in_words(room.share)}")
    mask = mask_of(rung, network, before, task.ground)
    rate = way.rate
    if task.ground.options.rate is None:
        rate = rate_for(rate, room.share * task.learnt.steps, way.place(number))
    found_before = task.journal.tried[-1].distance if task.journal.tried else None
    taught_so = taught(
        task.dense, network, mask, replace(task.learnt, rate=rate), room, found_before, number,
        task.pulse, task.follow,
    )  # fmt: skip
    task.follow(f"candidate {number + 1}: measuring")
    values = evaluate(network, task.data.validation, task.budget.task)
    order, known = Order(way.early, task.budget.confidence), _within(task.journal)
    sure = order.sure(known)
    verdict = judged(task.budget, values, sure)
    cost, speed_up = task.meter.speed_up(plain_copy(network).cpu().eval())
    found = Tried(
        number=number,
        pattern=rung.pattern,
        sparsity=mask.sparsity,
        cost=cost,
        speed_up=speed_up,
        metric=verdict.metric,
        drop=verdict.drop,
        bound=verdict.bound,
        changed=verdict.changed,
        within=verdict.within and order.is_tested(known),
        chosen=False,
        epochs=taught_so.epochs,
        seconds=time.perf_counter() - started,
        losses=taught_so.losses,
        distance=taught_so.distance,
        confidence=sure if way.early else None,
    )
    task.journal.keep(found, network, mask)
    task.follow(
        f"candidate {number + 1}: {speed_up:.1f} times, drop "
        f"{points(verdict.drop, task.budget.task)}, at most "
        f"{points(verdict.bound, task.budget.task)}"
        f"{'' if found.within else ': not taken' if verdict.within else ': not within the budget'}"
    )
    return mask


def restored(task: Search, number: int) -> tuple[nn.Module, Mask]:
    """Return a candidate as it was, on the processor and in evaluation mode."""
    network = plain_copy(task.dense)
    mask = task.journal.restore(number, network)
    return network.cpu().eval().requires_grad_(requires_grad=False), mask

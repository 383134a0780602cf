"""What a run shows while it goes on: a progress bar, or plain lines where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gossamer.core.formats import compact, counted, duration
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record
from gossamer.studies.plan import arms_at
from gossamer.studies.preview import Preview
from gossamer.studies.run import Estimate, Prepared
from gossamer.studies.tasks import Event, Failure, Pulse

_PLAIN_SECONDS = 10.0
_TRIAL_STEPS = 60
"""What a measured trial counts beside optimizer steps, so that the bar moves evenly."""


def beginning(prepared: Prepared) -> str:
    """Return one sentence on what a run is about to do."""
    plan = prepared.plan
    given_up = [one.reason for one in prepared.given_up]
    left_out = "".join(f"\nLeft out, as it failed before: {reason}." for reason in given_up)
    left_out += "\n--retry-failed tries it again." if given_up else ""
    if not prepared.anything_left and given_up:
        return f"Nothing left to do that did not fail before.{left_out}"
    if not prepared.anything_left:
        trials = len(plan.trials)
        done = "the one trial is" if trials == 1 else f"all {counted(trials, 'trial')} are"
        return f"Nothing left to do: {done} done."
    return (
        f"{prepared.spec.name}, {prepared.scale} scale, {counted(prepared.seeds, 'seed')}: "
        f"{counted(len(plan.trainings), 'training')} and {plan.trials_left} of "
        f"{counted(len(plan.trials), 'trial')} to do{_about(prepared.estimate)} "
        f"{_in_what(prepared)}{_then_jointly(len(prepared.joints_left))}.{left_out}"
    )


def _about(estimate: Estimate | None) -> str:
    """Say about what something takes, in time and on disk."""
    if estimate is None:
        return ","
    size = compact(estimate.kept_bytes, "B")
    if estimate.seconds is None:
        return f", about {size} on disk,"
    return f", about {duration(estimate.seconds)} and {size} on disk,"


def _by_whom(prepared: Prepared) -> str:
    """Say who does the work."""
    threads, scheduler = counted(prepared.threads, "thread"), prepared.request.scheduler
    if scheduler is None:
        return f"in {counted(prepared.jobs, 'process')} of {threads}"
    most = prepared.request.jobs
    workers = "the workers" if most is None else f"at most {counted(most, 'worker')}"
    return f"by {workers} of the cluster at {scheduler}, {threads} each"


def _in_what(prepared: Prepared) -> str:
    """Say in what an estimated time passes; how fast the workers of a cluster are, nobody knows."""
    if prepared.request.scheduler is None:
        return _by_whom(prepared)
    return f"of work in one process here, to be done {_by_whom(prepared)}"


def _then_jointly(joints: int) -> str:
    """Say what follows, one by one, once every network is there."""
    return f", then {counted(joints, 'joint measure')}" if joints else ""


def plan_table(prepared: Prepared, seen: Preview) -> Iterator[RenderableType]:
    """Yield what a dry run prints."""
    yield Text(prepared.spec.title, style="bold")
    yield (
        f"{prepared.scale} scale, {counted(prepared.seeds, 'seed')}, {prepared.spec.data.name}, "
        f"{_networks(prepared)}, results in {prepared.request.folder}\n"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("Arm")
    for header in ("Trials", "Done", "Optimizer steps, each alone"):
        table.add_column(header, justify="right")
    for arm in seen.arms:
        table.add_row(Text(arm.label), f"{arm.trials}", f"{arm.done}", f"{arm.optimizer_steps:,}")
    yield table
    yield (
        f"\nShared: {seen.steps_shared:,} optimizer steps instead of {seen.steps_alone:,}, "
        f"a factor of {seen.sharing:.1f}."
    )
    if not seen.trials_left:
        joints = counted(seen.joints_left, "joint measure")
        yield f"Left: {joints if seen.joints_left else 'nothing'}, every trial is done."
        return
    yield (
        f"Left: {counted(seen.trainings_left, 'training')} "
        f"({counted(seen.steps_left, 'optimizer step')}) and "
        f"{counted(seen.trials_left, 'trial')} to measure{_about(seen.estimate)} "
        f"{_in_what(prepared)}{_then_jointly(seen.joints_left)}."
    )


def _networks(prepared: Prepared) -> str:
    """Name the networks, with what one's own are called with."""
    arms = arms_at(prepared.spec, prepared.scale)
    named = [(arm.network or prepared.spec.network).shown for arm in arms]
    return " and ".join(dict.fromkeys(named))


class Display(AbstractContextManager["Display"]):
    """Follows the events of a run; a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, prepared: Prepared, console: Console) -> None:
        plan, joints = prepared.plan, len(prepared.joints_left)
        self._total = plan.steps_left + _TRIAL_STEPS * (plan.trials_left + joints)
        self._trainings = {training.key: training.steps for training in plan.trainings}
        self._running: dict[str, int] = {}
        self._done = 0
        self._counts = {"trainings": 0, "trials": 0, "joint measures": 0}
        self._goals = {
            "trainings": len(plan.trainings),
            "trials": plan.trials_left,
            "joint measures": joints,
        }
        self._loss = ""
        self._failed = 0
        self._started = time.monotonic()
        self._show = _Bar(console, self._total) if console.is_terminal else _Lines(console)

    def __enter__(self) -> Self:
        self._show.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._show.__exit__(kind, error, trace)

    def follow(self, event: Event) -> None:
        """Take note of an event and show how far the run is."""
        match event:
            case Pulse():
                self._running[event.key] = event.steps
                if event.loss is not None:
                    self._loss = f", epoch {event.epoch}, loss {event.loss:.3f}"
            case Phase():
                self._running.pop(event.key, None)
                self._done += self._trainings.get(event.key, 0)
                self._counts["trainings"] += 1
                self._loss = ""
            case Record():
                self._done += _TRIAL_STEPS
                self._counts["trials"] += 1
            case JointRecord():
                self._done += _TRIAL_STEPS
                self._counts["joint measures"] += 1
            case Failure():
                self._failed += 1
                self._show.say(f"failed: {event.reason}")
        progress = self._done + sum(self._running.values())
        self._show.update(progress, self._total, self._text())

    def _text(self) -> str:
        parts = [
            f"{done} of {self._goals[what]} {what}"
            for what, done in self._counts.items()
            if self._goals[what]
        ]
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{', '.join(parts)}{failed}{self._rate()}{self._loss}"

    def _rate(self) -> str:
        """Say how many trials are measured in a minute, once some are."""
        minutes = (time.monotonic() - self._started) / 60
        done = self._counts["trials"]
        return f", {done / minutes:.3g} trials a minute" if done and minutes > 0.1 else ""


class _Bar:
    def __init__(self, console: Console, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=total)

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, progress: float, total: float, text: str) -> None:
        self._progress.update(self._task, completed=progress, total=total, description=text)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._last = time.monotonic()
        self._first: tuple[float, float] | None = None
        """When there was something done for the first time, and how much: before, processes start,
        which says nothing of what is left."""

    def __enter__(self) -> None:
        self._started = self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, progress: float, total: float, text: str) -> None:
        now = time.monotonic()
        if self._first is None and progress:
            self._first = now, progress
        if now - self._last < _PLAIN_SECONDS and progress < total:
            return
        self._last = now
        share = 100 * progress / total if total else 100.0
        taken = now - self._started
        left = self._left(now, progress, total)
        about = f", about {duration(left)} left" if left else ""
        self.say(f"{share:3.0f}%  {text}  ({duration(taken)}{about})")

    def _left(self, now: float, progress: float, total: float) -> float:
        """Return about how many seconds are left; 0 where that cannot be told."""
        began, done = self._first or (now, progress)
        return (now - began) * (total - progress) / (progress - done) if progress > done else 0.0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

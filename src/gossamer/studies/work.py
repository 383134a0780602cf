"""Doing the tasks of a plan, in this process or in several.

Whoever does a task hands back what was made, piece by piece; the driving process alone writes
the database. Tasks start as soon as the trained states they need are there.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.core.errors import GossamerError, UnwritableError
from gossamer.data import Dataset, load
from gossamer.recipes import DataSpec, KeyedTrial
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record
from gossamer.records.store import checkpoint_path, state_path, statistics_path
from gossamer.studies.plan import Plan, Task, Training

if TYPE_CHECKING:
    from gossamer.train.loop import Standing


@dataclass(frozen=True)
class Site:
    """Where the work is done."""

    folder: Path
    """The store's."""
    data_root: Path | None
    """Where datasets lie on disk."""
    threads: int
    """Of each process."""
    home: Path | None = None
    """From where relative paths and modules of the user's own are meant, if not from here."""


@dataclass(frozen=True)
class Pulse:
    """A training under way: optimizer steps done and in all, and where it stands."""

    key: str
    steps: int
    total: int
    epoch: int
    loss: float | None
    """Training loss of the last finished epoch."""


@dataclass(frozen=True)
class Failure:
    """A training or a measurement that could not be done, and why."""

    trial: KeyedTrial
    """The trial it was done for; others may need the same training."""
    state: str | None
    """Key of the trained state that there will not be; None for a measurement."""
    reason: str


Event = Phase | Record | JointRecord | Pulse | Failure
"""What the doing of tasks brings about."""

Watch = Callable[[Pulse], bool]
"""Called about twice a second during training; a true answer stops it."""


@cache
def _dataset(name: str, root: Path | None) -> Dataset:
    return load(name, root)


def forget_datasets() -> None:
    """Have datasets loaded anew, in a process that outlives a run."""
    _dataset.cache_clear()


def dataset_of(data: DataSpec, root: Path | None) -> Dataset:
    """Return a dataset, loaded once in a process."""
    return _dataset(data.name, root)


def _attempt(
    trial: KeyedTrial, state: str | None, do: Callable[[KeyedTrial], Phase | Record]
) -> Phase | Record | Failure:
    """Do one thing for a trial; what goes wrong with it must not cost other trials."""
    try:
        return do(trial)
    except UnwritableError:
        raise  # of the others, too
    except GossamerError as error:
        return Failure(trial, state, str(error))


class Hand:
    """Does tasks in this process."""

    def __init__(self, site: Site, watch: Watch) -> None:
        from gossamer.recipes.trial_runner import TrialRunner  # imports torch

        self._watch = watch
        self._training: Training | None = None
        self._runner = TrialRunner(
            dataset=lambda data: dataset_of(data, site.data_root),
            state_path=partial(state_path, site.folder),
            checkpoint_path=partial(checkpoint_path, site.folder),
            statistics_path=partial(statistics_path, site.folder),
            pulse=self._pulse,
        )

    def do(self, task: Task) -> Iterator[Phase | Record | Failure]:
        """Do a task, and yield what it makes.

        Raises
        ------
        UnwritableError
            If the folder takes no more.
        Interrupted
            If the watch asked a training to stop; a checkpoint was kept.
        """
        if isinstance(task, Training):
            self._training = task
            train = partial(self._runner.train, position=task.position)
            yield _attempt(task.keyed, task.key, train)
        else:
            for trial in task.trials:
                measure = partial(self._runner.measure, names=task.names.get(trial.record))
                yield _attempt(trial, None, measure)

    def _pulse(self, total: int, standing: "Standing") -> bool:
        assert self._training is not None
        loss = standing.history[-1].train_loss if standing.history else None
        return self._watch(
            Pulse(self._training.key, standing.steps, total, len(standing.history), loss)
        )


def do_here(
    plan: Plan, site: Site, handle: Callable[[Event], None], should_stop: Callable[[], bool]
) -> None:
    """Do what a plan leaves, one task after the other, in this process."""
    from gossamer.train.loop import Interrupted

    def watch(pulse: Pulse) -> bool:
        handle(pulse)
        return should_stop()

    hand = Hand(site, watch)
    waiting = Waiting(plan, _by_seed(plan))
    while (task := waiting.take()) is not None:
        try:
            for event in hand.do(task):
                waiting.note(event)
                handle(event)
                if should_stop():
                    return
        except Interrupted:
            return


class Waiting:
    """The tasks that are left, given out in an order once what they need is there."""

    def __init__(self, plan: Plan, order: Iterable[Task]) -> None:
        self._tasks: list[Task] = list(order)
        self._undone = {training.key for training in plan.trainings}

    def take(self) -> Task | None:
        """Take the first task that can be done now; None if there is none."""
        for position, task in enumerate(self._tasks):
            if not task.needs & self._undone:
                return self._tasks.pop(position)
        return None

    @property
    def is_empty(self) -> bool:
        """Whether all tasks were given out."""
        return not self._tasks

    def put_back(self, task: Task) -> None:
        """Take a task back that could not be done where it was given to."""
        self._tasks.insert(0, task)

    def note(self, event: Event) -> None:
        """Take note of a state that is done, or of one that will never be."""
        if isinstance(event, Phase):
            self._undone.discard(event.key)
        if isinstance(event, Failure) and event.state is not None:
            self._give_up({event.state})

    def _give_up(self, keys: set[str]) -> None:
        """Drop the tasks that need a state that cannot be had, and those that need theirs."""
        while keys:
            lost = [task for task in self._tasks if task.needs & keys]
            self._tasks = [task for task in self._tasks if not task.needs & keys]
            keys = {task.key for task in lost if isinstance(task, Training)}


def _by_seed(plan: Plan) -> list[Task]:
    """Order tasks so that one seed is complete before the next one starts."""
    return sorted(plan.tasks, key=_seed_of)


def _seed_of(task: Task) -> int:
    keyed = task.keyed if isinstance(task, Training) else task.trials[0]
    return keyed.trial.seed

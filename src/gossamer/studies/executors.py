"""Doing what a plan leaves, by whoever does tasks: this process, a pool of them, or a cluster.

An executor takes tasks from its queue and gives back what comes of them, piece by piece; the
driving process alone writes the database. A task is offered as soon as the trained states that it
needs are there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from heapq import heappop, heappush
from typing import Protocol

from gossamer.records.record import Phase
from gossamer.studies.plan import Plan, Task, Training
from gossamer.studies.tasks import Event, Failure, Site, TaskRunner, Watch


class TaskQueue:
    """The tasks that are left, given out in an order once what they need is there.

    Those that wait are found by what they wait for, however many others there are.
    """

    def __init__(self, plan: Plan, order: Iterable[Task]) -> None:
        undone = {training.key for training in plan.trainings}
        self._ready: list[tuple[int, Task]] = []
        """A heap, by the place in the order."""
        self._blocked: dict[int, tuple[Task, set[str]]] = {}
        """Tasks by their place, each with what it still waits for."""
        self._waiting: dict[str, list[int]] = {}
        """Places of the tasks that wait for a state."""
        self._first = 0
        for place, task in enumerate(order):
            if lacking := set(task.needs & undone):
                self._blocked[place] = (task, lacking)
                for key in lacking:
                    self._waiting.setdefault(key, []).append(place)
            else:
                self._ready.append((place, task))

    def take(self) -> Task | None:
        """Take the first task that can be done now; None if there is none."""
        return heappop(self._ready)[1] if self._ready else None

    @property
    def is_empty(self) -> bool:
        """Whether all tasks were given out."""
        return not (self._ready or self._blocked)

    def put_back(self, task: Task) -> None:
        """Take a task back, as the first one, that could not be done where it was given to."""
        self._first -= 1
        heappush(self._ready, (self._first, task))

    def note(self, event: Event) -> None:
        """Take note of a state that is done, or of one that will never be."""
        if isinstance(event, Phase):
            self._unblock(event.key)
        if isinstance(event, Failure) and event.state is not None:
            self._give_up(event.state)

    def _unblock(self, key: str) -> None:
        for place in self._waiting.pop(key, ()):
            if place in self._blocked:  # and not given up
                task, lacking = self._blocked[place]
                lacking.discard(key)
                if not lacking:
                    del self._blocked[place]
                    heappush(self._ready, (place, task))

    def _give_up(self, key: str) -> None:
        """Drop the tasks that need a state that cannot be had, and those that need theirs."""
        for place in self._waiting.pop(key, ()):
            task, _ = self._blocked.pop(place, (None, None))
            if isinstance(task, Training):
                self._give_up(task.key)


class Executor(Protocol):
    """Whoever does tasks."""

    queue: TaskQueue

    def take_tasks(self) -> bool:
        """Take the tasks that can be begun now, and tell whether any is under way."""

    def events(self) -> Iterator[Event]:
        """Yield what has come about; of nothing, soon."""

    def dismiss(self, handle: Callable[[Event], None], *, at_once: bool) -> None:
        """End what is under way at its next safe point or at once, and hand on what comes of it."""


def execute(
    executor: Executor, handle: Callable[[Event], None], should_stop: Callable[[], bool]
) -> None:
    """Have an executor do its tasks, until there are none or it should stop.

    Whatever ends it, the executor is dismissed; at once, if asked to stop for the second time.
    """
    at_once = False
    try:
        while not should_stop() and executor.take_tasks():
            for event in executor.events():
                executor.queue.note(event)
                handle(event)
                if should_stop():
                    return
    except KeyboardInterrupt:
        at_once = True
        raise
    finally:
        executor.dismiss(handle, at_once=at_once)


class ThisProcess:
    """Does one task after the other, one seed before the next, in the driving process."""

    def __init__(self, plan: Plan, site: Site, watch: Watch) -> None:
        self.queue = TaskQueue(plan, sorted(plan.tasks, key=_seed))
        self._runner = TaskRunner(site, watch)
        self._task: Task | None = None

    def take_tasks(self) -> bool:
        """Take the next task, if one is left that can be done."""
        self._task = self.queue.take()
        return self._task is not None

    def events(self) -> Iterator[Event]:
        """Do the task, and yield what it makes."""
        from gossamer.training.loop import Interrupted  # imports torch

        assert self._task is not None
        with suppress(Interrupted):
            yield from self._runner.do(self._task)

    def dismiss(self, handle: Callable[[Event], None], *, at_once: bool) -> None:
        """Do nothing: what was under way has ended with its task."""


def _seed(task: Task) -> int:
    return (task.keyed if isinstance(task, Training) else task.trials[0]).trial.seed

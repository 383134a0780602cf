"""Whoever does tasks, one loop drives them: what is offered when, and how it ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gossamer.records.record import Phase
from gossamer.studies.executors import TaskQueue, ThisProcess, execute
from gossamer.studies.plan import Task, Training
from gossamer.studies.run import Prepared, Request, prepare
from gossamer.studies.tasks import Event, Failure, Site


def finished(key: str) -> Phase:
    fields: dict[str, Any] = {"key": key}
    return Phase.model_construct(**fields)


class Recorder:
    """An executor of two workers that make nothing; perhaps the first training fails."""

    def __init__(self, prepared: Prepared, *, fails: bool = False) -> None:
        self.queue = TaskQueue(prepared.plan, prepared.plan.tasks)
        self.taken: list[Task] = []
        self.dismissed: list[bool] = []
        self._under_way: list[Task] = []
        self._fails = fails

    def take_tasks(self) -> bool:
        while len(self._under_way) < 2 and (task := self.queue.take()) is not None:
            self._under_way.append(task)
            self.taken.append(task)
        return bool(self._under_way)

    def events(self) -> Iterator[Event]:
        task = self._under_way.pop(0)
        if isinstance(task, Training):
            if self._fails:
                self._fails = False
                yield Failure(task.keyed, task.key, "it fails")
            else:
                yield finished(task.key)

    def dismiss(self, handle: Callable[[Event], None], *, at_once: bool) -> None:
        del handle
        self.dismissed.append(at_once)


@pytest.fixture
def prepared(study_file: Path, tmp_path: Path) -> Prepared:
    return prepare(Request(study=str(study_file), folder=tmp_path), None)


def test_a_task_is_offered_once_what_it_needs_is_there(prepared: Prepared) -> None:
    executor, done = Recorder(prepared), set[str]()

    def handle(event: Event) -> None:
        assert isinstance(event, Phase)
        done.add(event.key)
        assert all(task.needs <= done for task in executor.taken)

    execute(executor, handle, lambda: False)
    assert len(executor.taken) == len(prepared.plan.tasks)
    assert done == {training.key for training in prepared.plan.trainings}
    assert executor.dismissed == [False]


def test_nothing_is_offered_that_needs_what_failed(prepared: Prepared) -> None:
    executor, failed = Recorder(prepared, fails=True), list[Event]()
    execute(executor, failed.append, lambda: False)
    (failure,) = [event for event in failed if isinstance(event, Failure)]
    lost = [task for task in prepared.plan.tasks if failure.state in task.needs]
    assert lost
    assert not [task for task in executor.taken if task in lost]
    assert executor.queue.is_empty


def test_a_task_that_is_put_back_is_offered_before_all_others(prepared: Prepared) -> None:
    queue = TaskQueue(prepared.plan, prepared.plan.tasks)
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    queue.put_back(first)
    queue.put_back(second)
    assert (queue.take(), queue.take()) == (second, first)


def test_tens_of_thousands_of_waiting_tasks_cost_a_task_nothing(prepared: Prepared) -> None:
    """Looking through them for each would take a minute."""
    waiting = [
        Training(training.keyed, training.position, frozenset({f"{number}"}), 1)
        for training in prepared.plan.trainings[:1]
        for number in range(20_000)
    ]
    plan = SimpleNamespace(trainings=[SimpleNamespace(key=f"{number}") for number in range(20_000)])
    queue = TaskQueue(plan, waiting)  # type: ignore[arg-type]  # of a plan it sees the keys alone
    for number in reversed(range(20_000)):
        assert queue.take() is None
        queue.note(finished(f"{number}"))
        assert queue.take() is waiting[number]
    assert queue.is_empty


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_stop_ends_after_the_event_and_dismisses(prepared: Prepared, after: int) -> None:
    executor, events = Recorder(prepared), list[Event]()
    execute(executor, events.append, lambda: len(events) >= after)
    assert len(events) == after
    assert executor.dismissed == [False]


def test_asked_twice_it_is_dismissed_at_once(prepared: Prepared) -> None:
    executor = Recorder(prepared)

    def handle(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(executor, handle, lambda: False)
    assert executor.dismissed == [True]


def test_this_process_does_one_seed_before_the_next(prepared: Prepared, tmp_path: Path) -> None:
    executor = ThisProcess(prepared.plan, Site(tmp_path, None, 1), lambda _: False)
    seeds = []
    while (task := executor.queue.take()) is not None:
        keyed = task.keyed if isinstance(task, Training) else task.trials[0]
        seeds.append(keyed.trial.seed)
        if isinstance(task, Training):
            executor.queue.note(finished(task.key))
    assert seeds == sorted(seeds)
    assert len(seeds) == len(prepared.plan.tasks)

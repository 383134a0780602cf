"""Doing tasks in several processes, one core or more for each.

Networks of these sizes train faster as several one-thread processes than as one with many
threads. The driving process hands out tasks and gets back what was made; workers end when it
asks them to, or when it is gone.
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from gossamer.core.errors import GossamerError, UnwritableError
from gossamer.studies.executors import TaskQueue
from gossamer.studies.limits import NO_LIMITS, Limits, resident_bytes
from gossamer.studies.plan import Measuring, Plan, Task, Training
from gossamer.studies.process_settings import tune_process
from gossamer.studies.tasks import Event, Failure, Pulse, Site, TaskRunner

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""By which a user stops a run; its processes leave them to the driving one."""
_STOP = "stop"
_LISTEN_SECONDS = 0.2
_GOODBYE_SECONDS = 20.0


_ATTEMPTS_ALONE = 2
"""How often what cost its process is tried again in one of its own, while nothing else is done."""

_MOST_FAILED_STARTS = 2
"""How many processes in turn may die before they begin with anything."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Task | None = None
    trials_done: int = 0
    """Of a task that measures several."""
    is_ready: bool = False
    """Whether it has started: what ends it before is no fault of its task."""
    has_begun: bool = False
    """Whether anything has come from it: until then it has nothing to lose."""
    since: float = 0.0
    """When it began with the training or the trial that it is at."""


@dataclass(frozen=True)
class _Ready:
    """Sent by a worker that has started."""


@dataclass(frozen=True)
class _Finished:
    """Sent by a worker after the last event of a task."""


@dataclass(frozen=True)
class _Suspect:
    """What was done when its process died, and how often that came about with nothing else done."""

    task: Task
    attempts_alone: int


class ProcessPool:
    """Processes that do tasks, trainings first, since others wait for them.

    What is done when its process dies is done again once the others have nothing to do, in a
    process of its own; if that dies twice, it is given up.
    """

    def __init__(self, plan: Plan, site: Site, jobs: int, limits: Limits = NO_LIMITS) -> None:
        self.queue = TaskQueue(plan, plan.tasks)
        self._site = site
        self._limits = limits
        self._suspects: list[_Suspect] = []
        self._alone: _Suspect | None = None
        self._failed_starts = 0
        self._workers = [_start(site) for _ in range(min(jobs, len(plan.tasks)))]

    def take_tasks(self) -> bool:
        """Give every idle process a task that can be done now; tell whether any is at work."""
        for worker in self._workers if self._alone is None else ():
            if worker.task is None and (task := self.queue.take()) is not None:
                self._give(worker, task)
        at_work = any(worker.task is not None for worker in self._workers)
        if at_work or not self._suspects:
            return at_work
        self._alone = self._suspects.pop(0)
        self._end(self._workers[0])
        self._workers[0] = _start(self._site)
        self._give(self._workers[0], self._alone.task)
        return True

    def _give(self, worker: _Worker, task: Task) -> None:
        with suppress(OSError):  # it has died: the next look at it tells
            worker.connection.send(task)
        worker.task, worker.trials_done, worker.since = task, 0, time.monotonic()

    def events(self) -> Iterator[Event]:
        """Yield one event of every process that has some.

        Raises
        ------
        UnwritableError
            If the folder takes no more.
        GossamerError
            If processes die before they begin with anything; what was done is kept.
        """
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        for connection in wait(list(busy), timeout=_LISTEN_SECONDS):
            worker = busy[connection]  # type: ignore[index]  # it waits for sockets and handles, too
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                yield from self._died(worker)
                continue
            if isinstance(message, UnwritableError):
                raise message
            if isinstance(message, _Ready):
                worker.is_ready, worker.since = True, time.monotonic()
                self._failed_starts = 0
                continue
            worker.has_begun = True
            if isinstance(message, _Finished):
                worker.task = self._alone = None
                continue
            if not isinstance(message, Pulse):
                worker.trials_done += 1
                worker.since = time.monotonic()
            yield message
        yield from self._over_limits()

    def _over_limits(self) -> Iterator[Failure]:
        """End what takes more than it may, and give it up."""
        now = time.monotonic()
        for worker in self._workers if self._limits else ():
            if worker.task is None or not worker.is_ready:
                continue
            reason = self._limits.exceeded(
                now - worker.since, partial(resident_bytes, worker.process.pid or 0)
            )
            if reason is not None:
                yield _given_up(self._lost(worker), reason)

    def _died(self, worker: _Worker) -> Iterator[Failure]:
        """Have what a process died of tried again apart from all else, or give it up."""
        why = cause_of_death(worker.process)
        alone = self._alone
        task = self._lost(worker)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts > _MOST_FAILED_STARTS:
                raise GossamerError(
                    f"worker processes die as they start ({why}); what was done is kept: run the "
                    "same command again, with fewer --jobs"
                )
            self.queue.put_back(task)
            return
        attempts = alone.attempts_alone + 1 if alone is not None else 0
        if attempts < _ATTEMPTS_ALONE:
            self._suspects.append(_Suspect(task, attempts))
        else:
            tried = f"{_ATTEMPTS_ALONE} times with nothing beside it"
            yield _given_up(task, f"its process died whenever it was tried, {tried}: {why}")

    def _lost(self, worker: _Worker) -> Task:
        """End a process, have another in its place, and return what it was at."""
        task, done = worker.task, worker.trials_done
        assert task is not None
        if isinstance(task, Measuring):
            at, rest = task.trials[done : done + 1], task.trials[done + 1 :]
            at = at or task.trials[-1:]  # it died between its last trial and its next task
            if rest:
                self.queue.put_back(replace(task, trials=rest))
            task = replace(task, trials=at)
        self._end(worker)
        self._workers[self._workers.index(worker)] = _start(self._site)
        self._alone = None
        return task

    @staticmethod
    def _end(worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()

    def dismiss(self, handle: Callable[[Event], None], *, at_once: bool) -> None:
        """Stop every process, take what it still makes, and wait until it is gone.

        Whatever goes wrong meanwhile, a second Ctrl-C among it, leaves no process behind.
        """
        workers = self._workers
        try:
            _kill([w for w in workers if at_once or not _may_have_made_something(w)])
            for worker in workers:
                with suppress(OSError):  # it is gone already
                    worker.connection.send(_STOP)
            for worker in workers:
                _take_the_rest(worker, handle)
                worker.process.join(_GOODBYE_SECONDS)
        finally:
            _kill(workers)


def _start(site: Site) -> _Worker:
    return _Worker(*spawned(_work, site))


def spawned(target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start a process that does not hear Ctrl-C; return it with an end of a pipe to it.

    The target is given the other end, then the arguments.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    with _deaf():
        process.start()
    theirs.close()
    return process, ours


@contextmanager
def _deaf() -> Iterator[None]:
    """Have processes that start in the block ignore Ctrl-C: the driving process decides."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say so; the workers do it themselves a little later
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cause_of_death(process: BaseProcess) -> str:
    """Say what a process died of."""
    process.join()
    code = process.exitcode or 0
    if code == -signal.SIGKILL:
        return "killed by SIGKILL, perhaps for want of memory"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _given_up(task: Task, reason: str) -> Failure:
    if isinstance(task, Training):
        return Failure(task.keyed, task.key, reason, given_up=True)
    return Failure(task.trials[0], None, reason, given_up=True)


def _take_the_rest(worker: _Worker, handle: Callable[[Event], None]) -> None:
    """Take what a worker makes until it has closed its end; nothing more will come then."""
    with suppress(EOFError, OSError):
        while worker.connection.poll(_GOODBYE_SECONDS):
            message = worker.connection.recv()
            if not isinstance(message, _Ready | _Finished | Pulse | UnwritableError):
                handle(message)


def _may_have_made_something(worker: _Worker) -> bool:
    return worker.has_begun or (worker.is_ready and worker.task is not None)


def _kill(workers: list[_Worker]) -> None:
    """End processes at once."""
    for worker in workers:
        if worker.process.is_alive():
            worker.process.kill()


def _work(connection: Connection, site: Site) -> None:
    """Do tasks until told to stop; the life of a worker process."""
    from gossamer.training.loop import Interrupted

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    tune_process(site.threads)

    def watch(pulse: Pulse) -> bool:
        try:
            connection.send(pulse)
            return connection.poll()
        except OSError:
            return True  # the driving process is gone

    runner = TaskRunner(site, watch)
    try:
        connection.send(_Ready())
        while (task := connection.recv()) != _STOP:
            for event in runner.do(task):
                connection.send(event)
                if connection.poll():
                    return
            connection.send(_Finished())
    except UnwritableError as error:
        with suppress(OSError):  # the driving process is gone
            connection.send(error)
    except (Interrupted, EOFError, OSError):
        return

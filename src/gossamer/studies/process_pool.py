"""Doing tasks in several processes, one core or more for each.

Networks of these sizes train faster as several one-thread processes than as one with many
threads. The driving process hands out tasks and gets back what was made; workers end when it
asks them to, or when it is gone.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from gossamer.core.errors import GossamerError, UnwritableError
from gossamer.studies.executors import TaskQueue
from gossamer.studies.plan import Plan, Task
from gossamer.studies.process_settings import tune_process
from gossamer.studies.tasks import Event, Pulse, Site, TaskRunner

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP = "stop"
_LISTEN_SECONDS = 0.2
_GOODBYE_SECONDS = 20.0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Task | None = None
    has_begun: bool = False
    """Whether anything has come from it: until then it has nothing to lose."""


@dataclass(frozen=True)
class _Finished:
    """Sent by a worker after the last event of a task."""


class ProcessPool:
    """Processes that do tasks, trainings first, since others wait for them."""

    def __init__(self, plan: Plan, site: Site, jobs: int) -> None:
        self.queue = TaskQueue(plan, plan.tasks)
        self._workers = [_start(site) for _ in range(min(jobs, len(plan.tasks)))]

    def take_tasks(self) -> bool:
        """Give every idle process a task that can be done now; tell whether any is at work."""
        for worker in self._workers:
            if worker.task is None and (task := self.queue.take()) is not None:
                try:
                    worker.connection.send(task)
                except OSError as error:
                    raise _died(worker) from error
                worker.task = task
        return any(worker.task is not None for worker in self._workers)

    def events(self) -> Iterator[Event]:
        """Yield one event of every process that has some.

        Raises
        ------
        UnwritableError
            If the folder takes no more.
        GossamerError
            If a process dies; what was done is kept.
        """
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        for connection in wait(list(busy), timeout=_LISTEN_SECONDS):
            worker = busy[connection]  # type: ignore[index]  # it waits for sockets and handles, too
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError) as error:
                raise _died(worker) from error
            worker.has_begun = True
            if isinstance(message, _Finished):
                worker.task = None
            elif isinstance(message, UnwritableError):
                raise message
            else:
                yield message

    def dismiss(self, handle: Callable[[Event], None], *, at_once: bool) -> None:
        """Stop every process, take what it still makes, and wait until it is gone.

        Whatever goes wrong meanwhile, a second Ctrl-C among it, leaves no process behind.
        """
        workers = self._workers
        try:
            _kill([w for w in workers if at_once or not (w.has_begun or w.connection.poll())])
            for worker in workers:
                with suppress(OSError):  # it is gone already
                    worker.connection.send(_STOP)
            for worker in workers:
                _take_the_rest(worker, handle)
                worker.process.join(_GOODBYE_SECONDS)
        finally:
            _kill(workers)


def _start(site: Site) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, site), daemon=True)
    with _deaf():
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _deaf() -> Iterator[None]:
    """Have processes that start in the block ignore Ctrl-C: the driving process decides."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say so; the workers do it themselves a little later
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _died(worker: _Worker) -> GossamerError:
    worker.process.join()
    code = worker.process.exitcode
    why = "killed, perhaps for want of memory" if code == -signal.SIGKILL else f"exit code {code}"
    return GossamerError(
        f"a worker process died ({why}); what was done is kept: run the same command again, "
        "with fewer --jobs"
    )


def _take_the_rest(worker: _Worker, handle: Callable[[Event], None]) -> None:
    """Take what a worker makes until it has closed its end; nothing more will come then."""
    with suppress(EOFError, OSError):
        while worker.connection.poll(_GOODBYE_SECONDS):
            message = worker.connection.recv()
            if not isinstance(message, _Finished | Pulse | UnwritableError):
                handle(message)


def _kill(workers: list[_Worker]) -> None:
    """End processes at once."""
    for worker in workers:
        if worker.process.is_alive():
            worker.process.kill()


def _work(connection: Connection, site: Site) -> None:
    """Do tasks until told to stop; the life of a worker process."""
    from gossamer.train.loop import Interrupted

    for number in _SIGNALS:
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

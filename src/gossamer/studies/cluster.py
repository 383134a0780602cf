"""Doing tasks on the workers of a Dask cluster, which may or may not see the study's folder.

This process decides what is done where, and gives each worker one task at a time: a training
wants the worker's cores for itself, and torch's settings hold for a whole process. What was made
comes back with the end of a task, and how far trainings are comes as events of the scheduler,
about twice a second. Workers that see the study's folder leave trained states in it; others work
in folders of their own, get what they lack with a task, and send back what they made (see
`cluster_files`).
"""

import os
import secrets
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from gossamer.core.errors import GossamerError, InputError, UnwritableError
from gossamer.core.files import unwritable
from gossamer.data import datasets_folder
from gossamer.studies.cluster_contact import KEPT, Attendance, connected, lost_scheduler
from gossamer.studies.cluster_files import (
    Lacking,
    Made,
    Parcel,
    data_of,
    read_files,
    unfinished_file,
    write_files,
)
from gossamer.studies.cluster_worker import (
    Introduction,
    do,
    do_apart,
    introduce,
    token_path,
    versions,
)
from gossamer.studies.executors import TaskQueue
from gossamer.studies.limits import NO_LIMITS, Limits
from gossamer.studies.plan import Measuring, Plan, Task, Training
from gossamer.studies.tasks import Alike, Event, Failure, Pulse, Site, dataset_of

if TYPE_CHECKING:
    from distributed import Client, Future

_FETCH_SECONDS = 30.0
_PATIENCE_SECONDS = 30.0
"""How long a cluster may be without any worker."""
_ROLL_CALL_SECONDS = 2.0
_LISTEN_SECONDS = 0.2
_GOODBYE_SECONDS = 300.0
"""How long a trial that is being measured is waited for; trainings stop within a second."""
_GRACE_SECONDS = 20.0
"""How long a worker may go on with what is over a limit before it is ended, too."""
_MOST_DEATHS = 3
"""How many workers may die early in the same task before it is to blame."""
_EARLY_SECONDS = 60.0
"""A training that has gone on for longer has kept a checkpoint, and so come nearer to its end."""


@dataclass(frozen=True)
class _Finished:
    """Comes when a task, or a worker's introduction, has ended in whatever way."""

    future: "Future"


@dataclass(frozen=True)
class _Doing:
    """What a worker does: a task or, without one, its introduction."""

    future: "Future"
    task: Task | None
    since: float


_ALIKE: dict[Alike, tuple[str, ...]] = {
    "torch": ("gossamer", "torch"),
    "all": ("gossamer", "torch", "numpy", "Python", "processor"),
    "any": ("gossamer",),
}


@contextmanager
def cluster_executor(
    plan: Plan,
    site: Site,
    url: str,
    most: int | None,
    alike: Alike = "torch",
    limits: Limits = NO_LIMITS,
) -> Iterator["_ClusterExecutor"]:
    """Connect to at most so many workers of a cluster (None: to all of them).

    Workers may join and leave while the study runs; what a lost worker was doing is done by
    another one, from its last checkpoint.

    Raises
    ------
    InputError
        If no scheduler answers, or no worker can do the work, as it has other versions.

    Warns
    -----
    RuntimeWarning
        If some workers cannot do the work, and so get none.
    """
    with connected(url) as client, _token(site.folder) as token:
        queue = TaskQueue(plan, _one_by_one(plan))
        yield _ClusterExecutor(queue, client, site, token, url, most, _ALIKE[alike], limits)


def _one_by_one(plan: Plan) -> Iterator[Task]:
    """Yield the tasks with one trial at most in each.

    What a task made comes back at its end, all at once; a run that stops loses none of it.
    """
    for task in plan.tasks:
        if isinstance(task, Measuring):
            yield from (replace(task, trials=(trial,)) for trial in task.trials)
        else:
            yield task


@contextmanager
def _token(folder: Path) -> Iterator[str]:
    """Leave a secret in the study's folder, by which workers show that they see this folder."""
    token = secrets.token_hex(16)
    path = token_path(folder, token)
    try:
        path.write_text(token)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)


class _ClusterExecutor:
    """The workers of a cluster, and what each is doing."""

    def __init__(
        self,
        queue: TaskQueue,
        client: "Client",
        site: Site,
        token: str,
        url: str,
        most: int | None,
        alike: tuple[str, ...],
        limits: Limits,
    ) -> None:
        from distributed import Event as Flag

        self.queue = queue
        self._client = client
        self._attendance = Attendance(client, url)
        self._alike = alike
        self._limits = limits
        self._overdue: dict[str, float] = {}
        """When workers were told to stop what was over a limit, until they answer again."""
        self._data_root = site.data_root
        self._site = _as_seen_from_elsewhere(site)
        self._token = token
        self._url = url
        self._most = most
        self._news: SimpleQueue[Pulse | Failure | _Finished] = SimpleQueue()
        self._topic = f"gossamer-{token}"
        self._stop = Flag(self._topic, client=client)
        self._busy: dict[str, _Doing] = {}
        self._idle: set[str] = set()
        self._apart: set[str] = set()
        """Workers that do not see the folder of the study, or of its data."""
        self._refused: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._last_roll = -_ROLL_CALL_SECONDS
        self._last_seen = time.monotonic()
        client.subscribe_topic(self._topic, self._hear)

    def take_tasks(self) -> bool:
        """Give every idle worker a task that can be done now; tell whether any is at work."""
        self._call_roll()
        while self._idle and (task := self.queue.take()) is not None:
            self._give(self._idle.pop(), task)
        at_work = any(doing.task is not None for doing in self._busy.values())
        return at_work or not (self._idle or self.queue.is_empty)

    def _call_roll(self) -> None:
        """See now and then who has joined and who is gone."""
        now = time.monotonic()
        if now - self._last_roll < _ROLL_CALL_SECONDS:
            return
        self._last_roll = now
        there = self._attendance.addresses() - self._refused
        self._lose_all_but(there)
        if self._limits:
            self._end_what_is_over_limits(now)
        for address in sorted(there - self._busy.keys() - self._idle):
            if self._most is None or len(self._busy) + len(self._idle) < self._most:
                self._submit(address, None, introduce, self._site, self._token)
        if there:
            self._last_seen = now
        elif now - self._last_seen > _PATIENCE_SECONDS:
            raise GossamerError(
                f"--scheduler {self._url}: the cluster has had no worker for "
                f"{_PATIENCE_SECONDS:g} s; {KEPT} once it has some"
            )

    def _end_what_is_over_limits(self, now: float) -> None:
        """Give up what takes more than it may; end workers that do not stop it when asked."""
        for address, doing in tuple(self._busy.items()):
            if doing.task is None:
                continue
            held = partial(self._attendance.memory.__getitem__, address)
            if (reason := self._limits.exceeded(now - doing.since, held)) is not None:
                doing.future.cancel()  # which a training hears of within a second
                del self._busy[address]
                self._overdue[address] = now
                self._news.put(_failure(doing.task, reason, given_up=True))
        for address in [
            one for one, asked in self._overdue.items() if now - asked > _GRACE_SECONDS
        ]:
            del self._overdue[address]
            with suppress(OSError, TimeoutError):  # it ends before it can answer
                self._client.run(os._exit, 1, workers=[address], on_error="ignore")

    def events(self) -> Iterator[Event]:
        """Yield the news, at least one unless there is none for a while.

        Raises
        ------
        GossamerError
            If the scheduler or all workers are lost.
        """
        with suppress(Empty):
            news = self._news.get(timeout=_LISTEN_SECONDS)
            while True:
                if isinstance(news, _Finished):
                    yield from self._received(news.future)
                elif isinstance(news, Failure) or self._is_under_way(news):
                    yield news
                news = self._news.get_nowait()

    def dismiss(self, handle: Callable[[Event], None], *, at_once: bool) -> None:
        """Ask the workers to stop, and take what they still make; who is gone needs no word.

        At once, nobody waits for them: they keep their checkpoints.
        """
        if self._client.status != "running":
            return  # the scheduler is gone
        until = time.monotonic() + (0 if at_once else _GOODBYE_SECONDS)
        with suppress(OSError):  # it may go now
            if self._busy:
                self._stop.set()
            while self._busy and time.monotonic() < until:
                with suppress(GossamerError):  # of one worker; another may have made something
                    self._lose_all_but(self._attendance.addresses())
                    for event in self.events():
                        handle(event)
            for doing in self._busy.values():
                doing.future.cancel()
            self._client.unsubscribe_topic(self._topic)

    def _is_under_way(self, pulse: Pulse) -> bool:
        """Tell a pulse from one that was overtaken by the end of its training."""
        tasks = (doing.task for doing in self._busy.values())
        return any(isinstance(task, Training) and task.key == pulse.key for task in tasks)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        self._news.put(Pulse(**event[1]["pulse"]))

    def _give(self, address: str, task: Task, parcel: Parcel | None = None) -> None:
        """Give a worker a task, with what it needs for it where it works apart."""
        if address not in self._apart:
            self._submit(address, task, do, task, self._site, self._topic)
            return
        if parcel is None and (unfinished := unfinished_file(task)):
            parcel = Parcel(read_files(self._site.folder, {unfinished}))
        self._submit(address, task, do_apart, task, self._site, self._topic, parcel or Parcel())

    def _submit(
        self, address: str, task: Task | None, what: Callable[..., Any], *arguments: object
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of large arguments: states are large
            future = self._client.submit(
                what, *arguments, workers=[address], allow_other_workers=False, pure=False
            )
        self._busy[address] = _Doing(future, task, time.monotonic())
        future.add_done_callback(lambda ended: self._news.put(_Finished(ended)))

    def _lose_all_but(self, there: set[str]) -> None:
        for address in (self._busy.keys() | self._idle) - there:
            self._lose(address)

    def _lose(self, address: str) -> None:
        """Let another worker do what one that is gone was doing."""
        self._idle.discard(address)
        doing = self._busy.pop(address, None)
        if doing is None:
            return
        doing.future.cancel()
        died = address not in self._attendance.frozen
        if doing.task is not None and (not died or self._may_try_again(doing)):
            self.queue.put_back(doing.task)

    def _may_try_again(self, doing: _Doing) -> bool:
        """Note that a worker died of a task; after a few, the task is to blame, and given up."""
        task = doing.task
        if isinstance(task, Training) and time.monotonic() - doing.since > _EARLY_SECONDS:
            return True
        assert task is not None
        self._deaths[_name(task)] += 1
        if self._deaths[_name(task)] < _MOST_DEATHS:
            return True
        why = f"{_MOST_DEATHS} workers of the cluster died of it, perhaps for want of memory"
        self._news.put(_failure(task, why, given_up=True))
        return False

    def _received(self, future: "Future") -> list[Event]:
        """Return what a worker made, if it was a task that it ended."""
        address = next((a for a, doing in self._busy.items() if doing.future is future), None)
        if address is None:
            return []  # of a worker that was lost
        try:
            found = self._result(future, address)
        except TimeoutError:  # it ended its task and was gone before its answer was fetched
            self._lose(address)
            return []
        task = self._busy.pop(address).task
        if task is None:
            self._meet(found, address)
            return []
        if isinstance(found, Lacking):
            return self._send(found, task, address)
        self._idle.add(address)
        return self._kept(found) if isinstance(found, Made) else list(found)

    def _send(self, lacking: Lacking, task: Task, address: str) -> list[Event]:
        """Give a worker its task again with what it lacks for it; fail it where there is no such.

        What is gone is planned again by the next run.
        """
        files = read_files(self._site.folder, set(lacking.files))
        if gone := sorted(lacking.files - files.keys()):
            self._idle.add(address)
            where = f" or at {self._site.states}" if self._site.states else ""
            said = f"{gone[0]} is not in {self._site.folder}{where}; the next run makes it again"
            return [_failure(task, said)]
        named = [data_of(task, fingerprint) for fingerprint in lacking.data]
        data = tuple(dataset_of(one, self._data_root) for one in named)
        self._give(address, task, Parcel(files, data))
        return []

    def _kept(self, made: Made) -> list[Event]:
        """Write the files that a worker made elsewhere, and return what happened."""
        folder = self._site.folder
        try:
            write_files(folder, made.files)
        except OSError as error:
            raise unwritable(folder, error) or UnwritableError(
                f"{folder} cannot be written ({error})", "see what it lacks"
            ) from error
        return list(made.events)

    def _result(self, future: "Future", address: str) -> Any:
        """Fetch what a worker answered; `TimeoutError` if that is gone with the worker."""
        if future.status == "lost":
            raise TimeoutError
        if future.status == "error":
            del self._busy[address]
            error = future.exception()
            if isinstance(error, UnwritableError) and address not in self._apart:
                raise error  # of the study's folder
            raise GossamerError(
                f"a machine of the cluster failed, of the worker at {address}: "
                f"{_said(error)}; {KEPT} once that is mended"
            )
        try:
            return future.result(timeout=_FETCH_SECONDS)
        except TimeoutError:
            raise
        except (OSError, CancelledError) as error:
            raise lost_scheduler(self._url) from error

    def _meet(self, found: Introduction, address: str) -> None:
        """Take in a worker, or leave it out if it would give other numbers, or none."""
        self._overdue.pop(address, None)
        problem = self._problem(found)
        if problem is None:
            self._idle.add(address)
            if self._site.states or found.token != self._token or not found.sees_data:
                self._apart.add(address)
            return
        self._refused.add(address)
        sentence = f"the worker of the cluster at {address} {problem}"
        if not self._busy and not self._idle:
            raise InputError(sentence)
        warnings.warn(f"{sentence}; it gets no work", RuntimeWarning, stacklevel=2)

    def _problem(self, found: Introduction) -> str | None:
        here = versions()
        for name in self._alike:
            if found.versions.get(name) != here[name]:
                return f"has {name} {found.versions.get(name)}, expected {here[name]} as here"
        return None


def _as_seen_from_elsewhere(site: Site) -> Site:
    """Return the site without what depends on this process: its folder, its environment."""
    data = datasets_folder(site.data_root)
    return replace(
        site,
        folder=site.folder.resolve(),
        data_root=None if data is None else data.resolve(),
        home=Path.cwd(),
    )


def _name(task: Task) -> str:
    return task.key if isinstance(task, Training) else task.trials[0].record


def _failure(task: Task, reason: str, *, given_up: bool = False) -> Failure:
    if isinstance(task, Training):
        return Failure(task.keyed, task.key, reason, given_up=given_up)
    return Failure(task.trials[0], None, reason, given_up=given_up)


def _said(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

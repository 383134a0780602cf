"""Doing tasks on the workers of a Dask cluster, which see the same folders as this process.

This process decides what is done where, and gives each worker one task at a time: a training
wants the worker's cores for itself, and torch's settings hold for a whole process. Trained states
are files in the study's folder, as ever; what else was made comes back with the end of a task, and
how far trainings are comes as events of the scheduler, about twice a second.
"""

import queue
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.data import datasets_folder
from gossamer.errors import GossamerError, InputError
from gossamer.studies.cluster_worker import Introduction, do, introduce, token_path, versions
from gossamer.studies.plan import Plan, Task, Training
from gossamer.studies.work import Event, Pulse, Site, Waiting

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_SECONDS = 10.0
_PATIENCE_SECONDS = 30.0
"""How long a cluster may be without any worker."""
_ROLL_CALL_SECONDS = 2.0
_LISTEN_SECONDS = 0.2
_GOODBYE_SECONDS = 20.0
_MOST_DEATHS = 3
"""How many workers may die of one task before it is to blame."""
_KEPT = "what was done is kept: run the same command again"


@dataclass(frozen=True)
class _Finished:
    """Comes when a task, or a worker's introduction, has ended in whatever way."""

    future: "Future"


def do_on_cluster(
    plan: Plan,
    site: Site,
    url: str,
    most: int | None,
    handle: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> None:
    """Do what a plan leaves on at most so many workers of a cluster (None: on all of them).

    Workers may join and leave while the study runs; what a lost worker was doing is done by
    another one, from its last checkpoint.

    Raises
    ------
    InputError
        If no scheduler answers, or its workers cannot do the work: another version, or a folder
        that they do not see.
    GossamerError
        If the scheduler or all workers are lost, or a task brings worker after worker down.
    """
    with _connected(url) as client, _token(site.folder) as token:
        crew = _Crew(client, site, token, url, most)
        waiting = Waiting(plan, plan.tasks)
        try:
            while not should_stop():
                crew.call_roll(waiting)
                crew.hand_out(waiting)
                if crew.is_done(waiting):
                    return
                crew.listen(waiting, handle)
        finally:
            crew.dismiss(waiting, handle)


@contextmanager
def _connected(url: str) -> Iterator["Client"]:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "--scheduler needs Dask, which is not installed: pip install 'gossamer[cluster]'"
        ) from error
    try:
        client = Client(url, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {url}: no Dask scheduler answers there within {_CONNECT_SECONDS:g} s, "
            "expected an address such as tcp://host:8786"
        ) from error
    try:
        yield client
    finally:
        with suppress(OSError, TimeoutError):  # the scheduler may be gone already
            client.close(timeout=_CONNECT_SECONDS)


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


class _Crew:
    """The workers of a cluster, and what each is doing."""

    def __init__(
        self, client: "Client", site: Site, token: str, url: str, most: int | None
    ) -> None:
        from distributed import Event as Flag

        self._client = client
        self._site = _as_seen_from_elsewhere(site)
        self._token = token
        self._url = url
        self._most = most
        self._news: queue.SimpleQueue[Pulse | _Finished] = queue.SimpleQueue()
        self._topic = f"gossamer-{token}"
        self._stop = Flag(self._topic, client=client)
        self._busy: dict[str, tuple[Future, Task | None]] = {}
        """By address: what each worker does, a task or (None) its introduction."""
        self._idle: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._last_roll = -_ROLL_CALL_SECONDS
        self._last_seen = time.monotonic()
        client.subscribe_topic(self._topic, self._hear)

    def call_roll(self, waiting: Waiting) -> None:
        """See now and then who has joined and who is gone."""
        now = time.monotonic()
        if now - self._last_roll < _ROLL_CALL_SECONDS:
            return
        self._last_roll = now
        there = self._addresses()
        for address in (self._busy.keys() | self._idle) - there:
            self._lose(address, waiting)
        for address in sorted(there - self._busy.keys() - self._idle):
            if self._most is None or len(self._busy) + len(self._idle) < self._most:
                self._submit(address, None, introduce, self._site, self._token)
        if there:
            self._last_seen = now
        elif now - self._last_seen > _PATIENCE_SECONDS:
            raise GossamerError(
                f"--scheduler {self._url}: the cluster has had no worker for "
                f"{_PATIENCE_SECONDS:g} s; {_KEPT} once it has some"
            )

    def hand_out(self, waiting: Waiting) -> None:
        """Give every idle worker a task, as long as there are tasks that can be done now."""
        while self._idle and (task := waiting.take()) is not None:
            self._submit(self._idle.pop(), task, do, task, self._site, self._topic)

    def is_done(self, waiting: Waiting) -> bool:
        """Tell whether nothing is left that could be done; asked when tasks were handed out."""
        at_work = any(task is not None for _, task in self._busy.values())
        return not at_work and (bool(self._idle) or waiting.is_empty)

    def listen(self, waiting: Waiting, handle: Callable[[Event], None]) -> None:
        """Take the news, at least one unless there is none for a while."""
        with suppress(queue.Empty):
            news = self._news.get(timeout=_LISTEN_SECONDS)
            while True:
                if isinstance(news, _Finished):
                    self._receive(news.future, waiting, handle)
                elif self._is_under_way(news):
                    handle(news)
                news = self._news.get_nowait()

    def dismiss(self, waiting: Waiting, handle: Callable[[Event], None]) -> None:
        """Ask the workers to stop, take what they still made, and leave the rest."""
        if self._client.status != "running":
            return  # the scheduler is gone
        until = time.monotonic() + _GOODBYE_SECONDS
        with suppress(OSError, GossamerError):  # it may go now
            if self._busy:
                self._stop.set()
            while self._busy and time.monotonic() < until:
                self.listen(waiting, handle)
            for future, _ in self._busy.values():
                future.cancel()
            self._client.unsubscribe_topic(self._topic)

    def _addresses(self) -> set[str]:
        try:
            return set(self._client.nthreads())
        except OSError as error:
            raise self._lost_scheduler() from error

    def _lost_scheduler(self) -> GossamerError:
        return GossamerError(f"--scheduler {self._url}: the scheduler is gone; {_KEPT}")

    def _is_under_way(self, pulse: Pulse) -> bool:
        """Tell a pulse from one that was overtaken by the end of its training."""
        tasks = (task for _, task in self._busy.values())
        return any(isinstance(task, Training) and task.key == pulse.key for task in tasks)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        self._news.put(Pulse(**event[1]["pulse"]))

    def _submit(
        self, address: str, task: Task | None, do: Callable[..., Any], *arguments: object
    ) -> None:
        future = self._client.submit(
            do, *arguments, workers=[address], allow_other_workers=False, pure=False
        )
        self._busy[address] = (future, task)
        future.add_done_callback(lambda ended: self._news.put(_Finished(ended)))

    def _lose(self, address: str, waiting: Waiting) -> None:
        """Let another worker do what one that is gone was doing."""
        self._idle.discard(address)
        future, task = self._busy.pop(address, (None, None))
        if future is None:
            return
        future.cancel()
        if task is not None:
            self._deaths[_name(task)] += 1
            if self._deaths[_name(task)] == _MOST_DEATHS:
                raise GossamerError(
                    f"{_MOST_DEATHS} workers of the cluster died of the same task, perhaps for "
                    f"want of memory; {_KEPT} with larger ones"
                )
            waiting.put_back(task)

    def _receive(self, future: "Future", waiting: Waiting, handle: Callable[[Event], None]) -> None:
        address = next((a for a, (one, _) in self._busy.items() if one.key == future.key), None)
        if address is None:
            return  # of a worker that was lost
        _, task = self._busy[address]
        if future.status in ("cancelled", "lost"):
            raise self._lost_scheduler()
        if future.status == "error":
            raise GossamerError(
                f"the worker of the cluster at {address} failed: {_said(future.exception())}; "
                f"{_KEPT} once that is mended"
            )
        found = future.result()
        del self._busy[address]
        if isinstance(found, Introduction):
            self._check(found, address)
        for event in found if task is not None else ():
            waiting.note(event)
            handle(event)
        self._idle.add(address)

    def _check(self, found: Introduction, address: str) -> None:
        """Refuse a worker that would give other numbers, or none."""
        for (name, there), (_, here) in zip(found.versions, versions(), strict=True):
            if there != here:
                raise InputError(
                    f"the worker of the cluster at {address} has {name} {there}, expected {here} "
                    "as here"
                )
        if found.token != self._token:
            raise InputError(
                f"the worker of the cluster at {address} does not see the folder "
                f"{self._site.folder}: --out must be a folder that all workers share"
            )
        if not found.sees_data:
            raise InputError(
                f"the worker of the cluster at {address} does not see the folder of datasets "
                f"{self._site.data_root}: --data must be a folder that all workers share"
            )


def _as_seen_from_elsewhere(site: Site) -> Site:
    """Return the site without what depends on this process: its folder, its environment."""
    data = datasets_folder(site.data_root)
    return replace(
        site, folder=site.folder.resolve(), data_root=None if data is None else data.resolve()
    )


def _name(task: Task) -> str:
    return task.key if isinstance(task, Training) else task.trials[0].record


def _said(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

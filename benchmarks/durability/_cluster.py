"""A Dask cluster of processes here, that can be struck, and a study run on it."""

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from gossamer.records.store import Store, only_writer
from gossamer.studies.damage import without_damage
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.tasks import Event


class Cluster:
    """A scheduler and so many workers, which do not see a folder that is hidden from them."""

    def __init__(self, workers: int, folder: Path, hidden: Path | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self._folder = folder
        self._hidden = hidden
        self._frozen: list[tuple[float, subprocess.Popen[bytes]]] = []
        """Workers that were stopped, and until when."""
        port = self.url.rpartition(":")[2]
        self.scheduler = self._start(["scheduler", "--host", "127.0.0.1", "--port", port])
        self._wait_for(int(port))
        self.workers = [self._worker() for _ in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers, *(one for _, one in self._frozen), self.scheduler]:
            process.kill()
            process.wait()

    def _wait_for(self, port: int) -> None:
        """Wait for the scheduler, which on a busy machine takes longer than a run would wait."""
        while self.scheduler.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.1)

    def _worker(self) -> subprocess.Popen[bytes]:
        options = ["worker", self.url, "--nthreads", "1", "--no-nanny"]
        if self._hidden is None:
            return self._start(options)
        hide = f'mount -t tmpfs none \'{self._hidden}\' && exec "$0" "$@"'
        return self._start(options, ["unshare", "--mount", "sh", "-c", hide])

    def _start(
        self, options: list[str], within: list[str] | None = None
    ) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{options[0]}"
        command = [*(within or []), sys.executable, "-m", module, *options[1:], "--no-dashboard"]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder
        )

    def strike(self, draw: random.Random, frozen_for: float = 0.0) -> None:
        """Kill a worker, or freeze it for so many seconds, and start another one."""
        victim = self.workers.pop(draw.randrange(len(self.workers)))
        self.workers.append(self._worker())
        if frozen_for:
            victim.send_signal(signal.SIGSTOP)
            self._frozen.append((time.monotonic() + frozen_for, victim))
        else:
            victim.kill()
            victim.wait()

    def thaw(self) -> None:
        """Let those go on that were frozen for long enough; what they make is late."""
        for until, worker in self._frozen:
            if time.monotonic() > until:
                worker.send_signal(signal.SIGCONT)


def run_there(
    study: Path,
    folder: Path,
    url: str,
    states: str | None = None,
    watch: Callable[[Event], None] = lambda _: None,
) -> list[Event]:
    """Run a study on a cluster; return what came about."""
    events: list[Event] = []

    def follow(event: Event) -> None:
        events.append(event)
        watch(event)

    with only_writer(folder), Store.create(folder) as store:
        request = Request(str(study), folder, threads=1, scheduler=url, states=states)
        store.keep_states_at(states)
        prepared, _ = without_damage(prepare(request, store), store)
        carry_out(prepared, store, follow, lambda: False)
    return events

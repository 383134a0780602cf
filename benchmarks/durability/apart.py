"""Workers without a common folder: killed and frozen again and again, and the overhead of a task.

    python -m benchmarks.durability.apart --kills 20 --every 5 --states s3://...

Each worker of a Dask cluster runs where an empty file system lies over the study's folder (a mount
namespace, which Linux gives to root), so that it cannot see it. While a study runs, one worker
after the other is killed (or, every third, frozen for good), and another one started. The numbers
must be those of a quiet run here, bit for bit, nothing may fail, and nothing be there twice.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks._common import write_result
from benchmarks.durability._small_study import failures, numbers, run, write_study
from gossamer.records.store import Store, only_writer
from gossamer.studies import cluster_contact
from gossamer.studies.damage import without_damage
from gossamer.studies.process_settings import tune_process
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.tasks import Event

_WORKERS = 4
_SEED = 0


class Cluster:
    """A scheduler, and workers that do not see a folder."""

    def __init__(self, hidden: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self._hidden = hidden
        port = self.url.rpartition(":")[2]
        self.scheduler = self._start(["scheduler", "--host", "127.0.0.1", "--port", port])
        self.workers = [self._worker() for _ in range(_WORKERS)]

    def _worker(self) -> subprocess.Popen[bytes]:
        hide = f'mount -t tmpfs none \'{self._hidden}\' && exec "$0" "$@"'
        options = ["worker", self.url, "--nthreads", "1", "--no-nanny"]
        return self._start(options, ["unshare", "--mount", "sh", "-c", hide])

    def _start(
        self, options: list[str], within: list[str] | None = None
    ) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{options[0]}"
        command = [*(within or []), sys.executable, "-m", module, *options[1:], "--no-dashboard"]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._hidden.parent
        )

    def strike(self, draw: random.Random, how: signal.Signals) -> None:
        """Kill or freeze a worker, and start another one."""
        victim = self.workers.pop(draw.randrange(len(self.workers)))
        victim.send_signal(how)
        self.workers.append(self._worker())
        if how is signal.SIGKILL:
            victim.wait()
        else:
            self._frozen.append(victim)

    _frozen: list[subprocess.Popen[bytes]] = []  # noqa: RUF012 - one cluster a process

    def end(self) -> None:
        """End all processes."""
        for process in [*self.workers, *self._frozen, self.scheduler]:
            process.kill()
            process.wait()


def struck(there: Cluster, kills: int, every: float, done: threading.Event) -> Counter[str]:
    """Strike so many times, every so many seconds, until the study is done."""
    draw, found = random.Random(_SEED), Counter[str]()
    while sum(found.values()) < kills and not done.wait(every):
        frozen = (sum(found.values()) + 1) % 3 == 0
        there.strike(draw, signal.SIGSTOP if frozen else signal.SIGKILL)
        found["frozen" if frozen else "killed"] += 1
    return found


def run_there(study: Path, folder: Path, url: str, states: str | None) -> tuple[list[Event], float]:
    """Run a study on a cluster; return what came about and the seconds of its tasks."""
    events: list[Event] = []
    with only_writer(folder), Store.create(folder) as store:
        request = Request(str(study), folder, threads=1, scheduler=url, states=states)
        store.keep_states_at(states)
        prepared, _ = without_damage(prepare(request, store), store)
        started = time.perf_counter()
        carry_out(prepared, store, events.append, lambda: False)
    return events, time.perf_counter() - started


def campaign(folder: Path, kills: int, every: float, states: str | None) -> dict[str, Any]:
    """Run studies under strikes until there were so many; say what became of them."""
    tune_process(1)  # as the workers are: bits depend on the number of threads
    found, outcome, quiet = Counter[str](), Counter[str](), folder / "quiet"
    study = write_study(folder, epochs=400)
    run(study, quiet)
    expected = numbers(quiet)
    while sum(found.values()) < kills:
        out = folder / f"out-{outcome.total()}"
        out.mkdir()
        there, done = Cluster(out), threading.Event()
        left = kills - sum(found.values())
        with ThreadPoolExecutor(1) as aside:
            strikes = aside.submit(struck, there, left, every, done)
            try:
                events, _ = run_there(study, out, there.url, states)
            finally:
                done.set()
                found += strikes.result()
                there.end()
        right = numbers(out) == expected and not failures(events)
        outcome["right" if right else "wrong"] += 1
        print(dict(found), dict(outcome), flush=True)
    return {"struck": dict(found), "studies": dict(outcome)}


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two strikes")
    parser.add_argument("--states", help="address of an object store")
    parser.add_argument("--frozen-after", type=float, default=15.0, help="seconds of silence")
    asked = parser.parse_args()
    if os.geteuid():
        raise SystemExit("a mount namespace is for root")
    cluster_contact._FROZEN_SECONDS = asked.frozen_after
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        result = campaign(Path(name), asked.kills, asked.every, asked.states)
    for key, value in result.items():
        print(f"{key:10} {value}")
    print(write_result("durability-apart", 1, {"seconds_between": asked.every, **result}))


if __name__ == "__main__":
    main()

"""Kill the driver or a worker of a running study, again and again, then let it finish.

    python -m benchmarks.durability.kills --kills 200

Each study is run with two workers and killed up to five times (SIGKILL, at a random moment: the
driver, or one of its workers), each time begun again in the same folder, and at last left alone.
Then every number must be that of a quiet run, and every row must be there once. Workers of a driver
that was killed may still be at work when the next one begins. Processes are forked from this one,
which has PyTorch loaded, so that a kill meets the work and not the start.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks._common import write_result
from benchmarks.durability._small_study import failures, numbers, run, write_study
from gossamer.core.errors import InputError
from gossamer.records.store import Store, only_writer
from gossamer.studies import process_pool
from gossamer.studies.damage import without_damage
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.tasks import Failure, Site

_KILLS_A_STUDY = 5
_OURS: list[Any] = []
"""This process's ends of the pipes to its workers, which later ones would hold open otherwise."""


def _fork(site: Site) -> process_pool._Worker:
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, site, [*_OURS, ours]), daemon=True)
    process.start()
    theirs.close()
    _OURS.append(ours)
    return process_pool._Worker(process, ours)


def _work(connection: Any, site: Site, others: list[Any]) -> None:
    for other in others:
        with suppress(OSError):
            other.close()
    for number in Path("/proc/self/fd").iterdir():  # the lock is the driver's alone
        with suppress(OSError):
            if number.readlink().name == "lock":
                os.close(int(number.name))
    process_pool._work(connection, site)


def drive(study: Path, folder: Path) -> None:
    """Run the study with two workers, in a process of its own."""
    process_pool._start = _fork
    with only_writer(folder), Store.create(folder) as store:
        prepared = prepare(Request(study=str(study), folder=folder, jobs=2, threads=1), store)
        prepared, _ = without_damage(prepared, store)
        failed: list[Failure] = []
        carry_out(
            prepared,
            store,
            lambda event: failed.append(event) if isinstance(event, Failure) else None,
            lambda: False,
        )


def driven(study: Path, folder: Path) -> int:
    """Start a driver; return its process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        drive(study, folder)
        code = 0
    except InputError:  # the one before has not given the folder back yet
        code = 2
    finally:
        os._exit(code)


def killed_once(study: Path, folder: Path, draw: random.Random, seconds: float) -> str:
    """Start a driver and kill it or a worker of it at a random moment; say what was killed."""
    driver, victim, what = driven(study, folder), 0, "driver"
    if draw.random() < 0.5:
        until = time.monotonic() + seconds
        while not (workers := _children(driver)) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, seconds / 4))
        if workers := _children(driver):
            victim, what = draw.choice(workers), "worker"
    else:
        time.sleep(draw.uniform(0, seconds))
    victim = victim or driver
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        what = "nobody, who had finished"
    os.waitpid(driver, 0)
    return what


def _children(parent: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            if int(process.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(process.parent.name))
    return found


def rows_are_there_once(folder: Path) -> bool:
    """Tell whether no key stands twice, and every state of a training is there."""
    with sqlite3.connect(folder / "store.sqlite") as database:
        for table in ("records", "phases", "joints"):
            keys = [key for (key,) in database.execute(f"SELECT key FROM {table}")]
            if len(keys) != len(set(keys)):
                return False
        states = {key for (key,) in database.execute("SELECT key FROM phases")}
    database.close()
    return states <= {path.stem for path in (folder / "states").glob("*.safetensors")}


def campaign(kills: int, folder: Path) -> Counter[str]:
    """Kill so many times; count who was killed, and what became of the studies."""
    torch.set_num_threads(1)  # threads of this process would be missing in those forked from it
    study, found = write_study(folder, epochs=20), Counter[str]()
    run(study, folder / "quiet")
    expected, started = numbers(folder / "quiet"), time.monotonic()
    drive_once = driven(study, folder / "timed")
    os.waitpid(drive_once, 0)
    seconds, number = time.monotonic() - started, 0
    while found["driver"] + found["worker"] < kills:
        draw, out = random.Random(number), folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(_KILLS_A_STUDY):
            found[killed_once(study, out, draw, seconds)] += 1
        events, told = run(study, out)
        right = numbers(out) == expected and not failures(events) and not told
        right = right and rows_are_there_once(out)
        found["studies as a quiet run" if right else "studies that differ"] += 1
        if not right:
            shutil.copytree(out, folder / f"bad-{number}")
            print(f"study {number} differs: {told} {failures(events)}", flush=True)
        number += 1
        print(f"{number} studies: {dict(found)}", flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        found = campaign(options.kills, Path(name))
    result = {
        "command": f"python -m benchmarks.durability.kills --kills {options.kills}",
        "seconds": round(time.monotonic() - started),
        **found,
    }
    print(write_result("durability-kills", 1, result))


if __name__ == "__main__":
    main()

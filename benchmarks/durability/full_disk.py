"""Let the disk of a running study be full, again and again, then give it room and let it finish.

    python -m benchmarks.durability.full_disk --times 100

The study's folder is a file system in memory (a mount, which Linux gives to root) of a random size
below what the study takes. The run must end with one sentence that calls the disk full, with
everything kept that came before; with more room, the same run must end with every number of a quiet
one.
"""

import argparse
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._common import write_result
from benchmarks.durability._small_study import failures, numbers, run, write_study
from benchmarks.durability.scheduler_death import are_kept
from gossamer.core.errors import GossamerError
from gossamer.core.files import bytes_in
from gossamer.records.store import Store
from gossamer.studies.tasks import Event

_PAGE = 4096
_ROOM = 2**26


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """Have a disk of so many bytes at a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # mapped states may be open


def outcome(study: Path, out: Path) -> str:
    """Run a study where room may end; say what came of it."""
    seen: list[Event] = []

    def watch(events: list[Event]) -> bool:
        seen[:] = events
        return False

    try:
        run(study, out, watch)
    except GossamerError as error:
        if "is full" not in str(error) or "\n" in str(error):
            return f"other words: {error}"
        if Store.is_there(out) and not are_kept(seen, out):
            return "something lost"
        return "one sentence" if Store.is_there(out) else "one sentence before anything was done"
    except Exception as error:  # noqa: BLE001 - what is counted
        return f"traceback: {type(error).__name__}: {error}"
    return "there was room"


def campaign(times: int, folder: Path) -> Counter[str]:
    """Fill so many disks; count what was said, and what became of the studies."""
    study, found, out = write_study(folder), Counter[str](), folder / "small"
    run(study, folder / "quiet")
    expected, size = numbers(folder / "quiet"), bytes_in(folder / "quiet")
    for number in range(times):
        room = random.Random(number).randrange(_PAGE, size)
        with disk(out, room):
            found[outcome(study, out)] += 1
            subprocess.run(["mount", "-o", f"remount,size={_ROOM}", out], check=True)
            events, _ = run(study, out)
            right = numbers(out) == expected and not failures(events)
        found["studies as a quiet run" if right else "studies that differ"] += 1
        if (number + 1) % 10 == 0:
            print(f"{number + 1} disks: {dict(found)}", flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    asked, started = parser.parse_args(), time.monotonic()
    if os.geteuid():
        raise SystemExit("a mount is for root")
    with tempfile.TemporaryDirectory() as name:
        found = campaign(asked.times, Path(name))
    result = {
        "command": f"python -m benchmarks.durability.full_disk --times {asked.times}",
        "seconds": round(time.monotonic() - started),
        **found,
    }
    print(write_result("durability-full-disk", 1, result))


if __name__ == "__main__":
    main()

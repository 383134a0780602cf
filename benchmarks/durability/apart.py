"""Workers without a common folder: killed and frozen again and again.

    python -m benchmarks.durability.apart --strikes 20 --every 5 --states s3://...

Each worker of a Dask cluster runs where an empty file system lies over the study's folder (a mount
namespace, which Linux gives to root), so that it cannot see it. While a study runs, one worker
after the other is killed, frozen for good, or frozen for so long that another one does its task
before it answers, and another one started. The numbers must be those of a quiet run here, bit for
bit, nothing may fail, and nothing be there twice.
"""

import argparse
import math
import os
import random
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks._common import write_result
from benchmarks.durability._cluster import Cluster, run_there
from benchmarks.durability._small_study import failures, numbers, run, write_study
from gossamer.studies import cluster_contact
from gossamer.studies.process_settings import tune_process

_WORKERS = 4
_SEED = 0
_STRIKES = ("killed", "killed", "frozen", "killed", "late")


def struck(
    there: Cluster, strikes: int, every: float, silence: float, done: threading.Event
) -> Counter[str]:
    """Strike so many times, every so many seconds, until the study is done."""
    draw, found = random.Random(_SEED), Counter[str]()
    while found.total() < strikes and not done.wait(every):
        what = _STRIKES[found.total() % len(_STRIKES)]
        there.strike(draw, frozen_for={"killed": 0.0, "late": 2 * silence}.get(what, math.inf))
        there.thaw()
        found[what] += 1
    while not done.wait(every):
        there.thaw()
    return found


def campaign(
    folder: Path, strikes: int, every: float, silence: float, states: str | None
) -> dict[str, Any]:
    """Run studies under strikes until there were so many; say what became of them.

    A worker that was silent for so many seconds counts as frozen.
    """
    cluster_contact._FROZEN_SECONDS = silence
    tune_process(1)  # as the workers are: bits depend on the number of threads
    found, outcome, quiet = Counter[str](), Counter[str](), folder / "quiet"
    study = write_study(folder, epochs=400)
    run(study, quiet)
    expected = numbers(quiet)
    while found.total() < strikes:
        out, done = folder / f"out-{outcome.total()}", threading.Event()
        out.mkdir()
        left = strikes - found.total()
        with Cluster(_WORKERS, folder, hidden=out) as there, ThreadPoolExecutor(1) as aside:
            aside_strikes = aside.submit(struck, there, left, every, silence, done)
            try:
                events = run_there(study, out, there.url, states)
            finally:
                done.set()
                found += aside_strikes.result()
        right = numbers(out) == expected and not failures(events)
        outcome["right" if right else "wrong"] += 1
        print(dict(found), dict(outcome), flush=True)
    return {"struck": dict(found), "studies": dict(outcome)}


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strikes", type=int, default=20)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two strikes")
    parser.add_argument("--states", help="address of an object store")
    parser.add_argument("--frozen-after", type=float, default=15.0, help="seconds of silence")
    asked = parser.parse_args()
    if os.geteuid():
        raise SystemExit("a mount namespace is for root")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        result = campaign(folder, asked.strikes, asked.every, asked.frozen_after, asked.states)
    for key, value in result.items():
        print(f"{key:10} {value}")
    print(write_result("durability-apart", 1, {"seconds_between": asked.every, **result}))


if __name__ == "__main__":
    main()

"""Kill the scheduler of a Dask cluster while a study runs on it, again and again.

    python -m benchmarks.durability.scheduler_death --deaths 30

Each study is begun up to three times on a cluster whose scheduler is killed soon after a random one
of its results, and a last time on one that is left alone. Each death must be told in one sentence,
whatever came before it must be kept, and in the end every number must be that of a quiet run.
"""

import argparse
import random
import re
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks._common import write_result
from benchmarks.durability._cluster import Cluster, run_there
from benchmarks.durability._small_study import failures, numbers, run, write_study
from gossamer.core.errors import GossamerError
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record
from gossamer.records.store import Store
from gossamer.studies.process_settings import tune_process
from gossamer.studies.tasks import Event

_WORKERS = 2
_DEATHS_A_STUDY = 3
_SOON = 0.5
"""Within so many seconds of a result: while it is written, others are made, or before more come."""
_SENTENCE = re.compile(
    r"--scheduler tcp://[\d.:]+: the scheduler is gone; "
    r"what was done is kept: run the same command again"
)


def death(study: Path, folder: Path, draw: random.Random, results: int) -> tuple[str, list[Event]]:
    """Run a study on a cluster whose scheduler dies; say what came of it, and return the events."""
    seen: list[Event] = []
    with Cluster(_WORKERS, folder.parent) as there:
        moment = draw.randrange(results)
        timer = threading.Timer(draw.uniform(0, _SOON), there.scheduler.kill)

        def follow(event: Event) -> None:
            if isinstance(event, Phase | Record | JointRecord):
                seen.append(event)
            if len(seen) >= moment and not timer.ident:
                timer.start()

        try:
            run_there(study, folder, there.url, watch=follow)
            outcome = "finished before"
        except GossamerError as error:
            outcome = "one sentence" if _SENTENCE.fullmatch(str(error)) else f"other words: {error}"
        except Exception as error:  # noqa: BLE001 - what is counted
            outcome = f"traceback: {type(error).__name__}: {error}"
        timer.cancel()
    return outcome, seen


def are_kept(seen: list[Event], folder: Path) -> bool:
    """Tell whether all that came about is in the store."""
    with Store.open(folder) as store:
        kept = store.done_states() | store.done_records() | store.done_joints()
    return {event.key for event in seen if isinstance(event, Phase | Record | JointRecord)} <= kept


def campaign(deaths: int, folder: Path) -> Counter[str]:
    """Kill so many schedulers; count what was said, what was kept and what became of studies."""
    tune_process(1)  # as the workers are: bits depend on the number of threads
    study, found = write_study(folder, epochs=50), Counter[str]()
    events, _ = run(study, folder / "quiet")
    results = sum(isinstance(event, Phase | Record) for event in events)
    expected, number = numbers(folder / "quiet"), 0
    while found["one sentence"] < deaths:
        draw, out = random.Random(number), folder / f"out-{number}"
        out.mkdir()
        for _ in range(min(_DEATHS_A_STUDY, deaths - found["one sentence"])):
            outcome, seen = death(study, out, draw, results)
            found[outcome] += 1
            found["everything kept" if are_kept(seen, out) else "something lost"] += 1
            if outcome == "finished before":
                break
        with Cluster(_WORKERS, folder) as there:
            events = run_there(study, out, there.url)
        right = numbers(out) == expected and not failures(events)
        found["studies as a quiet run" if right else "studies that differ"] += 1
        number += 1
        print(f"{number} studies: {dict(found)}", flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--deaths", type=int, default=30)
    asked, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        found = campaign(asked.deaths, Path(name))
    result = {
        "command": f"python -m benchmarks.durability.scheduler_death --deaths {asked.deaths}",
        "seconds": round(time.monotonic() - started),
        **found,
    }
    print(write_result("durability-scheduler-death", 1, result))


if __name__ == "__main__":
    main()

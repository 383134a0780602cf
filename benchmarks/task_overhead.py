"""What a task costs beside its work while more than a thousand others wait.

    python -m benchmarks.task_overhead

A study of 1,200 networks with two hidden units, each trained for one step, is begun and stopped
after 200 trainings, all others waiting; likewise after 200 of its measurements. It is done by this
process, by one other and two others, and by one worker and two workers of a Dask cluster that share
this machine. Written are milliseconds by the clock from one task to the next, work and the writing
of states included, and of them those of the driving process's processor.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from benchmarks._common import write_result
from benchmarks.durability._cluster import Cluster
from gossamer.records.record import Phase, Record
from gossamer.records.store import Store, only_writer
from gossamer.studies.process_settings import tune_process
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.tasks import Event

_STUDY = """
name = "many"
title = "Many small tasks"
question = "What does a task cost beside its work?"
data = { name = "digits", examples = 100 }
network = { name = "mlp", hidden = [2] }
scales = { quick = { seeds = 1200 } }
parts = { training = [{ step = "train", epochs = 1, batch = 100 }] }
arms = [{ name = "dense", label = "Unpruned", role = "baseline", recipe = ["training"] }]
"""
_TASKS = 200
_FIRST = 10
"""Tasks that are left out, in which processes start."""
_WAYS = {
    "this process": 0,
    "1 process": 1,
    "2 processes": 2,
    "1 worker of a cluster": 1,
    "2 workers of a cluster": 2,
}


def timed(request: Request, kind: type[Event], *, own_process: bool) -> dict[str, float]:
    """Go on with the study for so many tasks of a kind; return what one takes."""
    moments: list[float] = []
    used: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, kind):
            moments.append(time.perf_counter())
            used.append(time.process_time())

    with only_writer(request.folder), Store.create(request.folder) as store:
        prepared = replace(prepare(request, store), own_process=own_process)
        carry_out(prepared, store, watch, lambda: len(moments) >= _TASKS)
    apart = [late - early for early, late in pairwise(moments[_FIRST:])]
    return {
        "mean_ms": round(1000 * statistics.fmean(apart), 2),
        "median_ms": round(1000 * statistics.median(apart), 2),
        "driver_ms": round(1000 * (used[-1] - used[_FIRST]) / len(apart), 2),
    }


def tasks_of(folder: Path, processes: int, url: str | None) -> dict[str, dict[str, float]]:
    """Time trainings, then measurements once all trainings are done."""
    study, out = folder / "many.toml", folder / "out"
    study.write_text(_STUDY)
    jobs = None if url else max(processes, 1)
    request = Request(study=str(study), folder=out, jobs=jobs, threads=1, scheduler=url)
    found = {"training": timed(request, Phase, own_process=processes > 0)}
    with only_writer(out), Store.create(out) as store:
        rest = prepare(replace(request, jobs=1, scheduler=None), store)
        measured: list[Event] = []
        carry_out(
            replace(rest, plan=replace(rest.plan, measurings=())), store, measured.append, bool
        )
    found["measuring"] = timed(request, Record, own_process=processes > 0)
    return found


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.parse_args()
    tune_process(1)
    result = {}
    for way, processes in _WAYS.items():
        with tempfile.TemporaryDirectory() as name:
            if "worker" in way:
                with Cluster(processes, Path(name)) as there:
                    result[way] = tasks_of(Path(name), processes, there.url)
            else:
                result[way] = tasks_of(Path(name), processes, None)
        print(f"{way:24} {result[way]}", flush=True)
    print(write_result("task-overhead", 1, {"tasks waiting": "1,000 or more", **result}))


if __name__ == "__main__":
    main()

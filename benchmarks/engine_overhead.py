"""What the engine costs beside training and measuring, on a study of 1,000 trials.

    python -m benchmarks.engine_overhead

Tiny networks on the digits, so that the engine is most of the work. Measured: seconds a trial
beside training and measuring; typing the finished study again; the report of all its records.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._common import write_result
from gossamer.records.store import Store
from gossamer.reporting import write_report
from gossamer.studies.process_settings import tune_process
from gossamer.studies.run import Request, carry_out, prepare

LEVELS = ", ".join(f"{level / 1000:.3f}" for level in range(100, 1000, 10))
STUDY = f"""
name = "thousand"
title = "A thousand trials"
question = "What does the engine cost?"
[data]
name = "digits"
[network]
name = "mlp"
hidden = [16]
[grid]
sparsity = [{LEVELS}]
[scales.quick]
seeds = 11
[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = [{{ step = "train", epochs = 1, batch = 128 }}]
[[arms]]
name = "weight"
label = "Weight pruning"
recipe = [
  {{ step = "train", epochs = 1, batch = 128 }},
  {{ step = "prune", sparsity = "$sparsity" }},
]
"""
REPEATS = 5


def main() -> None:
    """Measure, print, write the result."""
    tune_process(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "thousand.toml").write_text(STUDY)
        out = folder / "out"
        request = Request(study=str(folder / "thousand.toml"), folder=out, jobs=1)
        with Store.create(out) as store:
            started = time.perf_counter()
            prepared = prepare(request, store)
            carry_out(prepared, store, lambda event: None, lambda: False)  # noqa: ARG005
            whole = time.perf_counter() - started
            study = store.latest_study()
            records = store.records([trial.key for trial in study.trials])
            phases = store.phases({key for trial in study.trials for key in trial.phases})
            started = time.perf_counter()
            write_report(study, records, phases, (), out)
            report = time.perf_counter() - started
            store.mark_reported()
        work = sum(r.seconds for r in records.values()) + sum(p.seconds for p in phases.values())
        command = [sys.executable, "-m", "gossamer", "run", str(folder / "thousand.toml")]
        again = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            subprocess.run(
                [*command, "--jobs", "1", "--out", str(out)], check=True, capture_output=True
            )
            again.append(time.perf_counter() - started)
    result = {
        "trials": len(records),
        "overhead_ms_per_trial": round(1000 * (whole - work) / len(records), 2),
        "seconds_to_type_it_again": [round(seconds, 2) for seconds in sorted(again)],
        "seconds_for_the_report": round(report, 2),
    }
    for key, value in result.items():
        print(f"{key:30} {value}")
    print(write_result("engine-overhead", 1, result))


if __name__ == "__main__":
    main()

"""What planning, reporting and typing again cost, on a study of 100,100 trials that nobody trained.

    python -m benchmarks.scale [--arms 10] [--levels 100] [--seeds 100] [--keep FOLDER]

The store is synthetic: one small study is run, and its records are kept under the keys and the
identities of all others, with accuracies of a seeded generator. Measured, each in a process of its
own as a user types it: the dry run of the study from nothing, the report of all records, and the
finished study typed again. Seconds of the processor are those of the process alone, so that other
work on the machine counts little.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._common import write_result
from gossamer.records.record import Phase, Record
from gossamer.records.store import Store
from gossamer.studies.plan import PlannedTrial
from gossamer.studies.run import Prepared, Request, carry_out, describe_run, prepare

_DENSE = """[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = [{ step = "train", epochs = 1, batch = 128 }]
"""
_CLAIM = """[[claims]]
name = "a"
text = "Pruning costs accuracy."
says = "lower"
compare = "way-0"
against = "dense"
levels = [0.5]
"""


def study_text(arms: int, levels: int, seeds: int, *, retrained: bool) -> str:
    """Return a study of so many pruned arms beside the unpruned one."""
    grid = ", ".join(f"{0.5 + 0.49 * level / levels:.6f}" for level in range(levels))
    again = '{ step = "train", epochs = 1, batch = 128 },' if retrained else ""
    head = f"""name = "scale"
title = "A study of many trials"
question = "What does planning cost?"
[data]
name = "digits"
[network]
name = "mlp"
hidden = [16]
[grid]
sparsity = [{grid}]
[scales.quick]
seeds = {seeds}
"""
    pruned = [
        f"""[[arms]]
name = "way-{arm}"
label = "Pruned in way {arm}"
recipe = [
  {{ step = "train", epochs = {arm + 1}, batch = 128 }},
  {{ step = "prune", sparsity = "$sparsity" }},
  {again}
]
"""
        for arm in range(arms)
    ]
    return "".join([head, _DENSE, *pruned, _CLAIM])


def templates(folder: Path, *, retrained: bool) -> tuple[dict[str, Record], Phase]:
    """Run one trial of each kind; return the records by arm, and a phase."""
    file = folder / "small.toml"
    file.write_text(study_text(1, 1, 1, retrained=retrained))
    with Store.create(folder / "small") as store:
        prepared = prepare(Request(study=str(file), folder=folder / "small", jobs=1), store)
        carry_out(prepared, store, lambda event: None, lambda: False)  # noqa: ARG005
        labels = {trial.key: trial for trial in store.latest_study().trials}
        found = store.records(labels)
        phases = store.phases({key for trial in labels.values() for key in trial.phases})
    return {labels[key].arm: record for key, record in found.items()}, next(iter(phases.values()))


def fill(store: Store, prepared: Prepared, known: dict[str, Record], phase: Phase) -> None:
    """Keep a record of every trial, as if all had been trained and measured."""
    draw = np.random.default_rng(0)
    for training in prepared.plan.trainings:
        store.state_path(training.key).touch()
        changed = {"key": training.key, "optimizer_steps": training.steps}
        store.add_phase(phase.model_copy(update=changed))
    for planned in prepared.plan.trials:
        arm = planned.arm if planned.arm == "dense" else "way-0"
        store.add_record(_record(planned, known[arm], draw))
    store.save_study(describe_run(prepared))


def _record(planned: PlannedTrial, template: Record, draw: np.random.Generator) -> Record:
    accuracy = float(np.clip(0.95 - 0.3 * planned.level**4 + draw.normal(0, 0.01), 0, 1))
    changed = {"test_accuracy": accuracy, "sparsity": planned.level}
    return template.model_copy(
        update={
            "key": planned.keyed.record,
            "identity": planned.keyed.identity,
            "phases": planned.keyed.phases,
            "measures": {**template.measures, **changed},
        }
    )


def timed(*arguments: str) -> dict[str, float]:
    """Run a command of gossamer; return its seconds and the most memory it held."""
    code = (
        "import json, resource, sys, time; from gossamer.__main__ import main\n"
        "begun = time.perf_counter()\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "finally:\n"
        "  used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "  print(json.dumps([used.ru_utime + used.ru_stime, time.perf_counter() - begun,"
        " used.ru_maxrss / 2**20]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    processor, wall, memory = json.loads(done.stderr.strip().splitlines()[-1])
    return {
        "seconds_of_processor": round(processor, 2),
        "seconds_by_the_clock": round(wall, 2),
        "gib": round(memory, 2),
    }


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, usual in (("arms", 10), ("levels", 100), ("seeds", 100)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--retrained", action="store_true", help="train each pruned network again")
    parser.add_argument(
        "--keep", type=Path, help="leave the study and its store here, or take them"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        file, out = folder / "scale.toml", folder / "out"
        shape = {name: getattr(asked, name) for name in ("arms", "levels", "seeds")}
        file.write_text(study_text(**shape, retrained=asked.retrained))
        run = ("run", str(file), "--jobs", "1", "--threads", "1")
        dry = timed(*run, "--dry-run", "--out", str(folder / "nothing"))
        request = Request(study=str(file), folder=out, jobs=1)
        if not Store.is_there(out):
            with Store.create(out) as store:
                prepared = prepare(request, store)
                fill(store, prepared, *templates(folder, retrained=asked.retrained))
        result = {
            "trials": prepare(request, None).plan.distinct_trials,
            **shape,
            "retrained": asked.retrained,
            "dry_run": dry,
            "report": timed("report", str(out)),
            "typed_again": timed(*run, "--out", str(out)),
        }
    for key, value in result.items():
        print(f"{key:12} {value}")
    name = "scale-retrained" if asked.retrained else "scale"
    print(write_result(name, 1, result))


if __name__ == "__main__":
    main()

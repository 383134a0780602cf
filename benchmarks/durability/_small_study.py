"""A study of seconds with everything that a store keeps: states, statistics, attacks, overlaps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gossamer.records.store import Store, only_writer
from gossamer.studies.damage import without_damage
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.tasks import Event, Failure

STUDY = """
name = "durable"
title = "A small study of leakage"
question = "Is it the same whatever happens?"
leakage = "paired-halves"
overlaps = [["weight", "lent"]]
data = { name = "digits", examples = 100 }
network = { name = "mlp", hidden = [6] }
grid = { sparsity = [0.5] }
scales = { quick = { seeds = 2, values = { epochs = 1 } } }
parts = { training = [{ step = "train", epochs = "$epochs", batch = 32 }] }
sources = { again = { recipe = ["training", { step = "prune", sparsity = "$sparsity" }] } }
arms = [
  { name = "dense", label = "Unpruned", role = "baseline", recipe = ["training"] },
  { name = "weight", label = "Weights", recipe = ["training", { step = "prune", sparsity = "$sparsity" }] },
  { name = "lent", label = "Borrowed mask", data = { pool = "all" }, recipe = [{ step = "transfer", source = "again" }, "training"] },
]
"""  # noqa: E501 - inline tables have one line


def write_study(folder: Path, epochs: int = 1) -> Path:
    """Write the study's file."""
    path = folder / "durable.toml"
    path.write_text(STUDY.replace("epochs = 1", f"epochs = {epochs}"))
    return path


def run(
    study: Path, folder: Path, should_stop: Callable[[list[Event]], bool] = lambda _: False
) -> tuple[list[Event], list[str]]:
    """Run the study in this process; return what came about, and what was told of damage."""
    events: list[Event] = []
    with only_writer(folder), Store.create(folder) as store:
        prepared = prepare(Request(study=str(study), folder=folder, jobs=1, threads=1), store)
        prepared, told = without_damage(prepared, store)
        carry_out(prepared, store, events.append, lambda: should_stop(events))
        told += store.told()
    return events, told


def failures(events: list[Event]) -> list[Failure]:
    """Return what failed."""
    return [event for event in events if isinstance(event, Failure)]


def numbers(folder: Path) -> dict[str, Any]:
    """Return all that was found, less times and machine."""
    leave = {"seconds": True, "environment": True}
    with Store.open(folder) as store:
        study = store.latest_study()
        records = store.records([trial.key for trial in study.trials])
        phases = store.phases({key for trial in study.trials for key in trial.phases})
        joints = store.joints(study.joints)
        told = store.told()
    found: dict[str, Any] = {"told": told, "study": (study.trials, study.joints)}
    found |= {f"record {key}": one.model_dump(exclude=leave) for key, one in records.items()}
    found |= {f"joint {key}": one.model_dump(exclude=leave) for key, one in joints.items()}
    for key, phase in phases.items():
        history = [epoch.model_dump(exclude={"seconds"}) for epoch in phase.history]
        found[f"phase {key}"] = (phase.model_dump(exclude=leave | {"history": True}), history)
    return found

"""Running studies in tests, and what they found."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gossamer.records.record import Phase, Record
from gossamer.records.store import Store
from gossamer.studies.damage import without_damage
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.tasks import Event


def run_all(study: Path, folder: Path, jobs: int = 1, stop_after: int | None = None) -> list[Event]:
    """Run a study in this process; stop after so many phases and records."""
    events: list[Event] = []

    def made() -> int:
        return sum(isinstance(event, Phase | Record) for event in events)

    with Store.create(folder) as store:
        prepared = prepare(Request(study=str(study), folder=folder, jobs=jobs), store)
        prepared, _ = without_damage(prepared, store)
        carry_out(
            prepared, store, events.append, lambda: stop_after is not None and made() >= stop_after
        )
    return events


def numbers(folder: Path) -> dict[str, Any]:
    """Return everything that was found, less times and machine."""
    with Store.open(folder) as store:
        study = store.latest_study()
        records = store.records([trial.key for trial in study.trials])
        phases = store.phases({key for trial in study.trials for key in trial.phases})
    found: dict[str, Any] = {}
    for key, record in records.items():
        found[key] = record.model_dump(exclude={"seconds", "environment"})
    for key, phase in phases.items():
        history = [epoch.model_dump(exclude={"seconds"}) for epoch in phase.history]
        found[key] = {
            **phase.model_dump(exclude={"seconds", "environment", "history"}),
            "history": history,
        }
    return found


def command(study: Path, folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "gossamer", "run", str(study), "--out", str(folder), *options]


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.02)

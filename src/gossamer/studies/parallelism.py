"""How many processes a study is done in, and how many threads each has.

Numbers are the same bits for the same number of threads alone. So what was chosen is noted in the
study's folder, and taken again when it goes on. What the user says comes first, then the
environment, then the note; without any of these it is tried out (`autotuning`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.core.errors import InputError, UnwritableError
from gossamer.core.files import replacing, unwritable
from gossamer.core.formats import counted, listed
from gossamer.core.system import available_cores, environment_threads, permitted_cores
from gossamer.recipes import Train
from gossamer.recipes.keys import Datasets
from gossamer.records.environment import describe_environment
from gossamer.records.store import Store
from gossamer.studies.plan import Plan

if TYPE_CHECKING:
    from gossamer.studies.run import Request

_NOTE = "threads.json"
_MOST_A_CORE = 64
"""More processes or threads than so many times the cores are refused, as nobody can mean it."""
_WORTH_THREADS = 16_384
"""Numbers in a batch of inputs, above which folders without a note had more than one thread."""
_WORTH_PROCESSES = 250_000_000
"""Numbers in all inputs that are trained on, above which they had several processes."""


@dataclass(frozen=True)
class Parallelism:
    """Processes here, and threads of each; None where it is to be tried out."""

    jobs: int | None
    threads: int | None


def known_parallelism(
    request: "Request", plan: Plan, seeds: int, datasets: Datasets, store: Store | None, name: str
) -> Parallelism:
    """Return what is known of processes and threads without trying.

    Parameters
    ----------
    request
        What the user says.
    plan, seeds, datasets
        Of the study.
    store
        Of its folder, which may hold a note; None if there is none yet.
    name
        Of the study and its scale.

    Raises
    ------
    InputError
        If the user says so many of them that nothing can be meant.
    """
    noted = None if store is None else read_note(store.folder, name)
    _check_sensible(request)
    threads = request.threads or environment_threads() or (noted.threads if noted else None)
    if request.scheduler is not None:
        return Parallelism(1, request.threads or (noted.threads if noted else None) or 1)
    if noted is not None:
        return Parallelism(request.jobs or noted.jobs, threads)
    former = _as_formerly(request, plan, seeds, datasets)
    if request.device != "cpu" or (store is not None and _is_without_note(store)):
        return Parallelism(request.jobs or former.jobs, threads or former.threads)
    return Parallelism(request.jobs, threads)


def said(request: "Request") -> list[str]:
    """Return what the user says of processes and threads here, as it was said."""
    found = [] if request.jobs is None else [f"--jobs {request.jobs}"]
    if request.threads is not None:
        return [*found, f"--threads {request.threads}"]
    threads = environment_threads()
    return found if threads is None else [*found, f"{threads} threads of the environment"]


def _check_sensible(request: "Request") -> None:
    most = _MOST_A_CORE * available_cores()
    asked = request.jobs or 1, request.threads or environment_threads() or 1
    if request.scheduler is None and max(asked) > most:
        raise InputError(
            f"{listed(said(request))}: {counted(available_cores(), 'core')} can do nothing with "
            f"more than {most} processes or threads, expected one for each core at most"
        )


def noted_name(study: str, scale: str) -> str:
    """Return under which name the choice for a study is noted."""
    return f"{study}, {scale}"


def read_note(folder: Path, name: str) -> Parallelism | None:
    """Return what was chosen for a study in a folder on such a processor; None without a note."""
    found = _notes(folder).get(name)
    try:
        if found is None or found["processor"] != _processor():
            return None
        return Parallelism(int(found["jobs"]), int(found["threads"]))
    except (KeyError, TypeError, ValueError):
        return None


def write_note(folder: Path, name: str, jobs: int, threads: int) -> None:
    """Note what was chosen for a study, beside what is noted of others.

    Raises
    ------
    UnwritableError
        If the folder takes no more.
    """
    note = {"jobs": jobs, "threads": threads, "processor": _processor()}
    notes = {**_notes(folder), name: note}
    try:
        with replacing(folder / _NOTE) as temporary:
            temporary.write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) or UnwritableError(
            f"{folder / _NOTE} cannot be written", "see what its folder lacks"
        ) from error


def _notes(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _processor() -> str:
    return describe_environment(1, "cpu").processor


def _is_without_note(store: Store) -> bool:
    """Whether a folder holds numbers from before there were notes."""
    if (store.folder / _NOTE).is_file():
        return False
    begun = any((store.folder / "states").glob("*.checkpoint"))
    return begun or bool(store.done_states() or store.done_records())


def _as_formerly(request: "Request", plan: Plan, seeds: int, datasets: Datasets) -> Parallelism:
    """Return what was chosen before it was tried out, from the whole study and not what is left.

    A folder from then goes on with the number of threads that it began with, and so to the same
    bits.
    """
    largest = max(math.prod(datasets(p.keyed.trial.data).input_shape) for p in plan.trials)
    jobs = request.jobs or 1
    long = plan.examples_trained * largest >= _WORTH_PROCESSES
    if request.jobs is None and request.device == "cpu" and long:
        jobs = min(seeds, permitted_cores())
    steps = [step for planned in plan.trials for step in planned.keyed.trial.steps]
    batch = max((step.batch for step in steps if isinstance(step, Train)), default=0)
    threads = max(1, permitted_cores() // jobs) if batch * largest >= _WORTH_THREADS else 1
    return Parallelism(jobs, threads)

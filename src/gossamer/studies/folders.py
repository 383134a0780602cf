"""The folder of a study for which a user names none: it follows the study's name.

So a study file that was renamed, or copied elsewhere, finds what was computed.
"""

from pathlib import Path

from gossamer.core.errors import GossamerError, InputError
from gossamer.records.record import StudyRun
from gossamer.records.store import Store
from gossamer.studies.plan import PlannedTrial
from gossamer.studies.run import Prepared
from gossamer.studies.spec import read_study

RUNS = Path("runs")


def default_folder(study: str) -> Path:
    """Return ``runs/NAME``, or a folder after the file's name that holds this study already.

    Parameters
    ----------
    study
        A built-in study, or a TOML file.

    Raises
    ------
    InputError
        If there is no such study, or its file is not as it should be.
    """
    name = read_study(study)[0].name
    folder, after_file = RUNS / name, RUNS / Path(study).stem
    if not Store.is_there(folder) and Store.is_there(after_file):
        with Store.open(after_file) as store:
            there = _latest(store)
        if there is not None and there.name == name:
            return after_file
    return folder


def check_same_study(prepared: Prepared, store: Store) -> None:
    """Refuse to mix a study into the folder of another one that has the same name.

    It is the same if title or question are, or if anything that was computed is part of it: a
    study that was changed stays the one that it was.

    Raises
    ------
    InputError
        If it is another one.
    """
    there, spec = _latest(store), prepared.spec
    if there is None or there.title == spec.title:
        return
    if there.question == " ".join(spec.question.split()):
        return
    if _keys(prepared.plan.trials) & (store.done_records() | store.done_states()):
        return
    raise InputError(
        f"{store.folder} holds another study of the name {spec.name!r}, “{there.title}”: give this "
        f"one, “{spec.title}”, another name, or a folder of its own with --out"
    )


def _latest(store: Store) -> StudyRun | None:
    try:
        return store.latest_study()
    except GossamerError:
        return None  # nothing was run into it, or by another version; opening it tells


def _keys(trials: tuple[PlannedTrial, ...]) -> set[str]:
    """Return the keys of records and trained states."""
    return {key for one in trials for key in (one.keyed.record, *one.keyed.phases)}

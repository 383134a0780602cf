"""Two stores of one study joined: what one lacks is taken from the other, what differs is named."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gossamer.core.errors import InputError, StoreError
from gossamer.core.files import replacing, unwritable
from gossamer.core.formats import counted
from gossamer.records.joint import JointRecord
from gossamer.records.lines import KINDS, Contents, contents_of
from gossamer.records.object_store import noted_address
from gossamer.records.record import Phase, Record, Value
from gossamer.records.store import Store, state_path, statistics_path
from gossamer.studies.damage import StoredFile

Keep = Literal["refuse", "mine", "theirs"]
_CALLED = {"phases": "training", "records": "record", "joints": "joint measure"}
_TAKEN = {"phases": "trainings", "records": "records", "joints": "joint measures"}
_SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """Two values of one key whose numbers are not the same."""

    kind: str
    key: str
    text: str
    """What differs, in a sentence's part."""


@dataclass(frozen=True)
class Merged:
    """What was taken, of each kind, and what differed."""

    taken: Mapping[str, int]
    differences: tuple[Difference, ...]
    left_out: tuple[str, ...]


def merge(store: Store, theirs: Contents, folder: Path | None, keep: Keep) -> Merged:
    """Take into a store what another holds.

    Parameters
    ----------
    store
        Of this process, which alone writes to it.
    theirs
        What the other one holds.
    folder
        Where its states and statistics are; None if it is a text file.
    keep
        Whose numbers to keep where they differ.

    Raises
    ------
    InputError
        If numbers differ and that is to be refused; nothing is taken then.
    """
    mine = contents_of(store)
    found = tuple(_differences(mine, theirs))
    if found and keep == "refuse":
        shown = "".join(f"\n  {one.text}" for one in found[:_SHOWN])
        more = f"\n  and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        raise InputError(
            f"{counted(len(found), 'value')} of the same key "
            f"{'differs' if len(found) == 1 else 'differ'}, so nothing was merged:{shown}{more}\n"
            "choose whose to keep with --keep mine or --keep theirs"
        )
    differing = {(one.kind, one.key) for one in found}
    taken = dict.fromkeys([*_TAKEN.values(), "states", "statistics"], 0)
    left_out = list(theirs.damaged)
    replaced = set()
    for kind in KINDS:
        for key, value in getattr(theirs, kind).items():
            if (kind, key) in differing and keep == "mine":
                continue
            if (kind, key) in differing:
                replaced.add(key)
            if _take(store, getattr(mine, kind).get(key), value, (kind, key) in differing):
                taken[_TAKEN[kind]] += 1
    if folder is not None:
        if (there := noted_address(folder)) and there != store.states_at:
            left_out.append(f"States and statistics of {folder} at {there} stay there.")
        for file, target in _files(folder, store.folder, theirs):
            if target.is_file() and file.path.stem not in replaced:
                continue
            whole, _ = file.check()
            if not whole:
                left_out.append(f"Damaged, and so left out: {file.path}.")
                continue
            _copy(file.path, target)
            taken["states" if file.what == "trained state" else "statistics"] += 1
    for study in theirs.studies:
        if study not in mine.studies:
            store.save_study(study)
    if mine.studies:
        store.save_study(mine.studies[-1])  # the one asked for last here stays so
    return Merged(taken, found, tuple(left_out))


def _take(store: Store, mine: Value | None, value: Value, differs: bool) -> bool:
    """Keep a value that is not there, or more of one that is; tell whether it was."""
    if isinstance(value, Record):
        lacking = mine is None or bool(value.versions.keys() - getattr(mine, "versions", {}).keys())
        if lacking or differs:
            store.add_record(value, value.measures if differs else ())
        return lacking or differs
    if mine is not None and not differs:
        return False
    if isinstance(value, Phase):
        store.add_phase(value)
    elif isinstance(value, JointRecord):
        store.add_joint(value)
    return True


def _differences(mine: Contents, theirs: Contents) -> Iterator[Difference]:
    for kind in KINDS:
        here = getattr(mine, kind)
        for key, value in getattr(theirs, kind).items():
            if key in here and (text := _difference(_numbers(here[key]), _numbers(value))):
                yield Difference(kind, key, f"{_CALLED[kind]} {key[:12]}: {text}")


def _numbers(value: Value) -> dict[str, Any]:
    """Return what determines a value, flat; neither times nor machines are."""
    if isinstance(value, Record):
        found: dict[str, Any] = dict(value.measures)
        found |= {f"class accuracies on {part}": of for part, of in value.per_class.items()}
        return found
    if isinstance(value, Phase):
        last = value.history[-1] if value.history else None
        found = {"optimizer steps": value.optimizer_steps, "stopped": value.stopped}
        if last is not None:
            found["last loss"] = last.train_loss
            found["last accuracy"] = last.train_accuracy
        return found
    assert isinstance(value, JointRecord)
    if value.kind == "latency":
        return {}  # a time is another one each time it is taken
    return {
        f"{name} of {record[:12]}": number
        for record, numbers in value.measures.items()
        for name, number in numbers.items()
    }


def _difference(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    for name, number in mine.items():
        if name in theirs and number != theirs[name]:
            return f"{name} is {number} here and {theirs[name]} there"
    return ""


def _files(source: Path, target: Path, theirs: Contents) -> Iterator[tuple[StoredFile, Path]]:
    """Yield the files of a store that its database knows of, and where they go."""
    for key in theirs.phases:
        path = state_path(source, key)
        if path.is_file():
            yield StoredFile(path, "trained state"), state_path(target, key)
    for key in theirs.records:
        path = statistics_path(source, key)
        if path.is_file():
            yield StoredFile(path, "statistics file"), statistics_path(target, key)


def _copy(source: Path, target: Path) -> None:
    try:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise unwritable(target.parent, error) or StoreError(
            f"{target} cannot be written: {error}"
        ) from error

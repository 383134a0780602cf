"""The store: one folder that keeps what was found, so that nothing is computed twice.

``store.sqlite`` holds phases, records, what was measured of several networks together, and the
studies that asked for them; ``states/`` holds one file for each trained state, ``statistics/`` one
for each network whose leakage is measured. A trained state counts as done once its phase is in the
database, which happens after its file was synced and renamed. One process writes.

Whatever is kept has a checksum over its key and its content. What fails it counts as not there:
who reads leaves it out, who writes moves it to ``damaged/``, so that it is computed again.
"""

import errno
import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

from pydantic import ValidationError

from gossamer.core.errors import InputError, StoreError
from gossamer.core.files import unwritable
from gossamer.core.system import failure_reason
from gossamer.records.checksums import checksum, is_whole
from gossamer.records.database import Database
from gossamer.records.failed import Failed
from gossamer.records.joint import JointRecord
from gossamer.records.layout import DATABASE, is_there
from gossamer.records.object_store import (
    ObjectStore,
    checked_address,
    note_address,
    noted_address,
)
from gossamer.records.record import BEFORE_VERSIONS, Phase, Record, StudyRun, Value, with_parts
from gossamer.records.setting_aside import set_aside

_LOCKED = (errno.EWOULDBLOCK, errno.EACCES)
"""What is said of a file that another process has locked; file systems without locks say others."""
_AT_WORK = b"a run is at work\n"
"""Stands in the lock until it is given back, which a process that is killed does not do."""


def state_path(folder: Path, key: str) -> Path:
    """Return the file of a trained state in a store's folder."""
    return folder / "states" / f"{key}.safetensors"


def checkpoint_path(folder: Path, key: str) -> Path:
    """Return the file of an unfinished training, kept on the way to a state."""
    return folder / "states" / f"{key}.checkpoint"


def statistics_path(folder: Path, key: str) -> Path:
    """Return the file of what attacks need to know of a record's network."""
    return folder / "statistics" / f"{key}.safetensors"


Kept = TypeVar("Kept", bound=Value)


class Store:
    """What was found so far, in one folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Store.create(Path(folder)) as store:
    ...     store.records(["0" * 64])
    {}
    """

    def __init__(self, database: Database) -> None:
        self.folder = database.folder
        self._database = database
        self.states_at = noted_address(self.folder)
        """Where states and statistics are that workers of a cluster made; None for the folder."""

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Open the store in a folder, making both if they are not there.

        Raises
        ------
        StoreError
            If the folder cannot be written, or holds a store of a later layout.
        """
        try:
            for part in ("states", "statistics"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise _cannot_be_made(folder, error) from error
        return cls(Database.to_write(folder))

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Tell whether a folder holds a store."""
        return is_there(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a store that is there already, to read it; nothing is written.

        Raises
        ------
        StoreError
            If there is none, or it cannot be read.
        """
        if not is_there(folder):
            raise StoreError(
                f"{folder} holds no results: there is no {DATABASE} in it; "
                "name the folder that `gossamer run --out` wrote"
            )
        return cls(Database.to_read(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; the folder can then be moved or deleted."""
        self._database.connection.close()

    def told(self) -> list[str]:
        """Return what a user must know of damage that was found, in sentences, each told once."""
        return self._database.told()

    def state_path(self, key: str) -> Path:
        """Return the file of a trained state."""
        return state_path(self.folder, key)

    def sweep(self) -> None:
        """Remove what a crash left half-written; only for the one process that writes.

        Workers of a run that was killed may keep a checkpoint when another run has got further.
        """
        for part in ("states", "statistics", "figures", "."):
            for path in (self.folder / part).glob(".*.tmp"):
                self._remove(path)
        for key in self.done_states():
            self._remove(checkpoint_path(self.folder, key))

    def set_aside(self, path: Path) -> None:
        """Move a file that is damaged to a folder of such, where nobody reads it.

        The same bytes at the address of the states are removed, from where they would come back.

        Raises
        ------
        StoreError
            If the folder cannot be written, or the address not be reached.
        """
        name = path.relative_to(self.folder).as_posix()
        try:
            content = path.read_bytes() if self._elsewhere is not None else b""
            set_aside(self.folder, path)
        except OSError as error:
            raise _cannot_be_made(self.folder, error) from error
        if self._elsewhere is not None and self._elsewhere.fetch(name, path):
            if path.read_bytes() == content:
                self._elsewhere.remove(name)
            path.unlink()

    def sizes_elsewhere(self) -> dict[str, int]:
        """Return the bytes of what is at the address of the states, by name; none without one."""
        return {} if self._elsewhere is None else self._elsewhere.sizes()

    def fetch_file(self, name: str, path: Path) -> bool:
        """Copy a file from the address of the states; tell whether there is one."""
        return self._elsewhere is not None and self._elsewhere.fetch(name, path)

    def remove_elsewhere(self, name: str) -> None:
        """Remove a file at the address of the states."""
        if self._elsewhere is not None:
            self._elsewhere.remove(name)

    def done_states(self) -> set[str]:
        """Return the keys of all trained states that are done."""
        present = self._present("states")
        return present & self._database.scan("phases").keys()

    def done_phases(self) -> set[str]:
        """Return the keys of all trainings that were done, whether their state is there or not."""
        return set(self._database.scan("phases"))

    def done_records(self) -> set[str]:
        """Return the keys of all records."""
        return set(self._database.scan("records"))

    def measured(self) -> dict[str, Mapping[str, int]]:
        """Return the versions of the measurements of each record, by its key."""
        found = self._database.scan("records")
        return {
            key: with_parts(json.loads(text)) if text else BEFORE_VERSIONS
            for key, text in found.items()
        }

    def kept_statistics(self) -> set[str]:
        """Return the keys of the records whose statistics for attacks are there."""
        return self._present("statistics")

    def _present(self, part: str) -> set[str]:
        here = {path.stem for path in (self.folder / part).glob("*.safetensors")}
        return here if self._elsewhere is None else here | self._elsewhere.keys(part)

    @cached_property
    def _elsewhere(self) -> ObjectStore | None:
        return None if self.states_at is None else ObjectStore(self.states_at)

    def keep_states_at(self, url: str | None) -> None:
        """Have states and statistics at an address from now on; None for where they are.

        Raises
        ------
        InputError
            If it cannot be reached, or they are at another one.
        StoreError
            If the folder cannot be written.
        """
        if url is None or (url := checked_address(url)) == self.states_at:
            return
        if self.states_at is not None:
            raise InputError(
                f"--states {url}: the states of {self.folder} are at {self.states_at}; name that, "
                "or leave --states out"
            )
        reached = ObjectStore(url)
        try:
            note_address(self.folder, url)
        except OSError as error:
            raise _cannot_be_made(self.folder, error) from error
        self.states_at, self._elsewhere = url, reached

    def fetch(self, part: str, keys: Collection[str]) -> None:
        """Bring states or statistics here that are elsewhere, as far as they are there.

        Raises
        ------
        StoreError
            If they cannot be read.
        """
        name_of = {"states": state_path, "statistics": statistics_path}[part]
        for key in sorted(keys) if self._elsewhere is not None else ():
            if not (path := name_of(self.folder, key)).is_file():
                assert self._elsewhere is not None
                self._elsewhere.fetch(name_of(Path(), key).as_posix(), path)

    def done_joints(self) -> set[str]:
        """Return the keys of everything that was measured of several networks together."""
        return set(self._database.scan("joints"))

    def add_phase(self, phase: Phase) -> None:
        """Keep a training that was done; its state's file must be in place.

        Only then is its checkpoint no longer needed.
        """
        self._put("phases", phase.key, phase)
        self._remove(checkpoint_path(self.folder, phase.key))

    def add_record(self, record: Record, replaced: Collection[str] = ()) -> None:
        """Keep what was measured, with what else was measured of the same network before."""
        if earlier := self.records([record.key]).get(record.key):
            record = earlier.completed_by(record, replaced)
        self._put("records", record.key, record)

    def add_joint(self, joint: JointRecord) -> None:
        """Keep what was measured of several networks together."""
        self._put("joints", joint.key, joint)

    def add_failed(self, failed: Failed) -> None:
        """Keep what was given up, so that it is not tried again unless that is asked for."""
        self._put("failures", failed.key, failed)

    def forget_failed(self) -> None:
        """Have everything that was given up count as never tried."""
        self._check_folder()
        self._database.write("DELETE FROM failures")

    def failed(self) -> dict[str, Failed]:
        """Return what was given up, by the key of the state or the record."""
        return self._get("failures", self._database.scan("failures").keys(), Failed)

    def joints(self, keys: Collection[str]) -> dict[str, JointRecord]:
        """Return what was measured of several networks together, of those keys that are there."""
        return self._get("joints", keys, JointRecord)

    def phases(self, keys: Collection[str]) -> dict[str, Phase]:
        """Return the phases of those keys that are there."""
        return self._get("phases", keys, Phase)

    def records(self, keys: Collection[str]) -> dict[str, Record]:
        """Return the records of those keys that are there."""
        return self._get("records", keys, Record)

    def save_study(self, study: StudyRun) -> None:
        """Keep what was asked for; the study saved last is the one that is reported."""
        self._database.put_study(study.model_dump_json())

    def latest_study(self) -> StudyRun:
        """Return the study that was asked for last, of those that can be read.

        Raises
        ------
        StoreError
            If none was.
        """
        if not (studies := self.studies()):
            raise StoreError(f"{self.folder} holds no study yet: nothing was run into it")
        return studies[-1]

    def studies(self) -> list[StudyRun]:
        """Return the studies that were asked for, the last one last."""
        found = []
        for row in reversed(self._database.studies()):
            with suppress(ValidationError):  # of another version of gossamer
                found.append(StudyRun.model_validate_json(row.content))
        return found

    def mark_reported(self) -> None:
        """Note that the report of the latest study is written and nothing was added since."""
        for row in self._database.studies()[:1]:
            self._database.write(
                "UPDATE studies SET reported = ? WHERE number = ?",
                (checksum("reported", "", row.content), row.number),
            )

    def is_reported(self, study: StudyRun) -> bool:
        """Tell whether a study is the latest and its report holds all there is of it.

        The command line it was asked for with does not matter.
        """
        row = next(iter(self._database.studies()), None)
        if row is None or not is_whole("reported", "", row.content, row.reported):
            return False
        latest = self.latest_study()
        return latest == study.model_copy(update={"command": latest.command})

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_be_made(self.folder, error) from error

    def _put(self, table: str, key: str, value: Value) -> None:
        self._check_folder()
        self._database.put(table, key, value.model_dump_json())
        self._database.write("UPDATE studies SET reported = '' WHERE reported != ''")

    def _check_folder(self) -> None:
        """Refuse to write into a database that was deleted, which would take it without a word."""
        if not (self.folder / DATABASE).is_file():
            gone = FileNotFoundError(errno.ENOENT, f"{DATABASE} is gone")
            raise unwritable(self.folder, gone) or gone

    def _get(self, table: str, keys: Collection[str], kind: type[Kept]) -> dict[str, Kept]:
        """Return those rows that are there and whole, and that this gossamer can read."""
        found: dict[str, Kept] = {}
        unreadable: list[str] = []
        for key, content in self._database.rows(table, keys):
            try:
                found[key] = kind.model_validate_json(content)
            except ValidationError:
                unreadable.append(key)
        if unreadable:
            self._database.set_rows_aside(table, unreadable)
        return found


def _cannot_be_made(folder: Path, error: OSError) -> StoreError:
    """Say why a folder cannot be made or written."""
    said = StoreError(f"the folder {folder} cannot be written: {failure_reason(error)}")
    return (unwritable(folder, error) if folder.is_dir() else None) or said


@contextmanager
def only_writer(folder: Path) -> Iterator[bool]:
    """Hold the folder for one writing process, making it if it is not there.

    Yields whether the process that held it before was killed.

    Raises
    ------
    InputError
        If another run is at work in the folder.
    StoreError
        If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+b", buffering=0)  # nothing is left to write at its end
    except OSError as error:
        raise _cannot_be_made(folder, error) from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _LOCKED:  # for any other reason, SQLite's own locks have to do
                raise InputError(
                    f"another gossamer run is at work in {folder}: wait for it, or choose another "
                    "--out"
                ) from error
        file.seek(0)
        was_killed = bool(file.read())
        try:
            with suppress(OSError):  # a full disk is told of where something is kept
                file.write(_AT_WORK)
            yield was_killed
        finally:
            with suppress(OSError):
                file.truncate(0)

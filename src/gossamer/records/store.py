"""The store: one folder that keeps what was found, so that nothing is computed twice.

``store.sqlite`` holds phases, records, what was measured of several networks together, and the
studies that asked for them; ``states/`` holds one file for each trained state, ``statistics/`` one
for each network whose leakage is measured. A trained state counts as done once its phase is in the
database, which happens after its file was synced and renamed. One process writes.
"""

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from pydantic import ValidationError

from gossamer.core.errors import InputError, StoreError, UnwritableError
from gossamer.core.files import unwritable
from gossamer.core.system import failure_reason
from gossamer.records.joint import JointRecord
from gossamer.records.record import BEFORE_VERSIONS, Phase, Record, StudyRun, Value

_LAYOUT = 2
_ADDED = {1: "CREATE TABLE joints (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;"}
"""What turns a store of an earlier layout into one of the next."""
_TABLES = """
CREATE TABLE IF NOT EXISTS phases (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS joints (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS studies (
    number INTEGER PRIMARY KEY, json TEXT NOT NULL, reported INTEGER NOT NULL DEFAULT 0
);
"""
_DATABASE = "store.sqlite"


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

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Open the store in a folder, making both if they are not there.

        Raises
        ------
        StoreError
            If the folder cannot be written, or holds a store of another layout.
        """
        try:
            for part in ("states", "statistics"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise _cannot_be_made(folder, error) from error
        with _connected(folder) as connection:
            store = cls(folder, connection)
            if _is_empty(connection):
                connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={_LAYOUT}; COMMIT;")
            store._check_layout()
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        return store

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Tell whether a folder holds a store."""
        if not (folder / _DATABASE).is_file():
            return False
        with _connected(folder, reading=True) as connection:
            empty = _is_empty(connection)
            connection.close()
        return not empty

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a store that is there already.

        Raises
        ------
        StoreError
            If there is none, or it cannot be read.
        """
        if not cls.is_there(folder):
            raise StoreError(
                f"{folder} holds no results: there is no {_DATABASE} in it; "
                "name the folder that `gossamer run --out` wrote"
            )
        with _connected(folder, reading=True) as connection:
            store = cls(folder, connection)
            store._check_layout()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; the folder can then be moved or deleted."""
        self._connection.close()

    def _check_layout(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            raise StoreError(
                f"{self.folder / _DATABASE} is another program's database: use another folder"
            )
        if version in _ADDED:
            self._connection.executescript(
                f"BEGIN; {_ADDED[version]} PRAGMA user_version={version + 1}; COMMIT;"
            )
            version += 1
        if version != _LAYOUT:
            raise StoreError(
                f"{self.folder / _DATABASE} has layout {version}, this gossamer reads layout "
                f"{_LAYOUT}: use another folder"
            )

    def state_path(self, key: str) -> Path:
        """Return the file of a trained state."""
        return state_path(self.folder, key)

    def sweep(self) -> None:
        """Remove what a crash left half-written; only for the one process that writes.

        Workers of a run that was killed may keep a checkpoint when another run has got further.
        """
        for part in ("states", "statistics"):
            for path in (self.folder / part).glob(".*.tmp"):
                self._remove(path)
        for key in self.done_states():
            self._remove(checkpoint_path(self.folder, key))

    def done_states(self) -> set[str]:
        """Return the keys of all trained states that are done."""
        present = {path.stem for path in (self.folder / "states").glob("*.safetensors")}
        with _sentences(self.folder):
            rows = self._connection.execute("SELECT key FROM phases").fetchall()
        return present & {key for (key,) in rows}

    def done_records(self) -> set[str]:
        """Return the keys of all records."""
        return set(self.measured())

    def measured(self) -> dict[str, Mapping[str, int]]:
        """Return the versions of the measurements of each record, by its key."""
        query = "SELECT key, json_extract(json, '$.versions') FROM records"
        with _sentences(self.folder):
            rows = self._connection.execute(query).fetchall()
        return {key: json.loads(text) if text else BEFORE_VERSIONS for key, text in rows}

    def kept_statistics(self) -> set[str]:
        """Return the keys of the records whose statistics for attacks are there."""
        return {path.stem for path in (self.folder / "statistics").glob("*.safetensors")}

    def done_joints(self) -> set[str]:
        """Return the keys of everything that was measured of several networks together."""
        with _sentences(self.folder):
            return {key for (key,) in self._connection.execute("SELECT key FROM joints")}

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
        text = study.model_dump_json()
        with _sentences(self.folder), self._connection:  # commits, or rolls back
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM studies WHERE json = ?", (text,))
            self._connection.execute("INSERT INTO studies (json) VALUES (?)", (text,))

    def latest_study(self) -> StudyRun:
        """Return the study that was asked for last.

        Raises
        ------
        StoreError
            If none was.
        """
        with _sentences(self.folder):
            row = self._connection.execute(
                "SELECT json FROM studies ORDER BY number DESC LIMIT 1"
            ).fetchone()
        if row is None:
            raise StoreError(f"{self.folder} holds no study yet: nothing was run into it")
        return _parsed(StudyRun, row[0], self.folder)

    def mark_reported(self) -> None:
        """Note that the report of the latest study is written and nothing was added since."""
        with _sentences(self.folder):
            self._connection.execute(
                "UPDATE studies SET reported = 1 WHERE number = (SELECT max(number) FROM studies)"
            )

    def is_reported(self, study: StudyRun) -> bool:
        """Tell whether a study is the latest and its report holds all there is of it.

        The command line it was asked for with does not matter.
        """
        with _sentences(self.folder):
            row = self._connection.execute(
                "SELECT json, reported FROM studies ORDER BY number DESC LIMIT 1"
            ).fetchone()
        if row is None or not row[1]:
            return False
        latest = _parsed(StudyRun, row[0], self.folder)
        return latest == study.model_copy(update={"command": latest.command})

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_be_made(self.folder, error) from error

    def _put(self, table: str, key: str, value: Value) -> None:
        self._check_folder()
        with _sentences(self.folder):
            self._connection.execute(
                f"INSERT OR REPLACE INTO {table} VALUES (?, ?)",  # noqa: S608 - own names
                (key, value.model_dump_json()),
            )
            self._connection.execute("UPDATE studies SET reported = 0 WHERE reported")

    def _check_folder(self) -> None:
        """Refuse to write into a database that was deleted, which would take it without a word."""
        if not (self.folder / _DATABASE).is_file():
            gone = FileNotFoundError(errno.ENOENT, f"{_DATABASE} is gone")
            raise unwritable(self.folder, gone) or gone

    def _get(self, table: str, keys: Collection[str], kind: type[Kept]) -> dict[str, Kept]:
        wanted = json.dumps(list(keys))
        with _sentences(self.folder):
            rows = self._connection.execute(
                f"SELECT key, json FROM {table} WHERE key IN (SELECT value FROM json_each(?))",  # noqa: S608
                (wanted,),
            ).fetchall()
        return {key: _parsed(kind, text, self.folder) for key, text in rows}


def _can_be_read(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return False
    return True


def _has_a_journal(folder: Path) -> bool:
    journal = folder / f"{_DATABASE}-wal"
    return journal.is_file() and journal.stat().st_size > 0


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Tell whether a database holds nothing, as after a crash while it was being made."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not version and not tables


def _parsed(kind: type[Kept], text: str, folder: Path) -> Kept:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(
            f"{folder / _DATABASE} holds a {kind.__name__} that this gossamer cannot read "
            f"({error.error_count()} fields differ): use another folder"
        ) from error


@contextmanager
def _connected(folder: Path, *, reading: bool = False) -> Iterator[sqlite3.Connection]:
    """Connect to the database, perhaps to read it only; it stays open unless the block raises."""
    with _sentences(folder):
        connection = sqlite3.connect(folder / _DATABASE, isolation_level=None)
        if reading and not _can_be_read(connection) and not _has_a_journal(folder):
            # A full disk has no room for the file by which readers know of writers. Without a
            # journal there is no writer, so that the database can be read as it is.
            connection.close()
            address = f"{(folder / _DATABASE).absolute().as_uri()}?mode=ro&immutable=1"
            connection = sqlite3.connect(address, uri=True, isolation_level=None)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise


@contextmanager
def _sentences(folder: Path) -> Iterator[None]:
    """Turn database errors into sentences."""
    try:
        yield
    except sqlite3.Error as error:
        said = StoreError(f"{folder / _DATABASE} cannot be read or written: {error}")
        raise _no_more_taken(folder, error) or said from error


def _no_more_taken(folder: Path, error: sqlite3.Error) -> UnwritableError | None:
    """Tell a folder that takes no more from a database that is damaged or locked."""
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if kind == sqlite3.SQLITE_FULL:
        return unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if kind == sqlite3.SQLITE_READONLY:
        return unwritable(folder, OSError(errno.EROFS, "it is read-only"))
    if kind in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return unwritable(folder, error)
    return None


def _cannot_be_made(folder: Path, error: OSError) -> StoreError:
    """Say why a folder cannot be made or written."""
    said = StoreError(f"the folder {folder} cannot be written: {failure_reason(error)}")
    return (unwritable(folder, error) if folder.is_dir() else None) or said


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder for one writing process.

    Raises
    ------
    InputError
        If another run is at work in the folder.
    StoreError
        If the folder cannot be written.
    """
    try:
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise _cannot_be_made(folder, error) from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another gossamer run is at work in {folder}: wait for it, or choose another --out"
            ) from error
        yield

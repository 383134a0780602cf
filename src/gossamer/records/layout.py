"""The file of a store's database: its tables, opening it to write or to read, and its sentences.

A file of an earlier layout is brought up to date where it is written, and read as a copy in memory
otherwise; one that is damaged is made anew from the rows that are whole.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gossamer.core.errors import StoreError, UnwritableError
from gossamer.core.files import unwritable
from gossamer.core.formats import counted
from gossamer.core.system import failure_reason
from gossamer.records.checksums import TAKEN_OVER, checksum
from gossamer.records.salvage import KEYED, Salvaged, salvage

DATABASE = "store.sqlite"
_LAYOUT = 3
_KEYED = "(key TEXT PRIMARY KEY, json TEXT NOT NULL, checksum TEXT) WITHOUT ROWID;"
_TABLES = (
    "".join(f"CREATE TABLE {table} {_KEYED} " for table in KEYED)
    + "CREATE TABLE studies (number INTEGER PRIMARY KEY, json TEXT NOT NULL, "
    "reported INTEGER NOT NULL DEFAULT 0, checksum TEXT);"
)
_COLUMNS = {(table, column) for table in KEYED for column in ("key", "json", "checksum")} | {
    ("studies", column) for column in ("number", "json", "reported", "checksum")
}
_ADDED = {
    1: "CREATE TABLE joints (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;",
    2: f"""
        ALTER TABLE phases ADD COLUMN checksum TEXT;
        UPDATE phases SET checksum = checksum('phases', key, json);
        ALTER TABLE records ADD COLUMN checksum TEXT;
        UPDATE records SET checksum = checksum('records', key, json);
        ALTER TABLE joints ADD COLUMN checksum TEXT;
        UPDATE joints SET checksum = checksum('joints', key, json);
        ALTER TABLE studies ADD COLUMN checksum TEXT;
        UPDATE studies SET checksum = checksum('studies', '', json),
        reported = CASE WHEN reported THEN checksum('reported', '', json) ELSE '' END;
        CREATE TABLE failures {_KEYED}
    """,  # noqa: S608 - own names
}
"""What turns a store of an earlier layout into one of the next."""
_LONG_PATH = 490
"""Bytes; SQLite's own limit is 512, with the ends of its journals' names."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


class DamagedDatabaseError(StoreError):
    """The structure of a database is damaged; its rows may be whole."""


def is_there(folder: Path) -> bool:
    """Tell whether a folder holds a database with anything in it, damaged or not."""
    if not (folder / DATABASE).is_file():
        return False
    try:
        with closing(_connect_to_read(folder)) as connection:
            return not _is_empty(connection)
    except sqlite3.DatabaseError as error:
        if _is_damage(error):
            return True
        raise _sentence(folder, error) from error


def open_to_write(folder: Path) -> tuple[sqlite3.Connection, list[str]]:
    """Open the database of a folder, making it if need be; also return what is to be told.

    Raises
    ------
    DamagedDatabaseError
        If its structure is damaged.
    StoreError
        If it is another program's, of a later layout, or cannot be opened for another reason.
    """
    told: list[str] = []
    with sentences(folder):
        connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    with _closing_on_error(connection), sentences(folder):
        if _is_empty(connection):
            if _has_states(folder):
                told.append(
                    f"{folder / DATABASE} holds nothing, though there are trained states beside "
                    "it: everything is made again."
                )
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={_LAYOUT}; COMMIT;")
        if _bring_up_to_date(connection, folder):
            told.append(_not_verified(connection, folder))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    return connection, told


def open_to_read(folder: Path) -> sqlite3.Connection:
    """Open the database of a folder without writing anything.

    Raises
    ------
    DamagedDatabaseError
        If its structure is damaged.
    StoreError
        If it is another program's, of a later layout, or cannot be opened for another reason.
    """
    with sentences(folder):
        connection = _connect_to_read(folder)
    with _closing_on_error(connection), sentences(folder):
        if _has_own_tables(connection):
            return connection
        copy = sqlite3.connect(":memory:", isolation_level=None)
        with _closing_on_error(copy):
            connection.backup(copy)
            _bring_up_to_date(copy, folder)
        connection.close()
        return copy


def database_of(salvaged: Salvaged, file: Path | str) -> sqlite3.Connection:
    """Return a new database, in a file or in ``":memory:"``, that holds what was salvaged."""
    connection = sqlite3.connect(file, isolation_level=None)
    with _closing_on_error(connection):
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={_LAYOUT}; COMMIT;")
        connection.execute("BEGIN")
        for table, rows in salvaged.rows.items():
            connection.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?)",  # noqa: S608 - own names
                ((key, *row) for key, row in rows.items()),
            )
        connection.executemany(
            "INSERT INTO studies VALUES (?, ?, '', ?)",
            ((number, *row) for number, row in salvaged.studies.items()),
        )
        connection.execute("COMMIT")
    return connection


def salvaged_from(folder: Path) -> Salvaged:
    """Return what is whole of a damaged database.

    Raises
    ------
    StoreError
        If nothing is and there are no trained states beside it, so that it may be anything.
    """
    try:
        found = salvage(folder / DATABASE)
    except OSError as error:
        raise StoreError(f"{folder / DATABASE} cannot be read: {error}") from error
    if not found.count and not _has_states(folder):
        raise StoreError(
            f"{folder / DATABASE} is no database, or nothing in it is whole: move it away to begin "
            "anew, or use another folder"
        )
    return found


@contextmanager
def sentences(folder: Path) -> Iterator[None]:
    """Turn database errors into sentences."""
    try:
        yield
    except sqlite3.Error as error:
        raise _sentence(folder, error) from error


def _sentence(folder: Path, error: sqlite3.Error) -> StoreError:
    length = len(os.fsencode((folder / DATABASE).absolute()))
    if _kind(error) == sqlite3.SQLITE_CANTOPEN and length > _LONG_PATH:
        return StoreError(
            f"the path of {(folder / DATABASE).absolute()} has {length} bytes, and SQLite opens no "
            "file of more than about 500: choose a folder with a shorter path"
        )
    kind = DamagedDatabaseError if _is_damage(error) else StoreError
    said = kind(f"{folder / DATABASE} cannot be read or written: {error}")
    return _no_more_taken(folder, error) or said


def _is_damage(error: sqlite3.Error) -> bool:
    return _kind(error) in _DAMAGED


def _kind(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _no_more_taken(folder: Path, error: sqlite3.Error) -> UnwritableError | None:
    """Tell a folder that takes no more from a database that is damaged or locked."""
    kind = _kind(error)
    if kind == sqlite3.SQLITE_FULL:
        return unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if kind == sqlite3.SQLITE_READONLY:
        return unwritable(folder, OSError(errno.EROFS, "it is read-only"))
    if kind in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return unwritable(folder, error)
    return None


def _connect_to_read(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    with _closing_on_error(connection):
        if _can_be_read(connection):
            return connection
    connection.close()
    # A full disk has no room for the file by which readers know of writers, and one that is
    # read-only takes none.
    if _has_a_journal(folder):
        return _copied_to_memory(folder)
    # Without a journal there is no writer, so that the database can be read as it is.
    address = f"{(folder / DATABASE).absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(address, uri=True, isolation_level=None)


def _copied_to_memory(folder: Path) -> sqlite3.Connection:
    """Return a copy of a database with what a run that was killed left in its journal."""
    found = sqlite3.connect(":memory:", isolation_level=None)
    with _closing_on_error(found), TemporaryDirectory() as elsewhere:
        try:
            for name in (DATABASE, f"{DATABASE}-wal"):
                shutil.copyfile(folder / name, Path(elsewhere) / name)
        except OSError as error:
            raise StoreError(
                f"{folder / DATABASE} cannot be read where it is, and not be copied to {elsewhere} "
                f"({failure_reason(error)}): make {folder} writable, or free space there"
            ) from error
        with closing(sqlite3.connect(Path(elsewhere) / DATABASE)) as copy:
            copy.backup(found)
    return found


def _can_be_read(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return False
    return True


def _has_states(folder: Path) -> bool:
    return any((folder / "states").glob("*.safetensors"))


def _has_a_journal(folder: Path) -> bool:
    journal = folder / f"{DATABASE}-wal"
    return journal.is_file() and journal.stat().st_size > 0


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Tell whether a database holds nothing, as after a crash while it was being made."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not version and not tables


def _has_own_tables(connection: sqlite3.Connection) -> bool:
    """Tell a store of this layout by its tables, as its number alone may be damaged."""
    query = (
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c "
        "WHERE m.type = 'table'"
    )
    return set(connection.execute(query)) == _COLUMNS


def _bring_up_to_date(connection: sqlite3.Connection, folder: Path) -> bool:
    """Upgrade an earlier layout; tell whether it was one."""
    if _has_own_tables(connection):
        return False
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        raise StoreError(f"{folder / DATABASE} is another program's database: use another folder")
    if version not in _ADDED:
        raise StoreError(
            f"{folder / DATABASE} has layout {version}, this gossamer reads layouts up to "
            f"{_LAYOUT}: use another folder, or a later gossamer"
        )
    connection.create_function("checksum", 3, _taken_over, deterministic=True)
    for step in range(version, _LAYOUT):
        connection.executescript(f"BEGIN; {_ADDED[step]} PRAGMA user_version={step + 1}; COMMIT;")
    return True


def _taken_over(kind: str, key: str, content: str) -> str:
    return checksum(kind, key, content.encode()) + TAKEN_OVER


def _not_verified(connection: sqlite3.Connection, folder: Path) -> str:
    """Say what a store of before checksums holds that nothing can be held against."""
    counts = [
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        for table in ("records", "phases", "joints")
    ]
    return (
        f"{folder} is from before checksums: what it holds ({counted(counts[0], 'record')}, "
        f"{counted(counts[1], 'training')}, {counted(counts[2], 'joint measure')}) could not be "
        "verified and is taken as it is; damage from now on is found."
    )


@contextmanager
def _closing_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise

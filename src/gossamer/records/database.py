"""The rows of a store's database, each held against its checksum when it is read.

A row that is not what was written counts as not there: who reads leaves it out, who writes moves
it aside. A database whose structure is damaged is read from the rows that are whole.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from gossamer.core.errors import StoreError
from gossamer.core.files import unwritable
from gossamer.core.formats import counted, listed
from gossamer.records.checksums import checksum, is_whole
from gossamer.records.layout import (
    DATABASE,
    DamagedDatabaseError,
    database_of,
    open_to_read,
    open_to_write,
    salvaged_from,
    sentences,
)
from gossamer.records.salvage import KEYED
from gossamer.records.setting_aside import DAMAGED, set_aside, set_rows_aside

_CALLED = {
    "phases": "training",
    "records": "record",
    "joints": "joint measure",
    "failures": "failed trial",
    "studies": "study file",
}
"""What a row of a table is to a reader."""
_ROWS_AT_ONCE = 500
"""So many are in memory beside what is made of them."""
_ROW = "CAST(key AS BLOB), CAST(json AS BLOB), CAST(checksum AS BLOB)"
_VERSIONS = "CAST(CASE WHEN json_valid(json) THEN json_extract(json, '$.versions') END AS BLOB)"


Found = TypeVar("Found")


@dataclass(frozen=True)
class StudyRow:
    """A study as it was asked for: its place in the order, its JSON, the mark of its report."""

    number: int
    content: bytes
    reported: str


class Database:
    """The database of a store, opened to write or to read."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, *, writes: bool) -> None:
        self.folder = folder
        self.connection = connection
        self._writes = writes
        self._told: list[str] = []
        self._damaged: dict[str, dict[bytes, tuple[bytes, ...]]] = {}
        """Rows that are not what was written, by table and key; where they are to be moved."""
        self._left_out: dict[str, set[bytes]] = {}
        """Keys of such rows, until they are told of."""
        self._scans: dict[str, tuple[tuple[int, int], dict[str, bytes]]] = {}
        """What the last scan of a table found, and in what state of the database."""

    @classmethod
    def to_write(cls, folder: Path) -> Self:
        """Open the database of a folder, making it if need be; what is damaged is set aside.

        Raises
        ------
        StoreError
            If it is none of a store, or the folder cannot be written.
        """
        try:
            return cls._whole(folder)
        except DamagedDatabaseError:
            told = _made_anew(folder)
        database = cls._whole(folder)
        database._told.insert(0, told)
        return database

    @classmethod
    def _whole(cls, folder: Path) -> Self:
        connection, told = open_to_write(folder)
        database = cls(folder, connection, writes=True)
        database._told += told
        try:
            for table in KEYED:
                database.scan(table)
            database.studies()
        except BaseException:
            connection.close()
            raise
        return database

    @classmethod
    def to_read(cls, folder: Path) -> Self:
        """Open the database of a folder; nothing is written.

        Raises
        ------
        StoreError
            If it is none of a store, or cannot be read.
        """
        try:
            return cls(folder, open_to_read(folder), writes=False)
        except DamagedDatabaseError:
            connection, told = _what_is_whole(folder)
        database = cls(folder, connection, writes=False)
        database._told.append(told)
        return database

    def told(self) -> list[str]:
        """Return what a user must know of what was found here, in sentences, each told once."""
        counts = {_CALLED[table]: len(rows) for table, rows in self._left_out.items()}
        told, self._told, self._left_out = self._told, [], {}
        if counts:
            what = listed([counted(count, name) for name, count in counts.items()])
            file = self.folder / DATABASE
            told.append(
                f"Damaged in {file}: {what}, moved to {self.folder / DAMAGED} and made again where "
                "needed."
                if self._writes
                else f"Damaged in {file}, and so left out: {what}; `gossamer run` makes again what "
                "is needed."
            )
        return told

    def scan(self, table: str) -> dict[str, bytes]:
        """Return the keys of all whole rows of a table, with the versions of measurements.

        Raises
        ------
        DamagedDatabaseError
            If the structure is damaged and this process writes.
        """
        with sentences(self.folder):
            (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        now = (version, self.connection.total_changes)
        if table not in self._scans or self._scans[table][0] != now:
            self._scans[table] = (now, self._again_if_damaged(lambda: self._scanned(table)))
            self._set_damaged_aside()
        return self._scans[table][1]

    def _scanned(self, table: str) -> dict[str, bytes]:
        also = _VERSIONS if table == "records" else "NULL"
        found: dict[str, bytes] = {}
        last = b""
        for *row, versions in self.connection.execute(f"SELECT {_ROW}, {also} FROM {table}"):  # noqa: S608
            if last > (row[0] or b""):
                raise DamagedDatabaseError(f"the rows of {self.folder / DATABASE} are out of order")
            last = row[0] or b""
            if (key := self._key_if_whole(table, row)) is not None:
                found[key] = versions or b""
        return found

    def rows(self, table: str, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and JSON of those rows that are there and whole."""
        query = f"SELECT {_ROW} FROM {table} WHERE key IN (SELECT value FROM json_each(?))"  # noqa: S608
        wanted = list(keys)
        for start in range(0, len(wanted), _ROWS_AT_ONCE):
            some = json.dumps(wanted[start : start + _ROWS_AT_ONCE])
            for row in self._read(query, (some,)):
                if (key := self._key_if_whole(table, row)) is not None:
                    yield key, row[1]
        self._set_damaged_aside()

    def studies(self) -> list[StudyRow]:
        """Return the studies that are whole, the one that was asked for last first."""
        query = (
            "SELECT number, CAST(json AS BLOB), CAST(reported AS BLOB), CAST(checksum AS BLOB) "
            "FROM studies ORDER BY number DESC"
        )
        whole = []
        for number, content, reported, found in self._read(query):
            if is_whole("studies", "", content or b"", _text(found)):
                whole.append(StudyRow(number, content, _text(reported)))
            else:
                self._note("studies", b"%d" % number, (content or b"", found or b""))
        self._set_damaged_aside()
        return whole

    def put(self, table: str, key: str, text: str) -> None:
        """Keep a row, in the place of an earlier one."""
        self.write(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)",  # noqa: S608 - own names
            (key, text, checksum(table, key, text.encode())),
        )

    def put_study(self, text: str) -> None:
        """Keep a study as the one that was asked for last."""
        with sentences(self.folder), self.connection:  # commits, or rolls back
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("DELETE FROM studies WHERE json = ?", (text,))
            self.connection.execute(
                "INSERT INTO studies (json, reported, checksum) VALUES (?, '', ?)",
                (text, checksum("studies", "", text.encode())),
            )

    def write(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Change the database."""
        with sentences(self.folder):
            self.connection.execute(statement, values)

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return self._again_if_damaged(lambda: self.connection.execute(query, values).fetchall())

    def _again_if_damaged(self, read: Callable[[], Found]) -> Found:
        """Read; where the structure is damaged, from a copy of the rows that are whole.

        A process that writes gives up: the next one that opens the database makes it anew.
        """
        try:
            with sentences(self.folder):
                return read()
        except DamagedDatabaseError:
            if self._writes:
                raise
        self._read_what_is_whole()
        with sentences(self.folder):
            return read()

    def set_rows_aside(self, table: str, keys: Collection[str]) -> None:
        """Have rows count as damaged that are whole but cannot be read."""
        query = f"SELECT {_ROW} FROM {table} WHERE key IN (SELECT value FROM json_each(?))"  # noqa: S608
        for row in self._read(query, (json.dumps(list(keys)),)):
            self._note(table, row[0], tuple(row))
        self._set_damaged_aside()

    def _key_if_whole(self, table: str, row: Any) -> str | None:
        values = tuple(value or b"" for value in row)
        key = _text(values[0])
        if is_whole(table, key, values[1], _text(values[2])):
            return key
        self._note(table, values[0], values)
        return None

    def _note(self, table: str, key: bytes, values: tuple[bytes, ...]) -> None:
        self._left_out.setdefault(table, set()).add(key)
        if self._writes:
            self._damaged.setdefault(table, {})[key] = values

    def _set_damaged_aside(self) -> None:
        """Move what was found damaged to files of its own."""
        damaged, self._damaged = self._damaged, {}
        for table, rows in damaged.items():
            column = "number" if table == "studies" else "key"
            try:
                set_rows_aside(self.folder, table, rows.values())
            except OSError as error:
                raise unwritable(self.folder, error) or StoreError(
                    f"{self.folder / DAMAGED} cannot be written: {error}"
                ) from error
            for key in rows:
                self.write(
                    f"DELETE FROM {table} WHERE CAST(ifnull({column}, '') AS BLOB) = ?",  # noqa: S608
                    (key,),
                )

    def _read_what_is_whole(self) -> None:
        """Go on reading a copy in memory of the rows that are whole."""
        connection, told = _what_is_whole(self.folder)
        self.connection.close()
        self.connection = connection
        self._scans.clear()
        self._told.append(told)


def _what_is_whole(folder: Path) -> tuple[sqlite3.Connection, str]:
    """Return a copy in memory of the rows of a damaged database that are whole; say so."""
    salvaged = salvaged_from(folder)
    return database_of(salvaged, ":memory:"), (
        f"{folder / DATABASE} is damaged: {counted(salvaged.count, 'row')} of it are "
        "whole and read, the rest is left out; `gossamer run` makes it anew."
    )


def _made_anew(folder: Path) -> str:
    """Set a damaged database aside and keep its whole rows in a new one; say so."""
    salvaged = salvaged_from(folder)
    new, old = folder / f".{DATABASE}.tmp", folder / DATABASE
    with sentences(folder):
        new.unlink(missing_ok=True)
        database_of(salvaged, new).close()
    try:
        for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
            if (folder / name).is_file():
                set_aside(folder, folder / name)
        new.replace(old)
    except OSError as error:
        raise unwritable(folder, error) or StoreError(f"{old} cannot be made: {error}") from error
    return (
        f"{old} was damaged: {counted(salvaged.count, 'row')} of it are whole and kept, the file "
        f"is in {folder / DAMAGED}, and what is missing is made again where needed."
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")

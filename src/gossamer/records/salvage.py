"""Reading what is whole in a database that SQLite refuses, row by row.

Every page that can hold rows is looked at, whether or not anything leads to it, and a row counts
if its checksum says that it is what was written. So damage costs the rows that it met, and no
others.

References
----------
"Database File Format", SQLite documentation: pages of B-trees, cells, records, the log of
changes (WAL).
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gossamer.records.checksums import is_whole

_PAGE = 4096
"""Bytes of a page, of which none is reserved: SQLite's own choice, which stores leave as it is."""
_LOG_HEADER, _FRAME_HEADER = 32, 24
_FIRST_PAGE_HEADER = 100
_INTERIOR, _LEAF, _NUMBERED_LEAF = 0x02, 0x0A, 0x0D
"""Kinds of pages that hold rows: of tables with keys of their own, and of numbered rows."""
_BYTES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Of the numbers in a record, by their type."""
KEYED = ("phases", "records", "joints", "failures")
"""Tables whose rows are a key, a JSON text and a checksum."""


@dataclass(frozen=True)
class Salvaged:
    """The rows that are whole: key, JSON and checksum, by table; and the studies by number."""

    rows: Mapping[str, Mapping[str, tuple[str, str]]]
    studies: Mapping[int, tuple[str, str]]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.studies) + sum(map(len, self.rows.values()))


def salvage(database: Path) -> Salvaged:
    """Return every whole row of a database file and of its log.

    Of a row that is there in several versions, the longest counts: it holds most measurements.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    pages = _pages(database)
    rows: dict[str, dict[str, tuple[str, str]]] = {table: {} for table in KEYED}
    studies: dict[int, tuple[str, str]] = {}
    for number, page in pages.items():
        for row_number, payload in _payloads(number, page, pages):
            values = _values(payload)
            if row_number is not None and len(values) == 4:
                _, content, _, found = values
                if is_whole("studies", "", content, _text(found)):
                    studies[row_number] = (_text(content), _text(found))
            elif row_number is None and len(values) == 3:
                key, content, found = values
                for table in KEYED:
                    if is_whole(table, _text(key), content, _text(found)):
                        before = rows[table].get(_text(key), ("", ""))
                        rows[table][_text(key)] = max(
                            before, (_text(content), _text(found)), key=lambda one: len(one[0])
                        )
    return Salvaged(rows, studies)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _pages(database: Path) -> dict[int, bytes]:
    """Return the pages of a database by their number, from 1, as they are after its log."""
    content = database.read_bytes()
    pages = {
        start // _PAGE + 1: content[start : start + _PAGE].ljust(_PAGE, b"\0")
        for start in range(0, len(content), _PAGE)
    }
    log = database.with_name(f"{database.name}-wal")
    content = log.read_bytes() if log.is_file() else b""
    salt = content[16:24]
    for start in range(
        _LOG_HEADER, len(content) - _FRAME_HEADER - _PAGE + 1, _FRAME_HEADER + _PAGE
    ):
        header = content[start : start + _FRAME_HEADER]
        if header[8:16] == salt:
            body = start + _FRAME_HEADER
            pages[int.from_bytes(header[:4], "big")] = content[body : body + _PAGE]
    return pages


def _payloads(
    number: int, page: bytes, pages: Mapping[int, bytes]
) -> Iterator[tuple[int | None, bytes]]:
    """Yield the records of a page, each with its row's number if rows are numbered."""
    start = _FIRST_PAGE_HEADER if number == 1 else 0
    kind, _, cells, _, _ = struct.unpack_from(">BHHHB", page, start)
    if kind not in (_INTERIOR, _LEAF, _NUMBERED_LEAF):
        return
    first = start + (12 if kind == _INTERIOR else 8)
    for position in range(first, min(first + 2 * cells, _PAGE - 1), 2):
        try:
            at = int.from_bytes(page[position : position + 2], "big")
            at += 4 if kind == _INTERIOR else 0
            size, at = _varint(page, at)
            row_number = None
            if kind == _NUMBERED_LEAF:
                row_number, at = _varint(page, at)
            yield row_number, _payload(page, at, size, kind == _NUMBERED_LEAF, pages)
        except IndexError:
            continue


def _payload(page: bytes, at: int, size: int, numbered: bool, pages: Mapping[int, bytes]) -> bytes:
    """Return so many bytes that begin on a page, and go on where it says."""
    if size > len(pages) * _PAGE:
        raise IndexError
    most = _PAGE - 35 if numbered else (_PAGE - 12) * 64 // 255 - 23
    least = (_PAGE - 12) * 32 // 255 - 23
    here = size
    if size > most:
        here = least + (size - least) % (_PAGE - 4)
        here = here if here <= most else least
    found = page[at : at + here]
    following = int.from_bytes(page[at + here : at + here + 4], "big") if size > most else 0
    while len(found) < size and following in pages:
        page = pages[following]
        found += page[4 : 4 + size - len(found)]
        following = int.from_bytes(page[:4], "big")
    return found


def _values(payload: bytes) -> list[bytes]:
    """Return the values of a record as bytes, whatever their type; none if it is damaged."""
    try:
        header, at = _varint(payload, 0)
        sizes = []
        while at < header:
            kind, at = _varint(payload, at)
            sizes.append(_BYTES[kind] if kind < 12 else (kind - 12) // 2)
    except IndexError:
        return []
    values = []
    for size in sizes:
        values.append(payload[at : at + size])
        at += size
    return values


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of 1 to 9 bytes, and where what follows it begins."""
    value = 0
    for position in range(at, at + 8):
        value = value << 7 | content[position] & 0x7F
        if content[position] < 0x80:
            return value, position + 1
    return value << 8 | content[at + 8], at + 9

"""The outer layer of a ``.gsm`` file: a preamble, a JSON header, arrays, and a checksum over all.

``docs/gsm-format.md`` describes every byte. What the header means is for `header` to say; here,
each length and offset is compared with what the file holds before anything is made of it.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.fields import MOST_AXES

MAGIC = b"\x89GSM\r\n\x1a\n"
"""The first bytes; like those of PNG, they show whether a transfer mangled line ends or bits."""

VERSION = 2
"""What is written."""
_READABLE = (1, 2)

PREAMBLE_BYTES = 64
ALIGNMENT = 64
MOST_BYTES = 2**34
MOST_HEADER_BYTES = 2**24
MOST_WHOLE = 2**63
MOST_LEVELS = 32

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
}
"""The types of arrays; the numbers of bfloat16 are handed over as their 16 bits."""

_FIELDS = struct.Struct("<8sIIQ")
_DIGEST = slice(_FIELDS.size, _FIELDS.size + 32)
_ENTRY_KEYS = {"dtype", "shape", "offset", "length"}

Stored = tuple[str, NDArray[Any]]
"""The name of a type of `DTYPES`, and the array."""


def pack(header: dict[str, Any], arrays: Sequence[Stored]) -> bytes:
    """Return the bytes of a file; a table of the arrays is added to the header.

    Raises
    ------
    InputError
        If the header holds what JSON cannot, or something is too large.

    Examples
    --------
    >>> data = pack({"metadata": {}}, [("float32", np.array([1.0], np.float32))])
    >>> len(data) % ALIGNMENT, unpack(data)[0]["metadata"], unpack(data)[1][0][1].tolist()
    (0, {}, [1.0])
    """
    blocks = [np.ascontiguousarray(array, DTYPES[name]) for name, array in arrays]
    sizes = [block.nbytes for block in blocks]
    # Offsets count from the end of the header, whose own length depends on them.
    table = [
        {"dtype": name, "shape": list(array.shape), "offset": offset, "length": size}
        for (name, array), offset, size in zip(arrays, _offsets(sizes), sizes, strict=True)
    ]
    text = _encoded({**header, "arrays": table})
    if len(text) > MOST_HEADER_BYTES:
        raise InputError(
            f"the header takes {len(text)} bytes, expected at most {MOST_HEADER_BYTES}; "
            "write less metadata."
        )
    body = b"".join(_filled(part) for part in (text, *(block.tobytes() for block in blocks)))
    length = PREAMBLE_BYTES + len(body)
    if length > MOST_BYTES:
        raise InputError(f"takes {length} bytes, expected at most {MOST_BYTES}.")
    start = _FIELDS.pack(MAGIC, VERSION, len(text), length)
    rest = bytes(PREAMBLE_BYTES - _DIGEST.stop)
    digest = hashlib.sha256(start + rest)
    digest.update(body)
    return start + digest.digest() + rest + body


def unpack(data: bytes) -> tuple[dict[str, Any], list[Stored]]:
    """Take the bytes of a whole file apart; the arrays are views of them.

    Returns
    -------
    header : dict
        Without the table of arrays.
    arrays : list of (str, NDArray)
        The type and the array of each entry of the table.

    Raises
    ------
    InputError
        If anything but what `pack` writes is there.
    """
    header_length = check_preamble(data[:PREAMBLE_BYTES], len(data))
    digest = hashlib.sha256(data[: _DIGEST.start])
    digest.update(memoryview(data)[_DIGEST.stop :])
    if digest.digest() != data[_DIGEST]:
        raise InputError("is damaged (its checksum does not match); write or fetch it again.")
    start = PREAMBLE_BYTES + _aligned(header_length)
    if start > len(data):
        _refuse(f"a header of {header_length} bytes", f"at most {len(data) - PREAMBLE_BYTES}")
    header = _decoded(data[PREAMBLE_BYTES : PREAMBLE_BYTES + header_length])
    table = header.pop("arrays", None)
    if not isinstance(table, list):
        _refuse("no table of arrays", "a list")
    return header, _arrays(data, start, table)


def version_of(data: bytes) -> int:
    """Return the version of a file that `unpack` takes."""
    return int(_FIELDS.unpack_from(data)[1])


def shown_keys(keys: Iterable[str]) -> str:
    r"""Return the keys of an object from outside as a terminal may show them.

    Examples
    --------
    >>> shown_keys(["kind", "a\nb"])
    "'a\\nb', kind"
    """
    texts = [key if key.isprintable() else repr(key) for key in sorted(keys)]
    return f"{', '.join(texts) or 'nothing':.120}"


def check_preamble(start: bytes, length: int) -> int:
    """Check the first bytes of a file of some length, and return the length of its header.

    Raises
    ------
    InputError
        If this is no such file, of another version, or not whole.
    """
    if not start:
        raise InputError("is empty, expected a .gsm file; write or fetch it again.")
    if start[: len(MAGIC)] != MAGIC[: len(start)]:
        raise InputError("is no .gsm file, expected one written by gossamer's compress(...).save.")
    if len(start) < PREAMBLE_BYTES:
        raise InputError(f"ends after {len(start)} bytes, expected a whole .gsm file.")
    _, version, header_length, declared = _FIELDS.unpack_from(start)
    if version not in _READABLE:
        raise InputError(
            f"is of version {version} of the .gsm format, expected version "
            f"{' or '.join(map(str, _READABLE))}; read it with a gossamer that knows it."
        )
    if declared != length:
        raise InputError(
            f"holds {length} bytes, expected {declared} as it declares; fetch it again."
        )
    if length > MOST_BYTES or header_length > MOST_HEADER_BYTES:
        raise InputError(
            f"holds {length} bytes with a header of {header_length}, expected at most "
            f"{MOST_BYTES} and {MOST_HEADER_BYTES}."
        )
    return int(header_length)


def _arrays(data: bytes, start: int, table: list[Any]) -> list[Stored]:
    """Make the arrays of a table, which are to fill the rest of the file without a gap."""
    found: list[Stored] = []
    end = start
    for i, entry in enumerate(table):
        offset = _checked_entry(i, entry, end - start, len(data) - start)
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        numbers = np.frombuffer(data, dtype, math.prod(shape), start + offset)
        found.append((entry["dtype"], numbers.reshape(shape)))
        end = start + _aligned(offset + entry["length"])
    if end != len(data):
        _refuse(f"arrays that end at byte {end}", f"the end of the file, {len(data)}")
    return found


def _checked_entry(i: int, entry: Any, offset: int, room: int) -> int:
    """Check one entry of the table against where it must begin and what is left; return where."""
    if not isinstance(entry, dict) or set(entry) != _ENTRY_KEYS:
        _refuse(f"array {i} described by {entry!r:.80}", f"the keys {', '.join(_ENTRY_KEYS)}")
    name, shape = entry["dtype"], entry["shape"]
    if not isinstance(name, str) or name not in DTYPES:
        _refuse(f"array {i} of type {name!r:.80}", f"one of {', '.join(DTYPES)}")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= MOST_AXES
        or not all(type(length) is int and 0 <= length <= MOST_BYTES for length in shape)
    ):
        _refuse(f"array {i} of shape {shape!r:.80}", f"one to {MOST_AXES} lengths")
    size = math.prod(shape) * DTYPES[name].itemsize
    if type(entry["length"]) is not int or entry["length"] != size:
        _refuse(f"array {i} of {entry['length']!r:.80} bytes", f"{size} for its shape")
    if type(entry["offset"]) is not int or entry["offset"] != offset:
        _refuse(f"array {i} at offset {entry['offset']!r:.80}", f"{offset}")
    if offset + size > room:
        _refuse(f"array {i} of {size} bytes", f"at most {max(0, room - offset)}")
    return offset


def _offsets(sizes: list[int]) -> list[int]:
    offsets = [0]
    for size in sizes:
        offsets.append(_aligned(offsets[-1] + size))
    return offsets[:-1]


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _filled(part: bytes) -> bytes:
    return part + bytes(_aligned(len(part)) - len(part))


def _encoded(header: dict[str, Any]) -> bytes:
    """Return canonical JSON: keys sorted, no spaces, UTF-8."""
    try:
        text = json.dumps(
            header, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        _parsed(text)  # What a reader would refuse must not be written.
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"metadata holds what JSON cannot ({error!s:.120}), expected text, finite numbers, "
            "true, false, null, lists and objects of these."
        ) from error


def _decoded(text: bytes) -> dict[str, Any]:
    try:
        header = _parsed(text.decode())
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"has an unreadable header ({reason:.120}); write it again.") from error
    if not isinstance(header, dict):
        _refuse("a header that is no object", "a JSON object")
    return header


def _parsed(text: str) -> Any:
    header = json.loads(
        text,
        object_pairs_hook=_object,
        parse_constant=_no_constant,
        parse_float=_finite,
        parse_int=_whole,
    )
    _check_levels(header)
    # Half a surrogate pair can be written in JSON, but never be printed.
    json.dumps(header, ensure_ascii=False).encode()
    return header


def _check_levels(header: Any) -> None:
    """Refuse deep nesting, on which readers and printers would run out of stack."""
    level = [header]
    for _ in range(MOST_LEVELS):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(f"more than {MOST_LEVELS} levels of nesting")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is no finite number")
    return number


def _whole(text: str) -> int:
    number = int(text)
    if not -MOST_WHOLE <= number < MOST_WHOLE:
        raise ValueError(f"{text:.40} has more than 64 bits")
    return number


def _refuse(found: str, expected: str) -> NoReturn:
    raise InputError(f"has {found}, expected {expected}; write it again.")

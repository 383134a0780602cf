import json
import struct
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.engine.gsm.container import DTYPES, PREAMBLE_BYTES, Stored, pack, unpack

ARRAYS: list[Stored] = [
    ("float32", np.array([[1.5, -2.0]], np.float32)),
    ("uint8", np.arange(70, dtype=np.uint8)),
    ("bfloat16", np.zeros(0, np.uint16)),
    ("uint32", np.array([2**32 - 1], np.uint32)),
]


def rebuilt(text: bytes, body: bytes = b"", **fields: int) -> bytes:
    """Return a file with a right checksum; fields of the preamble may be wrong."""
    rest = text + bytes(-len(text) % 64) + body
    values = {"version": 2, "header": len(text), "length": 64 + len(rest), **fields}
    start = struct.pack("<8sIIQ", b"\x89GSM\r\n\x1a\n", *values.values())
    return start + sha256(start + bytes(8) + rest).digest() + bytes(8) + rest


def test_what_is_packed_is_unpacked() -> None:
    header, arrays = unpack(pack({"a": [1, 0.1, None, True, "é"], "b": {}}, ARRAYS))
    assert header == {"a": [1, 0.1, None, True, "é"], "b": {}}
    assert [name for name, _ in arrays] == [name for name, _ in ARRAYS]
    for (name, found), (_, expected) in zip(arrays, ARRAYS, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == DTYPES[name]
        assert not found.flags.writeable


def test_every_byte_is_where_the_description_says() -> None:
    data = pack({"b": "é", "a": 1}, [("float32", np.array([1.0], np.float32))])
    header = (
        '{"a":1,"arrays":[{"dtype":"float32","length":4,"offset":0,"shape":[1]}],"b":"é"}'.encode()
    )
    assert data == rebuilt(header, struct.pack("<f", 1.0) + bytes(60))


def test_arrays_begin_at_multiples_of_64_bytes() -> None:
    data = pack({}, ARRAYS)
    length = struct.unpack_from("<I", data, 12)[0]
    header = json.loads(data[PREAMBLE_BYTES : PREAMBLE_BYTES + length])
    assert [entry["offset"] for entry in header["arrays"]] == [0, 64, 192, 192]
    assert len(data) % 64 == 0


def test_the_same_content_gives_the_same_bytes() -> None:
    assert pack({"a": 1, "b": 2}, ARRAYS) == pack({"b": 2, "a": 1}, ARRAYS)


@pytest.mark.parametrize("place", [0, 7, 8, 12, 16, 24, 55, 56, 63, 64, 200, -1])
def test_a_flipped_bit_is_noticed_wherever_it_is(place: int) -> None:
    data = bytearray(pack({"metadata": {}}, ARRAYS))
    data[place] ^= 4
    with pytest.raises(InputError):
        unpack(bytes(data))


def test_a_file_cut_anywhere_is_refused() -> None:
    data = pack({}, ARRAYS)
    for length in range(len(data)):
        with pytest.raises(InputError, match=r"is empty|ends after|as it declares"):
            unpack(data[:length])


TABLE = {"dtype": "uint8", "shape": [64], "offset": 0, "length": 64}


def entry(**changes: Any) -> bytes:
    return json.dumps({"arrays": [{**TABLE, **changes}]}).encode()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"PK\x03\x04" + bytes(100), "is no .gsm file"),
        (rebuilt(b"{}", version=3), "is of version 3 of the .gsm format, expected version 1 or 2"),
        (rebuilt(b"{}", header=2**32 - 1), "a header of 4294967295"),
        (rebuilt(b"{}", header=65), "a header of 65 bytes, expected at most 64"),
        (rebuilt(b"{}", length=2**63), "expected 9223372036854775808 as it declares"),
        (rebuilt(b"{}"), "no table of arrays"),
        (rebuilt(b"[]"), "a header that is no object"),
        (rebuilt(b""), "unreadable header"),
        (rebuilt(b"\xff"), "unreadable header"),
        (rebuilt(b'{"arrays":[],"arrays":[]}'), "a key stands twice"),
        (rebuilt(b'{"arrays":[],"a":NaN}'), "NaN is no number"),
        (rebuilt(b'{"arrays":[],"a":1e999}'), "1e999 is no finite number"),
        (rebuilt(b'{"arrays":[],"a":' + b"9" * 5000 + b"}"), "unreadable header"),
        (rebuilt(b'{"arrays":[],"a":9223372036854775808}'), "more than 64 bits"),
        (rebuilt(b'{"arrays":[],"a":"\\ud800"}'), "surrogates not allowed"),
        (rebuilt(b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"), "levels of nesting"),
        (rebuilt(b"[" * 100_000), "unreadable header"),
        (rebuilt(b'{"arrays":[],"a":1} x'), "unreadable header"),
        (rebuilt(b'{"arrays":[]}', bytes(64)), "expected the end of the file"),
        (rebuilt(b'{"arrays":[1]}', bytes(64)), "array 0 described by 1"),
        (rebuilt(entry(more=1), bytes(64)), "array 0 described by"),
        (rebuilt(entry(dtype="object"), bytes(64)), "array 0 of type 'object'"),
        (rebuilt(entry(dtype=[]), bytes(64)), "array 0 of type []"),
        (rebuilt(entry(shape=64), bytes(64)), "array 0 of shape 64"),
        (rebuilt(entry(shape=[-64, -1]), bytes(64)), "array 0 of shape [-64, -1]"),
        (rebuilt(entry(shape=[64.0]), bytes(64)), "array 0 of shape [64.0]"),
        (
            rebuilt(entry(shape=[1, 1, 1, 1, 1, 64]), bytes(64)),
            "array 0 of shape [1, 1, 1, 1, 1, 64]",
        ),
        (rebuilt(entry(length=63), bytes(64)), "array 0 of 63 bytes, expected 64"),
        (rebuilt(entry(offset=-64), bytes(64)), "array 0 at offset -64, expected 0"),
        (rebuilt(entry(offset=False), bytes(64)), "array 0 at offset False"),
        (rebuilt(entry(shape=[128], length=128), bytes(64)), "of 128 bytes, expected at most 64"),
        (
            rebuilt(entry(shape=[2**34, 2**34, 2**34], length=2**102), bytes(64)),
            "unreadable header (507",
        ),
        (rebuilt(entry(), bytes(128)), "arrays that end at byte"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(data: bytes, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        unpack(data)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**63, {1, 2}, np.float32(1), "\ud800", b"bytes", {(1, 2): 3}],
)
def test_metadata_that_json_cannot_hold_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="metadata holds what JSON cannot"):
        pack({"metadata": {"a": value}}, [])


def test_metadata_that_hold_themselves_are_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InputError, match="metadata holds what JSON cannot"):
        pack({"metadata": value}, [])


def test_too_long_a_header_is_refused() -> None:
    with pytest.raises(InputError, match="write less metadata"):
        pack({"metadata": "x" * 2**24}, [])

"""Pictures, read back by a strict decoder that knows nothing of how they were written."""

import base64
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from gossamer.data import load
from gossamer.studies.pictures import png

CHANNELS = {0: 1, 2: 3}
"""Channels by colour type: grey and red-green-blue."""


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kinds and contents, with lengths and checksums as the specification asks."""
    assert data[:8] == bytes([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert len(content) == length
        (check,) = struct.unpack_from(">I", data, at + 8 + length)
        assert check == zlib.crc32(data[at + 4 : at + 8 + length])
        found.append((kind, content))
        at += 12 + length
    assert at == len(data)
    return found


def decoded(picture: str) -> NDArray[np.uint8]:
    """Return the pixels of a picture, ``[channels, height, width]``."""
    found = chunks(base64.b64decode(picture, validate=True))
    assert [kind for kind, _ in found] == [b"IHDR", b"IDAT", b"IEND"]
    assert found[2][1] == b""
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", found[0][1])
    assert (depth, methods) == (8, [0, 0, 0])
    stride = width * CHANNELS[colour]
    rows = zlib.decompress(found[1][1])
    assert len(rows) == height * (1 + stride)
    pixels = []
    for row in range(height):
        start = row * (1 + stride)
        assert rows[start] == 0  # the only filter in use: none
        pixels.append(list(rows[start + 1 : start + 1 + stride]))
    return np.array(pixels, np.uint8).reshape(height, width, -1).transpose(2, 0, 1)


@given(
    some.sampled_from([1, 3]), some.integers(1, 9), some.integers(1, 9), some.integers(0, 2**32 - 1)
)
def test_every_pixel_comes_back(channels: int, height: int, width: int, seed: int) -> None:
    draw: Any = np.random.default_rng(seed)
    image = draw.integers(0, 256, (channels, height, width), dtype=np.uint8)
    assert np.array_equal(decoded(png(image)), image)


@pytest.mark.parametrize("layout", ["columns first", "every other", "read-only"])
def test_how_an_image_lies_in_memory_does_not_matter(layout: str) -> None:
    image = np.arange(96, dtype=np.uint8).reshape(3, 4, 8)
    if layout == "columns first":
        image = np.asfortranarray(image)
    if layout == "every other":
        image = image[:, ::2, ::-2]
    image.flags.writeable = False
    assert np.array_equal(decoded(png(image)), image)


def test_a_digit_is_what_it_is_in_the_data() -> None:
    image = load("digits").x_train[7]
    assert np.array_equal(decoded(png(image)), image)

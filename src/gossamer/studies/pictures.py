"""Examples as small pictures that a page can hold."""

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_GREY, _RGB = 0, 2


def png(image: NDArray[np.uint8]) -> str:
    """Return an image of 1 or 3 channels, ``[channels, height, width]``, as PNG in base 64.

    References
    ----------
    "Portable Network Graphics (PNG) Specification", W3C, 2003.

    Examples
    --------
    >>> base64.b64decode(png(np.zeros((1, 2, 2), np.uint8)))[1:4]
    b'PNG'
    """
    channels, height, width = image.shape
    rows = np.ascontiguousarray(np.moveaxis(image, 0, -1)).reshape(height, width * channels)
    unfiltered = np.zeros((height, 1), np.uint8)
    pixels = np.concatenate([unfiltered, rows], axis=1).tobytes()
    colour = _GREY if channels == 1 else _RGB
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)
    return base64.b64encode(data).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

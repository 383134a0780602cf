"""IDX files, the format of MNIST and of its many relatives: big-endian header, then bytes.

Nothing in a header is believed before the bytes are there: memory follows what the file holds,
never what it declares.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.data.dataset import Dataset, Labels

Kind = Literal["images", "labels"]

CLASSES = 10
"""Classes of MNIST and of the datasets that share its files' names."""

_DIMENSIONS: dict[Kind, int] = {"images": 3, "labels": 1}
_UNSIGNED_BYTES = 0x08
_TYPES = {
    _UNSIGNED_BYTES: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "whole numbers of 2 bytes",
    0x0C: "whole numbers of 4 bytes",
    0x0D: "floats",
    0x0E: "doubles",
}
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 2**20
_MOST_BYTES = 2**33  # Far beyond any published IDX file: only a damaged header asks for more.

_STEMS: dict[str, tuple[str, Kind]] = {
    "x_train": ("train-images", "images"),
    "y_train": ("train-labels", "labels"),
    "x_test": ("t10k-images", "images"),
    "y_test": ("t10k-labels", "labels"),
}


def read_idx(path: Path | str, *, kind: Kind) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzip; its content tells which.

    Parameters
    ----------
    path
        The file, whatever its name.
    kind
        What the file is to hold.

    Returns
    -------
    NDArray[np.uint8]
        Images ``[examples, height, width]`` or labels ``[examples]``.

    Raises
    ------
    InputError
        If the file cannot be read, is damaged, or holds another kind.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     file.flush()
    ...     read_idx(file.name, kind="labels")
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected an IDX file of {kind}.")
        with _opened(path) as file:
            shape = _read_shape(file, path, kind)
            data = _read_data(file, path, shape)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: the gzip data are damaged ({error}), "
            f"expected a whole IDX file of {kind}; fetch it again."
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}), expected an IDX file of {kind}."
        ) from error
    return np.frombuffer(data, np.uint8).reshape(shape)


def idx_files(folder: Path) -> dict[str, Path]:
    """Find the four usual IDX files, of which some may be missing.

    Parameters
    ----------
    folder
        Where to look; it need not exist.

    Returns
    -------
    dict[str, Path]
        Paths by ``"x_train"``, ``"y_train"``, ``"x_test"`` and ``"y_test"``, found ones only.
    """
    found = {}
    for array, (stem, kind) in _STEMS.items():
        for spelling in _spellings(stem, kind):
            if (folder / spelling).is_file():
                found[array] = folder / spelling
                break
    return found


def load_idx_folder(folder: Path | str, name: str) -> Dataset:
    """Load the four usual IDX files of a dataset of ten classes.

    The files are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and their two
    ``t10k-`` fellows; a dot may stand before ``idx`` and ``.gz`` at the end.

    Parameters
    ----------
    folder
        The folder that holds them.
    name
        The name of the dataset.

    Returns
    -------
    Dataset
        Images ``[examples, 1, height, width]`` of pixels, scale 255.

    Raises
    ------
    InputError
        If a file is missing or damaged, or if images and labels do not fit together.
    """
    folder = Path(folder)
    files = idx_files(folder)
    missing = [next(_spellings(*_STEMS[array])) for array in _STEMS if array not in files]
    if missing:
        raise InputError(
            f"{folder}: lacks {', '.join(missing)} (plain or .gz), "
            f"expected the four IDX files of {name}; add what is missing."
        )
    x_train, y_train = _load_pair(files["x_train"], files["y_train"])
    x_test, y_test = _load_pair(files["x_test"], files["y_test"])
    return Dataset(name, x_train, y_train, x_test, y_test, classes=CLASSES, scale=255.0)


def _load_pair(image_path: Path, label_path: Path) -> tuple[NDArray[np.uint8], Labels]:
    images = read_idx(image_path, kind="images")
    labels = read_idx(label_path, kind="labels")
    if len(images) != len(labels):
        raise InputError(
            f"{label_path}: holds {len(labels)} labels, expected {len(images)}: "
            f"one for each image of {image_path.name}."
        )
    if (labels >= CLASSES).any():
        position = int(np.argmax(labels >= CLASSES))
        raise InputError(
            f"{label_path}: holds {labels[position]} at position {position}, "
            f"expected labels from 0 to {CLASSES - 1}."
        )
    return images[:, np.newaxis], labels.astype(np.int64)


def _spellings(stem: str, kind: Kind) -> Iterator[str]:
    for separator in "-.":
        for ending in ("", ".gz"):
            yield f"{stem}{separator}idx{_DIMENSIONS[kind]}-ubyte{ending}"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        if not compressed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast("BinaryIO", unpacked)


def _read_shape(file: BinaryIO, path: Path, kind: Kind) -> tuple[int, ...]:
    dimensions = _DIMENSIONS[kind]
    expected = struct.pack(">HBB", 0, _UNSIGNED_BYTES, dimensions)
    header_bytes = len(expected) + 4 * dimensions
    header = file.read(header_bytes)
    if not header:
        raise InputError(f"{path}: is empty, expected an IDX file of {kind}; fetch it again.")
    magic = header[: len(expected)]
    if magic != expected[: len(magic)]:
        raise InputError(
            f"{path}: starts with the bytes {magic.hex(' ')}, expected {expected.hex(' ')} "
            f"for {kind} (an IDX file of unsigned bytes in {dimensions} dimensions){_held(magic)}."
        )
    if len(header) < header_bytes:
        raise InputError(
            f"{path}: ends after {len(header)} bytes, expected a header of {header_bytes} bytes "
            f"for {kind}; fetch it again."
        )
    shape = struct.unpack(f">{dimensions}I", header[len(magic) :])
    if not 0 < math.prod(shape) <= _MOST_BYTES:
        raise InputError(
            f"{path}: declares the shape {list(shape)}, "
            f"expected between 1 and {_MOST_BYTES} values in all; fetch it again."
        )
    return shape


def _held(magic: bytes) -> str:
    """Return what a file holds instead, behind a semicolon; empty if its first bytes do not tell.

    Examples
    --------
    >>> _held(bytes([0, 0, 8, 1])), _held(b"<htm")
    ('; it holds labels, as if files were swapped', '; it is a web page: fetch the file itself')
    """
    if len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _TYPES:
        for kind, dimensions in _DIMENSIONS.items():
            if (magic[2], magic[3]) == (_UNSIGNED_BYTES, dimensions):
                return f"; it holds {kind}, as if files were swapped"
        plural = "" if magic[3] == 1 else "s"
        return f"; it holds {_TYPES[magic[2]]} in {magic[3]} dimension{plural}"
    starts = {
        _GZIP_MAGIC: "it was compressed twice: unpack it once",
        b"PK": "it is a zip archive: unpack it",
        b"<": "it is a web page: fetch the file itself",
    }
    return next((f"; {text}" for start, text in starts.items() if magic.startswith(start)), "")


def _read_data(file: BinaryIO, path: Path, shape: tuple[int, ...]) -> bytearray:
    declared = math.prod(shape)
    data = bytearray()
    # One byte more than declared is asked for: it tells an oversized file, and reaching the end
    # is what makes gzip compare its checksum.
    while chunk := file.read(min(_CHUNK_BYTES, declared + 1 - len(data))):
        data += chunk
    if len(data) != declared:
        held = "more" if len(data) > declared else str(len(data))
        raise InputError(
            f"{path}: holds {held} bytes of data, expected {declared} as its header declares "
            f"(shape {list(shape)}); fetch it again."
        )
    return data

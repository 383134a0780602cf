"""CIFAR-10 in its binary version: six batches of records, in a folder or in the published archive.

A record is one byte of label and 3,072 of pixels, channel by channel. The format has no header,
so the size of a batch is all that tells a whole one. The archive is read where it lies: nothing
is unpacked to the disk, and memory never follows what a header declares.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.data.dataset import Dataset, Labels

ARCHIVE = "cifar-10-binary.tar.gz"
"""The published archive."""
FOLDER = "cifar-10-batches-bin"
"""The folder in the archive."""

_CLASSES = 10
_SHAPE = (3, 32, 32)
_RECORD_BYTES = 1 + 3 * 32 * 32
_RECORDS = 10_000
_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"
_BATCHES = (*_TRAIN, _TEST)
_NOTES = ("batches.meta.txt", "readme.html")
_MOST_OTHER_BYTES = 2**20  # Headers, notes and padding of the published archive are 40 kB.
_CHUNK_BYTES = 2**20


def load_cifar10_folder(folder: Path | str, name: str) -> Dataset:
    """Load CIFAR-10 from its six binary batches.

    Parameters
    ----------
    folder
        Holds ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or a folder
        ``cifar-10-batches-bin`` with them, or the archive ``cifar-10-binary.tar.gz``; the first
        of the three that is there counts.
    name
        The name of the dataset.

    Returns
    -------
    Dataset
        Images ``[examples, 3, 32, 32]`` of pixels, scale 255; 50,000 examples for training and
        10,000 for testing.

    Raises
    ------
    InputError
        If a batch is missing or damaged, or the archive holds anything that is not published.
    """
    folder = Path(folder)
    contents = _read_contents(folder, name)
    parts = {file: _split_records(where, data) for file, (where, data) in contents.items()}
    x_train = np.concatenate([parts[file][0] for file in _TRAIN])
    y_train = np.concatenate([parts[file][1] for file in _TRAIN])
    x_test, y_test = parts[_TEST]
    return Dataset(name, x_train, y_train, x_test, y_test, classes=_CLASSES, scale=255.0)


Contents = Mapping[str, tuple[str, bytes]]
"""By the name of a batch: what to call it in a sentence, and its bytes."""


def _read_contents(folder: Path, name: str) -> Contents:
    for place in (folder, folder / FOLDER):
        found = {file for file in _BATCHES if (place / file).is_file()}
        if found:
            _check_all_there(str(place), found)
            return {file: (str(place / file), _read_file(place / file)) for file in _BATCHES}
    if (folder / ARCHIVE).is_file():
        return _read_archive(folder / ARCHIVE)
    raise InputError(
        f"{folder}: holds neither the six files {_BATCHES[0]} to {_TEST} nor {ARCHIVE}, "
        f"expected the binary version of {name}; put one of the two there."
    )


def _check_all_there(where: str, found: set[str]) -> None:
    missing = [file for file in _BATCHES if file not in found]
    if missing:
        raise InputError(
            f"{where}: lacks {', '.join(missing)}, "
            f"expected the six files {_BATCHES[0]} to {_TEST}; add what is missing."
        )


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # One byte more than expected tells an oversized file without reading it all.
            return file.read(_batch_bytes() + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}), "
            "expected a binary batch of CIFAR-10."
        ) from error


def _read_archive(path: Path) -> Contents:
    try:
        with gzip.open(path) as unpacked:
            limited = _Limited(unpacked, path)
            found = _read_members(limited, path)
            # Reaching the end is what makes gzip compare its checksum.
            while limited.read(_CHUNK_BYTES):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise InputError(
            f"{path}: the archive is damaged ({error}), expected {ARCHIVE} as it is published; "
            "fetch it again."
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}), "
            "expected the archive of CIFAR-10's binary version."
        ) from error
    _check_all_there(str(path), set(found))
    return found


def _read_members(unpacked: "_Limited", path: Path) -> dict[str, tuple[str, bytes]]:
    found: dict[str, tuple[str, bytes]] = {}
    # A stream: each member is read as it comes by, and nothing is ever sought.
    with tarfile.open(fileobj=unpacked, mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            file = _check_member(member, path)
            if file in found:
                raise InputError(f"{path}: holds {member.name} twice, expected it once.")
            content = archive.extractfile(member)
            if file in _BATCHES and content is not None:
                found[file] = (f"{path}: {member.name}", content.read())
    return found


def _check_member(member: tarfile.TarInfo, path: Path) -> str:
    """Return the bare name of a member that is published; refuse every other."""
    place = PurePosixPath(member.name)
    folder = member.isdir() and member.name == FOLDER
    published = member.isreg() and str(place.parent) == FOLDER and place.name in _BATCHES + _NOTES
    if not folder and not published:
        kind = "file" if member.isreg() else "folder" if member.isdir() else "link or device"
        raise InputError(
            f"{path}: holds the {kind} {member.name!r}, "
            f"expected nothing but the files of {FOLDER}/; fetch it again."
        )
    if place.name in _BATCHES:
        _check_size(f"{path}: {member.name}", member.size)
    return place.name


class _Limited:
    """Reads a decompressed archive, never further than the published one is long."""

    def __init__(self, unpacked: BinaryIO | gzip.GzipFile, path: Path) -> None:
        self._unpacked = unpacked
        self._path = path
        self._left = len(_BATCHES) * _batch_bytes() + _MOST_OTHER_BYTES

    def read(self, size: int) -> bytes:
        data = self._unpacked.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                f"{self._path}: holds more than the six batches of CIFAR-10, "
                f"expected {ARCHIVE} as it is published; fetch it again."
            )
        return data


def _split_records(where: str, data: bytes) -> tuple[NDArray[np.uint8], Labels]:
    """Return the images, ``[records, 3, 32, 32]``, and the labels, ``[records]``, of a batch."""
    _check_size(where, len(data))
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD_BYTES)
    labels = records[:, 0]
    if (labels >= _CLASSES).any():
        position = int(np.argmax(labels >= _CLASSES))
        raise InputError(
            f"{where}: holds the label {labels[position]} at position {position}, "
            f"expected labels from 0 to {_CLASSES - 1}."
        )
    return records[:, 1:].reshape(-1, *_SHAPE), labels.astype(np.int64)


def _check_size(where: str, size: int) -> None:
    expected = _batch_bytes()
    if size != expected:
        held = "more" if size > expected else str(size)
        raise InputError(
            f"{where}: holds {held} bytes, expected {expected} "
            f"({_RECORDS} records of {_RECORD_BYTES}); fetch it again."
        )


def _batch_bytes() -> int:
    return _RECORDS * _RECORD_BYTES

"""Arrays from outside: what callers pass, and ``.npz`` files read without pickle.

Of a file, headers are read before numbers: what a header claims is compared with what its entry
holds before an array is made of it, reading to the end compares the checksum, and whatever is wrong
is said in one sentence. Which arrays a file is to hold, and what they mean, is for those to say who
read it.
"""

import io
import lzma
import math
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gossamer.core.errors import InputError

Entries = dict[str, zipfile.ZipInfo]
"""What an archive holds, by the names of the arrays."""

MAGIC = npy.MAGIC_PREFIX
"""What a file of a single array starts with."""

_HEADER_BYTES = 2**14
"""More than NumPy's longest header of an array of numbers."""


@dataclass(frozen=True)
class Header:
    """Shape and type of an array that was not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    column_major: bool = False
    """Whether the first axis runs fastest, as Fortran has it."""

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def as_array(what: str, values: object, expected: str) -> NDArray[Any]:
    """Return what a caller passed as an array: one of NumPy, nested lists, or tensors of PyTorch.

    A tensor may require a gradient and lie on any device; numbers that NumPy has no type for, such
    as bfloat16, become float32, which holds each of them. Nothing is copied that need not be.

    Parameters
    ----------
    what
        The subject of the sentence, such as ``"labels"``.
    values
        What was passed.
    expected
        How a sentence ends that complains of it, such as ``"expected class numbers"``.

    Raises
    ------
    InputError
        If it is none of these, or some of its entries are masked.

    Examples
    --------
    >>> as_array("labels", [[0, 1], [2, 3]], "expected class numbers").shape
    (2, 2)
    """
    torch = sys.modules.get("torch")  # Whoever holds a tensor has imported it.
    try:
        if torch is not None and isinstance(values, torch.Tensor):
            return _of_tensor(values)
        if torch is not None and isinstance(values, list | tuple):
            values = [_of_tensor(v) if isinstance(v, torch.Tensor) else v for v in values]
        array: NDArray[Any] = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
        if "inhomogeneous" in str(error):
            reason = "lists of different lengths"
        raise InputError(f"{what}: cannot be read as an array ({reason}), {expected}.") from error
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{what}: some entries are masked, {expected} of every one.")
    return array


def _of_tensor(tensor: Any) -> NDArray[Any]:
    try:
        array: NDArray[Any] = tensor.numpy(force=True)
    except TypeError:  # A type that NumPy lacks.
        array = tensor.float().numpy(force=True)
    return array


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an ``.npz`` file as the zip archive it is; damage is said as by `readable`."""
    with readable(path), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in one sentence whatever is wrong with the bytes of a file.

    Raises
    ------
    InputError
        If they cannot be read or are no ``.npz`` file.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{path}: cannot be read ({reason}), expected an .npz file written by numpy.savez."
        ) from error
    # What zipfile, zlib, lzma and NumPy raise at damaged bytes is of many kinds.
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        ArithmeticError,
        EOFError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: is damaged or no .npz file ({reason}), "
            "expected a file written by numpy.savez; write it again."
        ) from error


def entries(archive: zipfile.ZipFile) -> Entries:
    """Return what an archive holds; of two of the same name the last one counts."""
    return {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}


def read_header(path: Path, archive: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo) -> Header:
    """Read an array's header and compare it with the size of its entry.

    Raises
    ------
    InputError
        If there is none, the array holds Python objects, or the entry holds more or less than
        the header declares.
    """
    with archive.open(entry) as stream:
        start = stream.read(_HEADER_BYTES)
    try:
        header, offset = _parse_header(start)
    # Python's parser, which NumPy reads headers with, runs out of stack at deep nesting.
    except (
        ValueError,
        TypeError,
        SyntaxError,
        TokenError,
        MemoryError,
        RecursionError,
        Warning,
    ) as error:
        raise InputError(
            f"{path}: {name} has no readable .npy header, "
            "expected a file written by numpy.savez; write it again."
        ) from error
    if header.dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds Python objects (pickle), which are not read for safety, "
            "expected an array of numbers; convert it before saving."
        )
    if header.dtype.itemsize == 0:
        raise InputError(
            f"{path}: {name} is of the type {header.dtype}, whose values take no bytes, "
            "expected an array of numbers; write it again."
        )
    if entry.file_size - offset != header.size:
        raise InputError(
            f"{path}: {name} holds {entry.file_size - offset} bytes, expected {header.size} for "
            f"its shape {list(header.shape)} of {header.dtype}; write it again."
        )
    return header


def read_numbers(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """Read an array whose header was read before; errors are those that `readable` explains."""
    with archive.open(entry) as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        stream.read(1)  # Reading beyond the end is what compares the checksum.
    return array


def _parse_header(start: bytes) -> tuple[Header, int]:
    stream = io.BytesIO(start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy warns where it repairs a header.
        version = npy.read_magic(stream)
        if version == (1, 0):
            shape, column_major, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, column_major, dtype = npy.read_array_header_2_0(stream)
        else:  # Version 3 exists for field names beyond Latin-1; arrays of numbers have none.
            raise ValueError("not a header of an array of numbers")
    if any(length < 0 for length in shape):
        raise ValueError("a negative length")
    return Header(shape, dtype, column_major), stream.tell()


@dataclass(frozen=True)
class StoredArray:
    """An array of a file whose header was read: it is read a few rows at a time."""

    path: Path
    name: str
    header: Header

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array in memory."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an array in memory."""
        return self.header.dtype

    def rows(self, most: int) -> Iterator[NDArray[Any]]:
        """Yield the array in order as ``[rows, last axis]``, so many rows at a time at most.

        No part crosses the axes before. An array whose first axis runs fastest is read whole.

        Raises
        ------
        InputError
            If it cannot be read, or is not what its checksum, known at the end, says.
        """
        if self.header.column_major:
            yield from rows_of(self.whole(), most)
            return
        with opened(self.path) as archive, archive.open(entries(archive)[self.name]) as stream:
            content = stream.read(_HEADER_BYTES)
            content = content[_parse_header(content)[1] :]
            for count in _counts(self.shape, most):
                size = count * self.shape[-1] * self.dtype.itemsize
                while len(content) < size:
                    if not (more := stream.read(size - len(content))):
                        raise EOFError("it ends early")
                    content += more
                yield np.frombuffer(content[:size], self.dtype).reshape(count, -1)
                content = content[size:]
            stream.read(1)  # Reading beyond the end is what compares the checksum.

    def whole(self) -> NDArray[Any]:
        """Return the array as one of NumPy.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        with opened(self.path) as archive:
            return read_numbers(archive, entries(archive)[self.name])


def rows_of(array: NDArray[Any], most: int) -> Iterator[NDArray[Any]]:
    """Yield an array in order as ``[rows, last axis]``, as `StoredArray.rows` does.

    Examples
    --------
    >>> [part.shape for part in rows_of(np.zeros((2, 3, 5)), 2)]
    [(2, 5), (1, 5), (2, 5), (1, 5)]
    """
    for index in np.ndindex(array.shape[:-2]):
        for start in range(0, array.shape[-2], most):
            yield array[index][start : start + most]


def _counts(shape: tuple[int, ...], most: int) -> Iterator[int]:
    for _ in range(math.prod(shape[:-2])):
        yield from (min(most, shape[-2] - start) for start in range(0, shape[-2], most))

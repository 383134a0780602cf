"""One array of a file: an ``.npy``, or an ``.npz`` that holds one or names which is meant."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from numpy.typing import NDArray

from gossamer.core.arrays import entries, opened, read_header, read_numbers
from gossamer.core.errors import InputError

_SUFFIX = ".npz"


def is_archive(path: Path) -> bool:
    """Tell whether a path means an array of an archive.

    Examples
    --------
    >>> is_archive(Path("mine.npz")), is_archive(Path("mine.npz:x_test")), is_archive(Path("x.npy"))
    (True, True, False)
    """
    return _parted(path)[0].suffix == _SUFFIX


def file_of(path: Path) -> Path:
    """Return the file that a path means, without the name of an array behind it.

    Examples
    --------
    >>> file_of(Path("mine.npz:x_test")).name, file_of(Path("x.npy")).name
    ('mine.npz', 'x.npy')
    """
    return _parted(path)[0]


def any_shape(_shape: tuple[int, ...]) -> bool:
    """Take an array of any shape."""
    return True


def read_archive_array(
    path: Path, expected: str, suits: Callable[[tuple[int, ...]], bool] = any_shape
) -> NDArray[Any]:
    """Read one array of an archive, without pickle.

    Parameters
    ----------
    path
        An ``.npz`` file; behind a colon the name of the array, which may be left out where the
        file holds a single one.
    expected
        How a sentence ends that complains of it.
    suits
        Whether an array of some shape could be the one that is meant.

    Raises
    ------
    InputError
        If the file cannot be read, or it does not say which array is meant.
    """
    file, name = _parted(path)
    if not file.is_file():
        found = "a folder" if file.is_dir() else "not there"
        raise InputError(f"{file}: is {found}, {expected}.")
    with opened(file) as archive:
        held = entries(archive)
        chosen = name or (next(iter(held)) if len(held) == 1 else "")
        if not held:
            raise InputError(f"{file}: holds no array, {expected}.")
        if chosen not in held:
            what = f"holds no {chosen}" if chosen else "holds several arrays"
            suiting = [one for one in held if suits(_shape(file, archive, one))] or list(held)
            close = difflib.get_close_matches(chosen, suiting, n=1, cutoff=0) if chosen else suiting
            raise InputError(
                f"{file}: {what} ({', '.join(held)}), {expected}; name the one that is meant, such "
                f"as {file}:{close[0]}."
            )
        header = read_header(file, archive, chosen, held[chosen])
        others = [one for one in held if suits(_shape(file, archive, one))]
        if others and not suits(header.shape):
            raise InputError(
                f"{file}:{chosen}: has shape {list(header.shape)}, {expected}, as "
                f"{file}:{others[0]} has."
            )
        return read_numbers(archive, held[chosen])


def _shape(file: Path, archive: ZipFile, name: str) -> tuple[int, ...]:
    """Return the shape of an array; one of no examples if that cannot be read."""
    try:
        return read_header(file, archive, name, entries(archive)[name]).shape
    except InputError:
        return ()


def _parted(path: Path) -> tuple[Path, str]:
    """Return the file, and the name of the array behind a colon; "" where there is none."""
    file, colon, name = str(path).rpartition(":")
    if colon and file.endswith(_SUFFIX):
        return Path(file), name
    return path, ""

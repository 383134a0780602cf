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
    path: Path,
    expected: str,
    suits: Callable[[tuple[int, ...]], bool] = any_shape,
    is_meant: Callable[[NDArray[Any]], bool] | None = None,
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
    is_meant
        Whether an array that suits by its shape can be the one that is meant by its numbers, too:
        where no name is given, and this holds for a single array, it is taken.

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
        suiting = [one for one in held if suits(_shape(file, archive, one))]
        able = list(held)
        if is_meant is not None and not name and len(held) > 1:
            able = [one for one in suiting if is_meant(read_numbers(archive, held[one]))]
        chosen = name or (able[0] if len(able) == 1 else "")
        if chosen not in held:
            raise InputError(_undecided(file, name, list(held), suiting, able, expected))
        header = read_header(file, archive, chosen, held[chosen])
        if is_meant is None and suiting and not suits(header.shape):
            raise InputError(
                f"{file}:{chosen}: has shape {list(header.shape)}, {expected}, as "
                f"{file}:{suiting[0]} has."
            )
        return read_numbers(archive, held[chosen])


def _undecided(
    file: Path, name: str, held: list[str], suiting: list[str], able: list[str], expected: str
) -> str:
    """Say that no array is named, or one that is not there, and how to name one."""
    if not held:
        return f"{file}: holds no array, {expected}."
    if name:
        what = f"holds no {name} ({', '.join(held)})"
        near = difflib.get_close_matches(name, suiting or held, n=1, cutoff=0)
    else:
        what = f"holds several arrays ({', '.join(able or held)})"
        near = [one for one in suiting if one in able] or suiting or held
    if able:
        return f"{file}: {what}, {expected}; name the one that is meant, such as {file}:{near[0]}."
    return (
        f"{file}: {what}, none of which can be meant, {expected}; name one to hear what it lacks, "
        f"such as {file}:{near[0]}."
    )


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

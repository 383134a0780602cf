"""Files that appear whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossamer.errors import InputError


def as_path(path: object) -> Path:
    """Return the path of a file that a user gave.

    Raises
    ------
    InputError
        If it cannot be one: no text, empty, or with a null character.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{path!r}: expected the path of a file, not {type(path).__name__}.")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise InputError(f"{text!r}: expected the path of a file.")
    return Path(text)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends, sync it and rename it there.

    If the block raises, nothing is left behind and an older file at `path` stays. A link stays a
    link, and the file that it points to is the one replaced, with its permissions kept.

    Raises
    ------
    OSError
        If `path` is there and no regular file: a rename would put a file in the place of a device.
    """
    target = path.resolve()
    there = target.exists()
    if there and not target.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if there:
            temporary.chmod(target.stat().st_mode & 0o777)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)

"""Files that appear whole or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gossamer.core.errors import InputError, UnwritableError
from gossamer.core.system import failure_reason


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
        with suppress(OSError):  # what went wrong before counts
            temporary.unlink(missing_ok=True)


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 if there is none."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it has just gone
            total += path.stat().st_size if path.is_file() else 0
    return total


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of `replacing` that processes left which were killed, if that can be.

    Those of processes that are at work stay; of other machines nothing is known.
    """
    for path in folder.glob(".*.tmp"):
        process = path.suffixes[-2].removeprefix(".") if len(path.suffixes) > 1 else ""
        if process.isdecimal() and not _is_at_work(int(process)):
            with suppress(OSError):
                path.unlink()


def _is_at_work(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def unwritable(folder: Path, error: Exception, needed: int = 0) -> UnwritableError | None:
    """Return what a failed write in a folder means, and what to do; None if it can be written.

    Parameters
    ----------
    folder
        Where something was to be written.
    error
        What failed. Where it is not the operating system's own error, and does not quote its
        number, a few bytes are written there to see.
    needed
        How many bytes were to be written: where there is room for fewer, the disk is full, though
        what was half-written is gone by now.
    """
    if not folder.exists():
        return UnwritableError(f"the folder {folder} is gone", "bring it back, or begin anew")
    cause = error if isinstance(error, OSError) else _quoted(error) or _probed(folder)
    if cause is None and shutil.disk_usage(folder).free < needed:
        cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if cause is None or cause.errno == errno.ENAMETOOLONG:  # which is no matter of the folder
        return None
    if cause.errno == errno.ENOSPC:
        return UnwritableError(f"the disk of {folder} is full", "free some space")
    if cause.errno == errno.EDQUOT:
        return UnwritableError(
            f"the disk quota for {folder} is used up", "free some space, or ask for more"
        )
    reason = failure_reason(cause)
    if cause.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return UnwritableError(
            f"the folder {folder} cannot be written ({reason})",
            "make it writable, or choose another one",
        )
    return UnwritableError(
        f"the folder {folder} cannot be written ({reason})", "see what its disk lacks"
    )


def _quoted(error: Exception) -> OSError | None:
    """Return the error of the operating system whose number a library quotes, if it does."""
    found = re.search(r"\bos error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


_ENOUGH = 1 << 16
"""Bytes without which nothing of use can be written."""


def _probed(folder: Path) -> OSError | None:
    """Return why nothing can be written in a folder; None if something can."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_ENOUGH))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None

"""A word in the place of one that dies without: of a process that was killed, or killed itself."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_WORD = (
    "gossamer: the process that drives the run died, of what it tried or did itself or for want of "
    "memory; what was done is kept: run the same command again, which does all that is left in "
    "other processes, and names what ends them"
)
_LISTENER = f"read end || echo '{_WORD}' >&2"
"""What a shell does: it waits until it is told that all went well, or nobody can tell it more."""


@contextmanager
def last_word() -> Iterator[None]:
    """Have something said on standard error if this process dies inside the block."""
    try:
        listener = subprocess.Popen(  # noqa: S603 - a fixed text
            ["/bin/sh", "-c", _LISTENER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process
        )
    except OSError:  # there is no such shell: nothing is said
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            listener.communicate(b"end\n")

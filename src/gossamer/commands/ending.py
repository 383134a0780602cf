"""How a command ends: with an exit code, and a sentence in the place of a traceback."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from gossamer.core.errors import GossamerError
from gossamer.core.system import failure_reason

FAILED = 1
"""Something of what was asked for could not be done, or the reader of the output left."""
BAD_INPUT = 2
INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def exit_code(work: Callable[[], object]) -> int:
    """Do what a command does and return its exit code.

    Parameters
    ----------
    work
        Does all of it, and may raise SystemExit; an integer that it returns is the exit code.
    """
    try:
        try:
            found = work()
        except SystemExit as leaving:  # of argparse and typer, which have printed what they say
            found = leaving.code
        sys.stdout.flush()
    except GossamerError as error:
        say(f"gossamer: {error}")
        return BAD_INPUT
    except KeyboardInterrupt:
        say("gossamer: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        print_to_nobody()
        return FAILED
    except OSError as error:
        print_to_nobody()  # what is left to be printed would fail again, at Python's end
        say(f"gossamer: {_told(error)}")
        return BAD_INPUT
    return found if isinstance(found, int) else 0


def _told(error: OSError) -> str:
    """Say what the operating system refused."""
    reason = failure_reason(error)
    if error.errno in _NO_ROOM:
        file = error.filename or "what was to be printed"
        return f"there is no room for {file} ({reason}): free some space"
    if error.errno == errno.ENAMETOOLONG:
        return f"{error.filename}: the name or path is too long here: choose a shorter one."
    if error.filename:
        return f"{error.filename}: cannot be used ({reason})."
    return f"reading or writing failed ({reason})."


def say(text: str) -> None:
    """Say something to whoever watches; results alone go to standard output."""
    with suppress(OSError):  # nobody listens
        print(text, file=sys.stderr, flush=True)


def print_to_nobody() -> None:
    """Send what is still to be printed nowhere, or Python would complain of it at its end."""
    _send_nowhere(sys.stdout)


def speak_to_nobody() -> None:
    """Send what is still to be printed or said nowhere: the terminal is gone."""
    _send_nowhere(sys.stdout)
    _send_nowhere(sys.stderr)


def _send_nowhere(stream: TextIO) -> None:
    with suppress(OSError):  # it is no file, but something of Python's
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)

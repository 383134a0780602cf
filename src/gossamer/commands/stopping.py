"""Ctrl-C: asked once to stop, a run stops at the next safe point; asked again, at once.

Whenever it comes, what is there and the command that goes on are said, and the exit code is 130.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from gossamer.core.errors import GossamerError
from gossamer.core.formats import counted

INTERRUPTED = 130


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one stops at once.

    Yields what tells whether to stop.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if asked:
            raise StoppedAtOnce
        asked.append(number)
        say("Stopping at the next safe point; Ctrl-C again to stop at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StoppedAtOnce(KeyboardInterrupt):
    """Asked twice to stop: what is under way is given up."""


def stopped_text(folder: Path, command: str, *, at_once: bool = False) -> str:
    """Say what a folder holds of the study that was stopped, and the command that goes on.

    Parameters
    ----------
    folder
        Of the run, which may not be there yet.
    command
        The command that was stopped.
    at_once
        Whether what was under way was given up.
    """
    counts = _done(folder)
    if counts is None:
        return f"Stopped before anything was computed. To begin: {command}"
    done, asked, joints_left = counts
    if at_once and (done < asked or joints_left):
        return (
            f"Stopped at once; what was under way is lost: {done:,} of {counted(asked, 'trial')} "
            f"are done and kept in {folder}. The same command goes on: {command}"
        )
    if done < asked or joints_left:
        return (
            f"Stopped; nothing is lost: {done:,} of {counted(asked, 'trial')} are done and kept in "
            f"{folder}. The same command goes on: {command}"
        )
    of = "The one trial is" if asked == 1 else f"All {counted(asked, 'trial')} are"
    return (
        f"Stopped; nothing is lost: {of[:1].lower()}{of[1:]} done and kept in {folder}, the report "
        f"may not be written. To write it: gossamer report {folder}"
    )


def _done(folder: Path) -> tuple[int, int, int] | None:
    """Return how many trials are done, were asked for, and joint measures are left; None if none.

    They are those of the study that the folder was last asked for.
    """
    from gossamer.records.store import Store

    try:
        with Store.open(folder) as store:
            study = store.latest_study()
            asked = {trial.key for trial in study.trials}
            joints_left = set(study.joints) - store.done_joints()
            return len(asked & store.done_records()), len(asked), len(joints_left)
    except GossamerError:
        return None

"""Ctrl-C: asked once to stop, a run stops at the next safe point; asked again, at once.

Whenever it comes, what is there and the command that goes on are said, and the exit code is 130.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gossamer.commands.ending import speak_to_nobody
from gossamer.core.errors import GossamerError
from gossamer.core.formats import counted, listed


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one stops at once.

    So does SIGHUP, of a connection that was dropped, unless it is ignored as `nohup` has it. Yields
    what tells whether to stop.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if asked:
            raise StoppedAtOnce
        asked.append(number)
        try:
            say("Stopping at the next safe point; Ctrl-C again to stop at once.")
        except OSError:  # the terminal is gone: whatever is said from now on would fail, too
            speak_to_nobody()

    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in heard}
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
    done = _done(folder)
    if done is None:
        return f"Stopped before anything was computed. To begin: {command}"
    if done.is_all:
        trials = done.trials[1]
        of = "the one trial is" if trials == 1 else f"all {counted(trials, 'trial')} are"
        return (
            f"Stopped; nothing is lost: {of} done and kept in {folder}, the report may not be "
            f"written. To write it: gossamer report {folder}"
        )
    stopped = "at once; what was under way is lost" if at_once else "nothing is lost"
    return (
        f"Stopped{' ' if at_once else '; '}{stopped}: {done} are done and kept in {folder}. "
        f"The same command goes on: {command}"
    )


def going_on(command: str) -> str:
    """Say which command goes on with a study, if that is known."""
    return f"`{command or 'gossamer run'}` goes on"


@dataclass(frozen=True)
class _Done:
    """What is done of the study that a folder was last asked for, and of how much."""

    trainings: tuple[int, int]
    trials: tuple[int, int]
    joints_left: int

    @property
    def is_all(self) -> bool:
        return self.trials[0] == self.trials[1] and not self.joints_left

    def __str__(self) -> str:
        counts = {"training": self.trainings, "trial": self.trials}
        told = [f"{done:,} of {counted(n, what)}" for what, (done, n) in counts.items() if n]
        return listed(told)


def _done(folder: Path) -> _Done | None:
    """Return what a folder holds of a study; None if it was asked for none."""
    from gossamer.records.store import Store

    try:
        with Store.open(folder) as store:
            study = store.latest_study()
            trials = {trial.key for trial in study.trials}
            trainings = {key for trial in study.trials for key in trial.phases}
            return _Done(
                trainings=(len(trainings & store.done_states()), len(trainings)),
                trials=(len(trials & store.done_records()), len(trials)),
                joints_left=len(set(study.joints) - store.done_joints()),
            )
    except GossamerError:
        return None

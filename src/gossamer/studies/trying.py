"""Trying the first trainings of a study in a process of its own, which they could end.

Code of a user's own may do anything: end its process, hang, or take all memory. Where that is so,
nothing was done yet in this process, and what is left is done in others, which tell what ends them.
"""

import signal
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection

from gossamer.core.errors import GossamerError
from gossamer.studies.autotuning import autotuned
from gossamer.studies.limits import resident_bytes
from gossamer.studies.process_pool import SIGNALS, cause_of_death, spawned
from gossamer.studies.process_settings import tune_process
from gossamer.studies.run import Estimate, Prepared, preflight_study

_LISTEN_SECONDS = 0.2
_NO_END = "Trying the first trainings together came to no end"


@dataclass(frozen=True)
class _Settled:
    jobs: int
    threads: int
    estimate: Estimate | None


@dataclass(frozen=True)
class _Told:
    """A warning of the process that tries, for the one that waits for it to give."""

    text: str
    category: type[Warning]


def tried_apart(prepared: Prepared, begun: float) -> tuple[Prepared, str | None]:
    """Try every step, and choose processes and threads by trying, in another process.

    Returns the study, and what is to be said where that process came to no end by itself: then
    nothing is settled, and nothing of the study is done in this process.

    Parameters
    ----------
    prepared
        The study.
    begun
        When the command began, by `time.monotonic`: its start is part of what it takes.

    Raises
    ------
    GossamerError
        If a step cannot be done, or the network not be trained or measured.
    """
    process, connection = spawned(_try, prepared, begun)
    since, limits = time.monotonic(), prepared.request.limits
    held = partial(resident_bytes, process.pid or 0)
    try:
        while True:
            if not connection.poll(_LISTEN_SECONDS):
                if limits and (reason := limits.exceeded(time.monotonic() - since, held)):
                    break
                continue
            message = connection.recv()
            if isinstance(message, Exception):
                raise message
            if isinstance(message, _Told):
                warnings.warn(message.text, message.category, stacklevel=2)
                continue
            if isinstance(message, _Settled):
                settled = replace(prepared, is_tried=True, estimate=message.estimate)
                return replace(settled, jobs=message.jobs, threads=message.threads), None
            since = time.monotonic()  # it has started
    except EOFError:
        reason = f"its process died: {cause_of_death(process)}"
    finally:
        process.kill()
        process.join()
        connection.close()
    return replace(prepared, was_killed=True), f"{_NO_END} ({reason}): each is tried apart now."


def _try(connection: Connection, prepared: Prepared, begun: float) -> None:
    """Try the study; the life of a process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    tune_process(prepared.threads)
    with suppress(OSError):  # the driving process is gone
        connection.send("started")
        with warnings.catch_warnings(record=True) as told:
            answer = _answer(prepared, begun)
        for one in told:
            own = one.category.__module__ != "builtins"  # which may not be known over there
            connection.send(_Told(str(one.message), UserWarning if own else one.category))
        connection.send(answer)


def _answer(prepared: Prepared, begun: float) -> _Settled | GossamerError:
    try:
        preflight_study(prepared)
        prepared = autotuned(prepared, begun)
    except GossamerError as error:
        return error
    return _Settled(prepared.jobs, prepared.threads, prepared.estimate)

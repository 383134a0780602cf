"""Trying the first trainings apart: whatever they do to their process, this one goes on."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGKILL

import pytest

from gossamer.core.errors import InputError, TrainingError
from gossamer.studies import trying
from gossamer.studies.limits import Limits
from gossamer.studies.run import Prepared, Request, prepare

Trial = Callable[[Prepared, float], Prepared]


def forked(target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start a process that has what tests put in the place of other things."""
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    with warnings.catch_warnings():  # of Python 3.12 and later, that this process has threads
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return process, ours


@pytest.fixture
def tried(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Prepared, str | None]]:
    def run(trial: Trial, limits: Limits = Limits()) -> tuple[Prepared, str | None]:  # noqa: B008
        monkeypatch.setattr(trying, "spawned", forked)
        monkeypatch.setattr(trying, "tune_process", lambda threads: None)  # noqa: ARG005
        monkeypatch.setattr(trying, "preflight_study", lambda prepared: None)  # noqa: ARG005
        monkeypatch.setattr(trying, "autotuned", trial)
        request = Request(study=str(study_file), folder=tmp_path, limits=limits)
        return trying.tried_apart(prepare(request, None), 0.0)

    return run


def test_what_was_chosen_there_holds_here(
    tried: Callable[..., tuple[Prepared, str | None]],
) -> None:
    found, said = tried(lambda prepared, _: replace(prepared, jobs=3, threads=2))
    assert (found.jobs, found.threads, found.is_tried, found.was_killed) == (3, 2, True, False)
    assert said is None


@pytest.mark.parametrize(
    ("trial", "limits", "why"),
    [
        (lambda *_: os._exit(5), Limits(), "its process died: exit code 5"),
        (lambda *_: os.kill(os.getpid(), SIGKILL), Limits(), "its process died: killed by SIGKILL"),
        (lambda *_: time.sleep(100), Limits(seconds=0.3), "longer than 0.3 s (--trial-timeout)"),
    ],
)
def test_what_ends_that_process_or_hangs_is_tried_apart_afterwards(
    tried: Callable[..., tuple[Prepared, str | None]], trial: Trial, limits: Limits, why: str
) -> None:
    found, said = tried(trial, limits)
    assert found.was_killed
    assert not found.is_tried
    assert said is not None
    assert why in said


@pytest.mark.parametrize("error", [InputError("a step", ("field",)), TrainingError("it diverged")])
def test_what_is_wrong_there_is_wrong_here(
    tried: Callable[..., tuple[Prepared, str | None]], error: Exception
) -> None:
    def fail(prepared: Prepared, begun: float) -> Prepared:
        raise error

    with pytest.raises(type(error), match=str(error)):
        tried(fail)


def test_what_is_warned_of_there_is_warned_of_here(
    tried: Callable[..., tuple[Prepared, str | None]],
) -> None:
    class OwnWarning(RuntimeWarning):
        pass

    def warning(prepared: Prepared, _: float) -> Prepared:
        warnings.warn("it draws random numbers", RuntimeWarning, stacklevel=2)
        warnings.warn("of a user's own", OwnWarning, stacklevel=2)
        return prepared

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found, said = tried(warning)
    assert [(str(one.message), one.category) for one in told] == [
        ("it draws random numbers", RuntimeWarning), ("of a user's own", UserWarning),
    ]  # fmt: skip
    assert found.is_tried
    assert said is None

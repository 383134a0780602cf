"""A folder that takes no more is called that, with what is done, and the run goes on afterwards."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import SafetensorError

from gossamer.core.errors import UnwritableError
from gossamer.core.files import unwritable
from gossamer.records.record import Phase, Record
from gossamer.records.store import Store
from gossamer.studies.run import Estimate, Request, carry_out, prepare, telling_what_is_kept
from gossamer.studies.tasks import Event
from running_commands import Gossamer
from running_studies import numbers, run_all

QUOTED = "Error while serializing: I/O error: No space left on device (os error 28)"
FULL = "is full"
NEXT = ": free some space, then the same command goes on"


def run_until(study: Path, out: Path, after: int, then: Callable[[Store], Any]) -> UnwritableError:
    """Run a study to so many phases and records, let something happen, and return the error."""
    made = 0

    def watch(event: Event) -> None:
        nonlocal made
        if isinstance(event, Phase | Record):
            made += 1
            if made == after:
                then(store)

    with Store.create(out) as store:
        prepared = prepare(Request(study=str(study), folder=out, jobs=1), store)
        with pytest.raises(UnwritableError) as caught:
            carry_out(prepared, store, watch, lambda: False)
    return caught.value


@pytest.fixture
def whole(study_file: Path, tmp_path: Path) -> dict[str, Any]:
    run_all(study_file, tmp_path / "whole")
    return numbers(tmp_path / "whole")


def fill_database(store: Store) -> None:
    """Let SQLite itself find no room for another page."""
    connection = store._database.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_called_that_where_the_database_meets_it(
    study_file: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    error = run_until(study_file, out, 8, fill_database)
    with Store.open(out) as store:
        done = len(store.done_records())
    assert done > 0
    assert str(error) == f"the disk of {out} is full; {done} of 14 trials are done and kept{NEXT}"
    run_all(study_file, out)
    assert numbers(out) == whole


@pytest.mark.parametrize(
    ("free", "told"),
    [(50, "(about 700 B are needed and 50 B are free)"), (5000, "(the run takes about 1.00 kB)")],
)
def test_how_much_room_is_needed_is_said(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, told: str
) -> None:
    prepared = prepare(Request(study=str(study_file), folder=tmp_path, jobs=1), None)
    prepared = replace(prepared, estimate=Estimate(seconds=None, kept_bytes=1000))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))  # noqa: ARG005

    def fill() -> None:
        with telling_what_is_kept(prepared):
            (tmp_path / "state").write_bytes(bytes(300))
            raise UnwritableError("the disk is full", "free some space")

    with pytest.raises(UnwritableError) as caught:
        fill()
    assert caught.value.remedy == f"free some space {told}, then the same command goes on"


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, where: str, error: Exception) -> Iterator[None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        yield


WRITES = [
    (SafetensorError(QUOTED), FULL, "free some space"),
    (OSError(errno.ENOSPC, "No space left on device"), FULL, "free some space"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk quota for", "or ask for more"),
    (
        OSError(errno.EROFS, "Read-only file system"),
        "cannot be written (read-only file",
        "writable",
    ),
    (
        OSError(errno.EACCES, "Permission denied"),
        "cannot be written (permission denied",
        "writable",
    ),
    (OSError(errno.EIO, "Input/output error"), "cannot be written (input/output error)", "disk"),
]


@pytest.mark.parametrize(("cause", "told", "remedy"), WRITES)
def test_no_state_can_be_written_and_nothing_else_is_tried(
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cause: Exception,
    told: str,
    remedy: str,
) -> None:
    out = tmp_path / "out"
    with failing(monkeypatch, "gossamer.recipes.state.save_file", cause):
        error = run_until(study_file, out, 1, lambda store: None)  # noqa: ARG005
    assert told in error.what
    assert "; 0 of 14 trials are done and kept" in error.what
    assert remedy in error.remedy
    assert list((out / "states").iterdir()) == []


def test_a_study_goes_on_where_a_state_found_no_room(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    stop = monkeypatch.context()
    patched = stop.__enter__()

    def fill(store: Store) -> None:
        del store

        def fail(*_: object, **__: object) -> None:
            raise SafetensorError(QUOTED)

        patched.setattr("gossamer.recipes.state.save_file", fail)

    error = run_until(study_file, out, 3, fill)
    stop.__exit__(None, None, None)
    assert FULL in error.what
    run_all(study_file, out)
    assert numbers(out) == whole


@pytest.mark.parametrize("after", [1, 9, 13])
def test_a_folder_that_vanishes_is_missed_at_once(
    study_file: Path, tmp_path: Path, after: int
) -> None:
    out = tmp_path / "out"
    error = run_until(study_file, out, after, lambda store: shutil.rmtree(store.folder))
    assert error.what.startswith(f"the folder {out}")
    assert " is gone; " in error.what


@pytest.mark.slow
def test_the_same_is_said_by_processes(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / "states").mkdir(parents=True)
    with Store.create(out) as store:
        prepared = prepare(Request(study=str(study_file), folder=out, jobs=2), store)
        del monkeypatch
        shutil.rmtree(out / "states")
        with pytest.raises(UnwritableError, match=r"states is gone; 0 of 14 trials are done"):
            carry_out(prepared, store, lambda event: None, lambda: False)  # noqa: ARG005


def test_a_report_that_finds_no_room_loses_no_trial(
    gossamer: Gossamer, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with failing(monkeypatch, "pathlib.Path.write_bytes", full):
        seen = gossamer("run", str(study_file), "--out", "out", "--jobs", "1", "--threads", "1")
    assert seen.code == 2
    assert seen.err.strip().splitlines()[-1] == (
        "gossamer: the report cannot be written, for the disk of out is full; 14 of 14 trials are "
        "done and kept: free some space, then `gossamer report out` writes it"
    )
    after = gossamer("report", "out")
    assert after.code == 0
    assert Path("out/report.html").is_file()


def test_an_error_of_a_writable_folder_is_no_lack_of_room(tmp_path: Path) -> None:
    assert unwritable(tmp_path, ValueError("something else")) is None
    gone = unwritable(tmp_path / "nowhere", ValueError("something else"))
    assert gone is not None
    assert str(gone).startswith(f"the folder {tmp_path / 'nowhere'} is gone: bring it back")

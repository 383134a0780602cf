"""What costs its process: named, tried twice alone, then given up; everything else is done."""

import faulthandler
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from gossamer.core.errors import GossamerError, InputError
from gossamer.records.failed import Failed
from gossamer.records.record import Phase, Record
from gossamer.records.store import Store, only_writer
from gossamer.studies import process_pool
from gossamer.studies.executors import execute
from gossamer.studies.limits import Limits, as_bytes, resident_bytes
from gossamer.studies.plan import Training
from gossamer.studies.process_pool import ProcessPool, _Finished, _Ready, _Worker
from gossamer.studies.run import Prepared, Request, prepare, with_what_is_done
from gossamer.studies.tasks import Event, Failure, Site
from running_studies import command

Death = Callable[[], None]


def exits() -> None:
    os._exit(3)


def segfaults() -> None:
    faulthandler.disable()  # whose report would stand among what tests print
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs() -> None:
    time.sleep(100)


def grows() -> None:
    held = b"x" * 1_500_000_000  # more than what a forked process has not yet in its memory
    time.sleep(100)
    del held


def stand_in(deadly: dict[str, Death], log: Path) -> Callable[[Site], _Worker]:
    """Return what starts processes that make nothing, and die of what has a deadly key."""

    def work(connection: Connection) -> None:
        connection.send(_Ready())
        while (task := connection.recv()) != "stop":
            training = isinstance(task, Training)
            for keyed in (task.keyed,) if training else task.trials:
                key = task.key if training else keyed.record
                with log.open("a") as file:
                    file.write(f"{os.getpid()} {key}\n")
                deadly.get(key, lambda: None)()
                made: Any = Phase if training else Record
                connection.send(made.model_construct(key=key, versions={}))
            connection.send(_Finished())

    def start(site: Site) -> _Worker:
        del site
        context = get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    return start


@pytest.fixture
def prepared(study_file: Path, tmp_path: Path) -> Prepared:
    return prepare(Request(study=str(study_file), folder=tmp_path), None)


@pytest.fixture
def carried_out(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Event]]:
    """Do the small study in stand-ins, of which some keys are deadly."""

    def run(deadly: dict[str, Death], jobs: int, limits: Limits = Limits()) -> list[Event]:  # noqa: B008
        monkeypatch.setattr(process_pool, "_start", stand_in(deadly, tmp_path / "log"))
        pool = ProcessPool(prepared.plan, Site(tmp_path, None, 1), jobs, limits)
        events: list[Event] = []
        execute(pool, events.append, lambda: False)
        return events

    return run


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("death", "why"), [(exits, "exit code 3"), (segfaults, "killed by SIGSEGV")]
)
def test_a_trial_that_kills_its_process_is_tried_twice_alone_and_the_others_are_done(
    prepared: Prepared,
    carried_out: Callable[..., list[Event]],
    tmp_path: Path,
    jobs: int,
    death: Death,
    why: str,
) -> None:
    deadly = prepared.plan.measurings[0].trials[1].record
    events = carried_out({deadly: death}, jobs)
    (failure,) = [event for event in events if isinstance(event, Failure)]
    assert failure.key == deadly
    assert failure.given_up
    assert failure.reason == (
        f"its process died whenever it was tried, 2 times with nothing beside it: {why}"
    )
    made = Counter(event.key for event in events if isinstance(event, Phase | Record))
    everything = {task.key for task in prepared.plan.trainings}
    everything |= {one.record for task in prepared.plan.measurings for one in task.trials}
    assert made == Counter(everything - {deadly})
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    attempts = [process for process, key in lines if key == deadly]
    assert len(attempts) == len(set(attempts)) == 3
    for process in attempts[1:]:  # a process of its own
        assert next(key for one, key in lines if one == process) == deadly


def test_what_rests_on_a_training_that_kills_its_process_is_left_out(
    prepared: Prepared, carried_out: Callable[..., list[Event]]
) -> None:
    deadly = prepared.plan.trainings[0].key
    events = carried_out({deadly: exits}, 2)
    (failure,) = [event for event in events if isinstance(event, Failure)]
    assert (failure.state, failure.given_up) == (deadly, True)
    resting = {p.keyed.record for p in prepared.plan.trials if deadly in p.keyed.phases}
    made = {event.key for event in events if isinstance(event, Record)}
    assert made == {p.keyed.record for p in prepared.plan.trials} - resting


def test_a_process_that_was_killed_from_outside_costs_nothing(
    prepared: Prepared, carried_out: Callable[..., list[Event]], tmp_path: Path
) -> None:
    once = tmp_path / "once"

    def dies_once() -> None:
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    events = carried_out({prepared.plan.trainings[1].key: dies_once}, 2)
    assert not [event for event in events if isinstance(event, Failure)]
    assert len(events) == len(prepared.plan.trainings) + prepared.plan.trials_left


@pytest.mark.parametrize(
    ("death", "limits", "said"),
    [
        (hangs, Limits(seconds=0.4), "it took longer than 0.4 s (--trial-timeout)"),
        (grows, Limits(memory=150_000_000), "of --trial-memory"),
    ],
)
def test_what_takes_more_than_it_may_is_ended_and_given_up(
    prepared: Prepared,
    carried_out: Callable[..., list[Event]],
    death: Death,
    limits: Limits,
    said: str,
) -> None:
    if limits.memory is not None:
        limits = replace(limits, memory=limits.memory + resident_bytes(os.getpid()))
    deadly = prepared.plan.trainings[0].key
    events = carried_out({deadly: death}, 2, limits)
    (failure,) = [event for event in events if isinstance(event, Failure)]
    assert (failure.key, failure.given_up) == (deadly, True)
    assert said in failure.reason


def test_processes_that_never_start_end_the_run(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(site: Site) -> _Worker:
        del site
        context = get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=exits, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    monkeypatch.setattr(process_pool, "_start", start)
    pool = ProcessPool(prepared.plan, Site(tmp_path, None, 1), 2)
    with pytest.raises(GossamerError, match=r"die as they start \(exit code 3\); what was done"):
        execute(pool, lambda _: None, lambda: False)


def test_what_was_given_up_is_left_out_until_it_is_asked_for(
    study_file: Path, tmp_path: Path
) -> None:
    request = Request(study=str(study_file), folder=tmp_path / "out")
    with Store.create(tmp_path / "out") as store:
        whole = prepare(request, store)
        training = whole.plan.trainings[0]
        store.add_failed(Failed(key=training.key, reason="dense, seed 0: it died"))
        left = with_what_is_done(whole, store)
        assert [one.reason for one in left.given_up] == ["dense, seed 0: it died"]
        resting = {p.keyed.record for p in whole.plan.trials if training.key in p.keyed.phases}
        tried = {one.record for task in left.plan.measurings for one in task.trials}
        assert tried == {p.keyed.record for p in whole.plan.trials} - resting
        assert training.key not in {one.key for one in left.plan.trainings}
        again = prepare(replace(request, retry_failed=True), store)
        assert again.given_up == ()
        assert again.plan == whole.plan
        store.forget_failed()
        assert with_what_is_done(whole, store).plan == whole.plan


def test_a_lock_tells_that_its_process_was_killed(tmp_path: Path) -> None:
    with only_writer(tmp_path) as was_killed:
        assert not was_killed
    child = os.fork()
    if child == 0:
        held = only_writer(tmp_path)
        held.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with only_writer(tmp_path) as was_killed:
        assert was_killed
    with only_writer(tmp_path) as was_killed:
        assert not was_killed


@pytest.mark.parametrize("text", ["", "many", "-1GB", "nan", "2XB"])
def test_a_size_that_is_none_is_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match="expected a size such as 2GB"):
        as_bytes(text)


DEADLY = """
import os
from torch import nn

class Net(nn.Module):
    def __init__(self, dies=False):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.dies, self.calls = dies, 0
    def forward(self, x):
        self.calls += self.training
        if self.dies and self.calls > 25:
            os._exit(3)
        return self.inner(x)
"""
STUDY = """
name = "deadly"
title = "Deadly"
question = "Does it end?"
data = { name = "digits" }
network = { name = "deadly:Net" }
scales = { quick = { seeds = 1 } }
parts = { training = [{ step = "train", epochs = 2, batch = 64 }] }
arms = [
  { name = "dense", label = "Unpruned", role = "baseline", recipe = ["training"] },
  { name = "dying", label = "Dying", recipe = ["training"], network = { name = "deadly:Net", args = { dies = true } } },
]
"""  # noqa: E501 - inline tables have one line


@pytest.mark.slow
def test_a_network_that_ends_its_process_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    (tmp_path / "deadly.toml").write_text(STUDY)

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        line = command(tmp_path / "deadly.toml", tmp_path / "out", "--jobs", "1", *options)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            line, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )

    first = run()
    assert first.returncode == 1
    assert "came to no end (its process died: exit code 3): each is tried apart" in first.stderr
    assert "failed: dying, seed 0, step 1: its process died whenever" in first.stderr
    second = run()
    assert second.returncode == 1
    assert "Left out, as it failed before: dying, seed 0, step 1: its process" in second.stderr
    with Store.open(tmp_path / "out") as store:
        assert len(store.done_records()) == 1

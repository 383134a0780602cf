"""How networks are timed, and what a study keeps of it; no time is asserted."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gossamer.masks import prune
from gossamer.measures.functional.latency import Timing
from gossamer.measures.prediction_time import PREDICTION_TIME
from gossamer.records.environment import describe_environment
from gossamer.records.joint import JointRecord, Timed
from gossamer.records.record import Record
from gossamer.records.speed import Latency
from gossamer.records.store import Store
from gossamer.studies import latencies
from gossamer.studies.joint_measures import joint_tasks
from gossamer.studies.latencies import (
    CHANNELS_LAST,
    COMPRESSED,
    PLAIN,
    latency_measures,
    make_runnable,
    time_networks,
)
from gossamer.studies.preview import preview
from gossamer.studies.run import Prepared, Request, carry_out, prepare
from gossamer.studies.tasks import Event, Failure

WriteStudy = Callable[..., Path]
TIMED = (
    'question = "Does it run?"',
    'question = "Does it run?"\nlatency = { arms = ["weight"], batch = 4 }',
)
LEVELS = [("dense", 0.0), ("weight", 0.5), ("weight", 0.9)]
FASTEST_LAST = {"own compressed": 1.0, "own PyTorch": 4.0, "unpruned compressed": 2.5}


def seconds(median: float) -> Latency:
    return Latency(median=median, low=median, high=median, fastest=median, repeats=5)


def timed(own: Mapping[str, float], unpruned: Mapping[str, float]) -> Timed:
    return Timed(
        batch=4,
        threads=1,
        instruction_set="avx2",
        chosen="engine",
        own={way: seconds(value) for way, value in own.items()},
        unpruned={way: seconds(value) for way, value in unpruned.items()},
    )


# Numbers


def test_the_unpruned_network_counts_in_its_fastest_way() -> None:
    own = {PLAIN: 8.0, CHANNELS_LAST: 6.0, COMPRESSED: 1.0}
    in_engine = latency_measures(timed(own, {PLAIN: 7.0, CHANNELS_LAST: 5.0, COMPRESSED: 4.0}))
    assert in_engine == {
        "latency": 1.0,
        "latency_masked": 6.0,
        "latency_dense": 4.0,
        "latency_ratio": 1 / 4,
        "latency_ratio_masked": 6 / 5,
    }
    in_pytorch = latency_measures(timed(own, {PLAIN: 2.0, CHANNELS_LAST: 5.0, COMPRESSED: 4.0}))
    assert in_pytorch["latency_ratio"] == 1 / 2
    assert in_pytorch["latency_ratio_masked"] == 6 / 2


def test_a_pruned_network_counts_as_compressed_even_if_that_is_slower() -> None:
    found = latency_measures(timed({PLAIN: 1.0, COMPRESSED: 3.0}, {PLAIN: 2.0, COMPRESSED: 2.0}))
    assert (found["latency"], found["latency_ratio"]) == (3.0, 1.5)


@pytest.mark.parametrize("own", [{PLAIN: 2.0, COMPRESSED: 3.0}, {PLAIN: 3.0, COMPRESSED: 2.0}])
def test_an_unpruned_network_is_as_fast_as_itself(own: dict[str, float]) -> None:
    found = latency_measures(timed(own, {}))
    assert found["latency_ratio"] == found["latency_ratio_masked"] == 1.0
    assert found["latency"] == found["latency_dense"] == 2.0
    assert found["latency_masked"] == own[PLAIN]
    assert set(found) == {one.name for one in PREDICTION_TIME.measures}


# Timing


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let calls take the times of `FASTEST_LAST`, and tell which were timed in turn."""
    turns: list[list[str]] = []

    def fake(calls: Any, budget: float, threads: int) -> dict[str, Timing]:
        assert budget > 0
        assert threads == 1
        for call in calls.values():
            call()
        turns.append(list(calls))
        return {name: Timing((FASTEST_LAST.get(name, 5.0),) * 3) for name in calls}

    monkeypatch.setattr(latencies, "time_candidates", fake)
    monkeypatch.setattr(latencies, "_CHOOSING_SECONDS", 0.001)
    return turns


class Uncompressed:
    """What takes the place of a compressed network where compressing is not the matter."""

    choice, threads = "dense", 1

    def __init__(self, made: nn.Module, *_: object, **__: object) -> None:
        self.made = made

    def __call__(self, inputs: torch.Tensor) -> Any:
        return self.made(inputs)


@pytest.fixture
def quick(clocked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Compress nothing and time nothing."""
    monkeypatch.setattr(latencies, "compress", Uncompressed)
    return clocked


def network(*, convolutions: bool = False) -> nn.Module:
    first = (
        [nn.Conv2d(1, 4, 3), nn.Flatten()] if convolutions else [nn.Flatten(), nn.Linear(36, 64)]
    )
    return nn.Sequential(*first, nn.ReLU(), nn.Linear(64, 3)).eval()


@pytest.mark.parametrize("convolutions", [False, True])
def test_everything_is_timed_in_one_turn(clocked: list[list[str]], convolutions: bool) -> None:
    dense, pruned = network(convolutions=convolutions), network(convolutions=convolutions)
    prune(pruned, 0.9)
    inputs = torch.rand(4, 1, 6, 6)
    own, unpruned = (make_runnable(one, inputs, threads=1) for one in (pruned, dense))
    found = time_networks(own, unpruned, inputs)
    ways = [PLAIN, COMPRESSED, *([CHANNELS_LAST] if convolutions else [])]
    assert clocked == [[f"{whose} {way}" for whose in ("own", "unpruned") for way in ways]]
    assert list(found.own) == list(found.unpruned) == ways
    assert (found.batch, found.threads) == (4, 1)
    assert found.own[COMPRESSED].median == 1.0
    assert found.unpruned[COMPRESSED].median == 2.5
    assert latency_measures(found)["latency_ratio"] == 1.0 / 2.5
    for runnable in (own, unpruned):
        expected, *others = (call() for call in runnable.calls(inputs).values())
        for other in others:
            torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-5)


def test_an_unpruned_network_is_timed_alone(clocked: list[list[str]]) -> None:
    inputs = torch.rand(4, 1, 6, 6)
    found = time_networks(make_runnable(network(), inputs, threads=1), None, inputs)
    assert clocked == [["own PyTorch", "own compressed"]]
    assert found.unpruned == {}
    assert found.own[PLAIN].repeats == 3


# Planning


def planned(study: Path, seeds: int | None = None) -> Prepared:
    return prepare(Request(study=str(study), folder=study.parent, seeds=seeds), None)


def test_seed_after_seed_the_unpruned_network_first(write_study: WriteStudy) -> None:
    prepared = planned(write_study(TIMED))
    assert [(task.arm, task.level) for task in prepared.joints] == LEVELS * 2
    assert {task.kind for task in prepared.joints} == {"latency"}
    seeds = [[t.trial.seed for t in (*task.trials, *task.others)] for task in prepared.joints]
    assert seeds == [[0], [0, 0], [0, 0], [1], [1, 1], [1, 1]]
    for task in prepared.joints:
        dense = prepared.joints[3 * task.trials[0].trial.seed].trials
        assert task.others == (() if task.arm == "dense" else dense)
    assert not any(task.needs_statistics for task in prepared.joints)
    assert preview(prepared, set()).joints_left == 6


def test_timing_changes_no_key_of_a_trial(write_study: WriteStudy) -> None:
    def records(study: Path) -> list[str]:
        return [trial.keyed.record for trial in planned(study).plan.trials]

    plain = records(write_study())
    assert records(write_study(TIMED)) == plain


def test_only_the_levels_that_are_named_are_timed(write_study: WriteStudy) -> None:
    study = write_study((TIMED[0], TIMED[1].replace("batch", "levels = [0.9], batch")))
    assert [(task.arm, task.level) for task in planned(study, seeds=1).joints] == LEVELS[::2]


def test_more_seeds_time_only_the_new_networks(write_study: WriteStudy) -> None:
    study = write_study(TIMED)
    two, three = planned(study), planned(study, seeds=3)
    assert [task.key for task in three.joints[:6]] == [task.key for task in two.joints]
    assert len(three.joints) == 9


@pytest.mark.parametrize("change", ["batch = 8", "threads = 2, batch = 4"])
def test_another_batch_or_number_of_threads_is_another_measure(
    write_study: WriteStudy, change: str
) -> None:
    first = {task.key for task in planned(write_study(TIMED)).joints}
    other = planned(write_study((TIMED[0], TIMED[1].replace("batch = 4", change)))).joints
    assert len(first) == len(other) == 6
    assert not first & {task.key for task in other}


def test_another_processor_is_another_measure(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = planned(write_study(TIMED))
    here = describe_environment(1, "cpu")
    elsewhere = here.model_copy(update={"processor": "Another One"})
    monkeypatch.setattr(
        "gossamer.studies.joint_measures.describe_environment", lambda *_: elsewhere
    )
    there = joint_tasks(prepared.spec, prepared.plan.trials)
    assert not {task.key for task in there} & {task.key for task in prepared.joints}


# Doing


def run(study: Path, folder: Path, stop: Callable[[list[Event]], bool] | None = None) -> Any:
    """Run a study in this process, until it stops, and return what came about."""
    events: list[Event] = []
    with Store.create(folder) as store:
        prepared = prepare(Request(study=str(study), folder=folder, jobs=1), store)
        carry_out(prepared, store, events.append, lambda: stop is not None and stop(events))
    assert not [event for event in events if isinstance(event, Failure)]
    return events


def joints_of(events: list[Event]) -> list[JointRecord]:
    return [event for event in events if isinstance(event, JointRecord)]


def test_networks_are_timed_after_everything_else_and_once(
    write_study: WriteStudy, tmp_path: Path, quick: list[list[str]]
) -> None:
    study, out = write_study(TIMED), tmp_path / "out"
    events = run(study, out)
    found = joints_of(events)
    assert len(found) == 6
    assert events[-6:] == found
    for joint, (arm, _) in zip(found, LEVELS * 2, strict=True):
        assert joint.kind == "latency"
        assert len(joint.others) == (0 if arm == "dense" else 1)
        assert set(joint.measures) == set(joint.records)
        measures = joint.measures[joint.records[0]]
        assert measures["latency_ratio"] == (1.0 if arm == "dense" else 1.0 / 2.5)
        assert measures["latency_masked"] == 4.0
        assert joint.timed is not None
        assert joint.timed.batch == 4
        assert JointRecord.model_validate_json(joint.model_dump_json()) == joint
    assert len(quick) == 6
    assert run(study, out) == []


def test_the_networks_are_those_of_the_trials(
    write_study: WriteStudy, tmp_path: Path, quick: list[list[str]], monkeypatch: Any
) -> None:
    seen: list[nn.Module] = []
    make = latencies.make_runnable

    def noting(made: nn.Module, inputs: torch.Tensor, *, threads: int) -> Any:
        seen.append(made)
        assert inputs.shape == (4, 1, 8, 8)
        assert not made.training
        return make(made, inputs, threads=threads)

    monkeypatch.setattr(latencies, "make_runnable", noting)
    run(write_study(TIMED), tmp_path / "out")
    zeros = [
        sum(int((p == 0).sum()) for n, p in one.named_parameters() if n.endswith("weight"))
        / sum(p.numel() for n, p in one.named_parameters() if n.endswith("weight"))
        for one in seen
    ]
    # Of each seed the unpruned one by itself, then once more beside those that are pruned.
    assert zeros == pytest.approx([0, 0, 0.5, 0.9] * 2, abs=1e-3)
    assert len(quick) == 6


@pytest.mark.parametrize("after", [1, 4])
def test_ctrl_c_between_timings_keeps_what_is_done(
    write_study: WriteStudy, tmp_path: Path, quick: list[list[str]], after: int
) -> None:
    study, out = write_study(TIMED), tmp_path / "out"
    first = run(study, out, lambda events: len(joints_of(events)) >= after)
    assert len(joints_of(first)) == after
    rest = run(study, out)
    assert len(rest) == len(joints_of(rest)) == 6 - after
    keys = [joint.key for joint in joints_of(first + rest)]
    assert len(set(keys)) == 6
    assert len(quick) == 6


def test_a_finished_store_is_timed_without_any_training(
    write_study: WriteStudy, tmp_path: Path, quick: list[list[str]]
) -> None:
    out = tmp_path / "out"
    before = run(write_study(), out)
    assert not joints_of(before)
    events = run(write_study(TIMED), out)
    assert len(events) == len(joints_of(events)) == len(quick) == 6


def test_networks_that_are_not_measured_are_not_timed(
    write_study: WriteStudy, tmp_path: Path, quick: list[list[str]]
) -> None:
    study, out = write_study(TIMED), tmp_path / "out"
    done = [event for event in run(study, out) if isinstance(event, Record)]
    dense = planned(study).joints[0].trials[0].record
    assert dense in {record.key for record in done}
    with closing(sqlite3.connect(out / "store.sqlite")) as connection, connection:
        connection.execute("DELETE FROM joints")
        connection.execute("DELETE FROM records WHERE key = ?", (dense,))
    connection.close()
    quick.clear()
    with Store.create(out) as store:
        prepared = prepare(Request(study=str(study), folder=out, jobs=1), store)
        events: list[Event] = []
        carry_out(prepared, store, events.append, lambda: bool(events))
    assert [type(event) for event in events] == [Record]
    assert quick == []
    assert len(joints_of(run(study, out))) == 6


@pytest.mark.slow
def test_with_the_real_clock_the_numbers_go_together(
    write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latencies, "_CHOOSING_SECONDS", 0.005)
    monkeypatch.setattr(latencies, "_SECONDS", 0.005)
    events = run(write_study(TIMED, ("seeds = 2", "seeds = 1")), tmp_path / "out")
    dense, *pruned = joints_of(events)
    assert len(pruned) == 2
    assert dense.measures[dense.records[0]]["latency_ratio"] == 1.0
    for joint in pruned:
        assert joint.timed is not None
        measures = joint.measures[joint.records[0]]
        assert measures == latency_measures(joint.timed)
        assert measures["latency"] == joint.timed.own[COMPRESSED].median > 0
        assert joint.timed.chosen in ("engine", "dense", "compact")
        assert joint.others == dense.records

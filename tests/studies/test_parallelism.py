"""Processes and threads: what the user says, what is noted, and what is clearly faster."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.core.errors import InputError
from gossamer.records.store import Store
from gossamer.studies.autotuning import autotuned
from gossamer.studies.parallelism import Parallelism, read_note, write_note
from gossamer.studies.profiling import Cost, TrainingProfiler, Turns, kinds, training_step
from gossamer.studies.remarks import remarks
from gossamer.studies.run import Prepared, Request, carry_out, prepare
from running_studies import numbers, run_all

WriteStudy = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def planned(study: Path, folder: Path, store: Store | None = None, **said: int) -> Prepared:
    request = Request(
        study=str(study), folder=folder, jobs=said.get("jobs"), threads=said.get("threads")
    )
    return prepare(request, store)


def known(study: Path, folder: Path, **said: int) -> Parallelism:
    with Store.create(folder) as store:
        return planned(study, folder, store, **said).known


def test_what_is_said_comes_before_the_environment_and_that_before_a_note(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert known(study_file, out) == Parallelism(None, None)
    write_note(out, "small, quick", jobs=2, threads=3)
    assert known(study_file, out) == Parallelism(2, 3)
    assert known(study_file, out, jobs=1) == Parallelism(1, 3)
    monkeypatch.setenv("MKL_NUM_THREADS", "4")
    assert known(study_file, out) == Parallelism(2, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert known(study_file, out) == Parallelism(2, 2)
    assert known(study_file, out, threads=5) == Parallelism(2, 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert known(study_file, out) == Parallelism(2, 4)


def test_a_note_is_of_one_study_at_one_scale_on_one_processor(tmp_path: Path) -> None:
    write_note(tmp_path, "a, quick", jobs=2, threads=3)
    write_note(tmp_path, "b, quick", jobs=1, threads=1)
    assert read_note(tmp_path, "a, quick") == Parallelism(2, 3)
    assert read_note(tmp_path, "b, quick") == Parallelism(1, 1)
    assert read_note(tmp_path, "a, paper") is None
    text = (tmp_path / "threads.json").read_text()
    (tmp_path / "threads.json").write_text(text.replace('"processor": "', '"processor": "other '))
    assert read_note(tmp_path, "a, quick") is None
    (tmp_path / "threads.json").write_text("[3")
    assert read_note(tmp_path, "a, quick") is None


def test_a_run_goes_on_with_the_threads_it_began_with(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Store.create(out) as store:
        carry_out(planned(study_file, out, store, jobs=1, threads=3), store, print, lambda: True)
    assert known(study_file, out) == Parallelism(1, 3)


def test_a_folder_from_before_there_were_notes_goes_on_as_it_did(
    write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.studies.parallelism.permitted_cores", lambda: 6)
    for batch, threads in (("batch = 64", 1), ("batch = 256", 6)):
        out = tmp_path / f"out-{threads}"
        study = write_study(("epochs = 1, batch = 64", f"epochs = 1, {batch}"))
        run_all(study, out, stop_after=1)
        (out / "threads.json").unlink()
        assert known(study, out) == Parallelism(1, threads)
        assert known(study, out, jobs=2) == Parallelism(2, max(1, threads // 2))
        assert known(study, out, threads=4) == Parallelism(1, 4)


def test_a_note_beside_those_of_others_says_nothing_of_a_new_study(
    study_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_all(study_file, out, stop_after=1)
    text = (out / "threads.json").read_text()
    (out / "threads.json").write_text(text.replace("small, quick", "other, quick"))
    assert known(study_file, out) == Parallelism(None, None)


def trying(study: Path, folder: Path) -> TrainingProfiler:
    plan = planned(study, folder).plan
    (kind,) = kinds(plan)[:1]
    keyed = kind.first.keyed
    data = planned(study, folder).datasets(keyed.trial.data)
    return TrainingProfiler(keyed, training_step(kind.first), data)


def test_trying_leaves_everything_as_it_was(study_file: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    threads, files = torch.get_num_threads(), sorted(tmp_path.rglob("*"))
    one = trying(study_file, tmp_path)
    turns = one.train([1, 2])
    assert set(turns) == {1, 2}
    assert all(1 <= len(found.seconds) <= 4 and found.best > 0 for found in turns.values())
    assert 0 < turns[1].share <= 1
    assert one.measure(1).example > 0
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state(legacy=False)) == str(before[1])  # noqa: NPY002
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == threads
    assert sorted(tmp_path.rglob("*")) == files


def test_a_state_is_as_large_as_is_told_before(study_file: Path, tmp_path: Path) -> None:
    run_all(study_file, tmp_path / "out", stop_after=1)
    (state,) = (tmp_path / "out" / "states").glob("*.safetensors")
    told = trying(study_file, tmp_path).state_bytes
    assert told < state.stat().st_size < told + 5000  # names and shapes stand before the numbers


def test_a_study_that_was_tried_gives_the_same_bits(study_file: Path, tmp_path: Path) -> None:
    run_all(study_file, tmp_path / "plain")
    out = tmp_path / "tried"
    with Store.create(out) as store:
        prepared = autotuned(planned(study_file, out, store), time.monotonic())
        assert (prepared.jobs, prepared.threads) == (1, 1)
        carry_out(prepared, store, list[object]().append, lambda: False)
    assert numbers(out) == numbers(tmp_path / "plain")


def told(study: Path, folder: Path, **said: int) -> list[str]:
    prepared = autotuned(planned(study, folder, None, **said), time.monotonic())
    return [text for text in remarks(prepared) if "chance" not in text and "Guessing" not in text]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("parallelism", "remarks", "autotuning"):
        monkeypatch.setattr(f"gossamer.studies.{module}.available_cores", lambda: 2)
    monkeypatch.setattr(TrainingProfiler, "measure", lambda *_: Cost(0.0, 0.0))
    monkeypatch.setattr("gossamer.studies.autotuning.cores_had", lambda jobs: float(min(jobs, 2)))


@pytest.mark.usefixtures("two_cores")
def test_more_than_the_cores_is_told(
    monkeypatch: pytest.MonkeyPatch, study_file: Path, tmp_path: Path
) -> None:
    def train(trying: TrainingProfiler, threads: list[int]) -> dict[int, Turns]:
        del trying
        return {n: Turns((1.0 if n < 4 else 5.0,)) for n in threads}

    monkeypatch.setattr(TrainingProfiler, "train", train)
    assert told(study_file, tmp_path) == []
    assert told(study_file, tmp_path, threads=2) == []
    assert told(study_file, tmp_path, threads=3, jobs=1) == [
        "--jobs 1 and --threads 3: with 2 cores here, 1 process of 3 threads wait for one another; "
        "fewer are likely faster."
    ]
    assert told(study_file, tmp_path, threads=8) == [
        "--threads 8: with 2 cores here, 1 process of 8 threads wait for one another; fewer are "
        "likely faster.",
        "--threads 8: beside what else this machine does, one thread is 5 times as fast as 8: "
        "--threads 1 is better now.",
    ]
    (jobs,) = told(study_file, tmp_path, jobs=3)
    assert jobs.startswith("--jobs 3: with 2 cores here, 3 processes of 1 thread wait")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (environment,) = told(study_file, tmp_path)
    assert environment.startswith("3 threads of the environment: with 2 cores here, 1 process of 3")


@pytest.mark.usefixtures("two_cores")
def test_so_many_that_nothing_can_be_meant_are_refused(
    monkeypatch: pytest.MonkeyPatch, study_file: Path, tmp_path: Path
) -> None:
    for said in ({"threads": 129}, {"jobs": 129}):
        with pytest.raises(InputError, match=r"--(jobs|threads) 129: 2 cores can do nothing with"):
            planned(study_file, tmp_path, None, **said)
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    with pytest.raises(InputError, match="100000 threads of the environment: 2 cores"):
        planned(study_file, tmp_path)


@pytest.mark.parametrize("setting", ["banana", "0", "-2", "2.5", "two,1"])
def test_a_setting_that_is_no_number_of_threads_is_told(
    monkeypatch: pytest.MonkeyPatch, study_file: Path, tmp_path: Path, setting: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    said = f"OMP_NUM_THREADS={setting} is passed over, as it is no number of threads: expected 1 "
    assert told(study_file, tmp_path) == [f"{said}or more."]
    assert told(study_file, tmp_path, threads=1) == []


Times = dict[int, float]


def choose(
    monkeypatch: pytest.MonkeyPatch,
    prepared: Prepared,
    times: Times,
    cores: int = 4,
    share: float = 1.0,
    had: float | None = None,
) -> tuple[int, int, float]:
    """Settle a study whose steps take so long by threads, on a machine that is so busy."""

    def train(trying: TrainingProfiler, threads: list[int], turns: int = 3) -> dict[int, Turns]:
        del trying, turns
        return {n: Turns((times[n], 1.05 * times[n], 1.1 * times[n]), share) for n in threads}

    monkeypatch.setattr(TrainingProfiler, "train", train)
    monkeypatch.setattr(TrainingProfiler, "measure", lambda *_: Cost(0.0, 0.0))
    monkeypatch.setattr("gossamer.studies.autotuning.available_cores", lambda: cores)
    monkeypatch.setattr(
        "gossamer.studies.autotuning.cores_had", lambda jobs: jobs * share if had is None else had
    )
    found = autotuned(prepared, time.monotonic())
    assert found.estimate is not None
    assert found.estimate.seconds is not None
    return found.jobs, found.threads, found.estimate.seconds


@pytest.fixture
def one_seed(write_study: WriteStudy, tmp_path: Path) -> Prepared:
    """Return a study of one seed, of which no two trainings can be done at once at first."""
    return planned(write_study(("seeds = 2", "seeds = 1")), tmp_path)


def test_more_threads_are_chosen_only_where_they_are_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, one_seed: Prepared
) -> None:
    slower = {1: 1.0, 2: 3.0, 4: 9.0}
    assert choose(monkeypatch, one_seed, slower, had=1.0)[:2] == (1, 1)
    little = {1: 1.0, 2: 0.9, 4: 0.95}
    assert choose(monkeypatch, one_seed, little, had=1.0)[:2] == (1, 1)
    much = {1: 1.0, 2: 0.55, 4: 0.5}
    assert choose(monkeypatch, one_seed, much, had=1.0)[:2] == (1, 2)
    most = {1: 1.0, 2: 0.55, 4: 0.3}
    assert choose(monkeypatch, one_seed, most, had=1.0)[:2] == (1, 4)


def test_processes_are_chosen_only_where_they_get_cores(
    monkeypatch: pytest.MonkeyPatch, study_file: Path, tmp_path: Path
) -> None:
    prepared = planned(study_file, tmp_path)
    slower = {1: 1.0, 2: 3.0, 4: 9.0}
    assert choose(monkeypatch, prepared, slower)[:2] == (2, 1)
    assert choose(monkeypatch, prepared, slower, share=0.6, had=0.6)[:2] == (1, 1)
    assert choose(monkeypatch, prepared, slower, share=0.5, had=1.0)[:2] == (2, 1)
    assert choose(monkeypatch, prepared, {1: 1.0, 2: 0.6, 4: 0.5})[:2] == (2, 2)
    assert choose(monkeypatch, prepared, {1: 0.01, 2: 0.001, 4: 0.001})[:2] == (1, 1)  # 2 s


def test_what_is_said_is_not_chosen_otherwise(
    monkeypatch: pytest.MonkeyPatch, study_file: Path, tmp_path: Path
) -> None:
    times = {1: 1.0, 2: 0.5, 3: 0.4, 4: 0.3}
    assert choose(monkeypatch, planned(study_file, tmp_path, jobs=1), times)[:2] == (1, 4)
    assert choose(monkeypatch, planned(study_file, tmp_path, jobs=2), times)[:2] == (2, 2)
    assert choose(monkeypatch, planned(study_file, tmp_path, jobs=8), times)[:2] == (8, 1)
    assert choose(monkeypatch, planned(study_file, tmp_path, threads=3), times)[:2] == (1, 3)
    said = planned(study_file, tmp_path, jobs=3, threads=3)
    assert choose(monkeypatch, said, times)[:2] == (3, 3)


def test_the_estimate_is_steps_times_seconds(
    monkeypatch: pytest.MonkeyPatch, one_seed: Prepared
) -> None:
    tasks = len(one_seed.plan.trainings) + one_seed.plan.trials_left
    slow = choose(monkeypatch, one_seed, {1: 1.0, 2: 3.0, 4: 9.0}, had=1.0)
    work = 1.05 * one_seed.plan.steps_left + 0.005 * tasks
    assert slow[2] == pytest.approx(work + 4.0, abs=0.5)  # with its report
    fast = choose(monkeypatch, one_seed, {1: 1.0, 2: 0.5, 4: 0.5}, had=1.0)
    assert fast[2] == pytest.approx(work / 2 + 4.0, abs=0.5)
    busy = choose(monkeypatch, one_seed, {1: 1.0, 2: 3.0, 4: 9.0}, share=0.5, had=0.5)
    assert busy[2] == pytest.approx(work + 8.0, abs=0.5)


def test_what_has_passed_since_the_command_began_counts(
    monkeypatch: pytest.MonkeyPatch, one_seed: Prepared
) -> None:
    monkeypatch.setattr(TrainingProfiler, "train", lambda *_: {1: Turns((0.001,))})
    monkeypatch.setattr(TrainingProfiler, "measure", lambda *_: Cost(0.0, 0.0))
    soon, late = (autotuned(one_seed, time.monotonic() - passed) for passed in (0, 30))
    assert soon.estimate is not None
    assert late.estimate is not None
    assert late.estimate.seconds == pytest.approx((soon.estimate.seconds or 0) + 30, abs=0.5)


def test_a_turn_that_other_work_disturbed_does_not_count(
    monkeypatch: pytest.MonkeyPatch, one_seed: Prepared
) -> None:
    disturbed = Turns((0.01, 0.01, 0.9, 0.01))
    assert disturbed.typical == 0.01
    monkeypatch.setattr(TrainingProfiler, "train", lambda *_: {1: disturbed})
    monkeypatch.setattr(TrainingProfiler, "measure", lambda *_: Cost(0.0, 0.0))
    found = autotuned(one_seed, time.monotonic()).estimate
    assert found is not None
    assert found.seconds == pytest.approx(0.01 * one_seed.plan.steps_left + 4.0, abs=0.5)


def test_threads_that_are_slow_now_and_then_are_not_chosen() -> None:
    one = Turns((1.0, 1.1, 1.05, 1.2))
    assert Turns((0.5, 0.6, 0.55, 0.7)).is_clearly_faster_than(one, 1.15)
    assert not Turns((0.5, 0.6, 0.55, 1.3)).is_clearly_faster_than(one, 1.15)
    assert not Turns((0.5, 0.99, 0.98, 1.0)).is_clearly_faster_than(one, 1.15)

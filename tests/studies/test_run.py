"""Running studies: nothing twice, nothing lost, the same numbers however it was done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gossamer.recipes import keyed
from gossamer.records.record import Phase, Record
from gossamer.records.store import Store, only_writer
from gossamer.studies.plan import Measuring
from gossamer.studies.run import Request, carry_out, describe_run, prepare
from gossamer.studies.tasks import Event, Failure, Pulse, Site, TaskRunner
from gossamer.training.loop import Job
from running_studies import command, numbers, run_all, wait_for

WriteStudy = Callable[..., Path]
LONGER = ("epochs = 2", "epochs = 10")


def test_a_study_runs_once_and_then_has_nothing_left(study_file: Path, tmp_path: Path) -> None:
    first = run_all(study_file, tmp_path / "out")
    assert sum(isinstance(event, Record) for event in first) == 2 * (1 + 3 * 2)
    assert sum(isinstance(event, Phase) for event in first) == 2 * (1 + 2 + 2)
    assert not [event for event in first if isinstance(event, Failure)]
    assert run_all(study_file, tmp_path / "out") == []


def test_steps_done_are_the_steps_that_sharing_promises(study_file: Path, tmp_path: Path) -> None:
    run_all(study_file, tmp_path / "out")
    with Store.open(tmp_path / "out") as store:
        prepared = prepare(Request(study=str(study_file), folder=tmp_path), None)
        study = store.latest_study()
        phases = store.phases({key for trial in study.trials for key in trial.phases})
    assert sum(phase.optimizer_steps for phase in phases.values()) == prepared.plan.steps_shared
    assert sum(trial.optimizer_steps for trial in study.trials) == prepared.plan.steps_alone
    assert prepared.plan.steps_alone > 2 * prepared.plan.steps_shared


@pytest.mark.parametrize("stop_after", [1, 3, 9])
def test_a_stopped_run_goes_on_to_the_same_numbers(
    study_file: Path, tmp_path: Path, stop_after: int
) -> None:
    run_all(study_file, tmp_path / "whole")
    stopped = run_all(study_file, tmp_path / "stopped", stop_after=stop_after)
    made = sum(isinstance(event, Phase | Record) for event in stopped)
    assert made == stop_after
    rest = run_all(study_file, tmp_path / "stopped")
    assert made + sum(isinstance(event, Phase | Record) for event in rest) == 2 * (7 + 5)
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")


def test_every_pruned_trial_has_the_sparsity_it_asks_for(study_file: Path, tmp_path: Path) -> None:
    run_all(study_file, tmp_path / "out")
    with Store.open(tmp_path / "out") as store:
        study = store.latest_study()
        records = store.records([trial.key for trial in study.trials])
    for trial in study.trials:
        measures = records[trial.key].measures
        assert measures["sparsity_requested"] == trial.level
        tolerance = 0.07 if trial.arm == "rewound" else 1e-3  # units of 8 are coarse
        assert measures["sparsity"] == pytest.approx(trial.level, abs=tolerance)
        assert measures["effective_sparsity"] >= measures["sparsity"] - 1e-12


def test_a_diverging_arm_fails_alone_and_says_why(write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study(("rate = 0.1, momentum", "rate = 1e30, momentum"))
    events = run_all(study, tmp_path / "out")
    failures = [event for event in events if isinstance(event, Failure)]
    assert failures  # where every unit dies at once the loss stays a number
    assert all("no longer a number" in failure.reason for failure in failures)
    assert sum(isinstance(event, Record) for event in events) == 2 * 7 - len(failures)


def test_a_training_of_which_nothing_is_known_any_more_is_done_again(
    study_file: Path, tmp_path: Path
) -> None:
    run_all(study_file, tmp_path / "out")
    whole = numbers(tmp_path / "out")
    with Store.create(tmp_path / "out") as store:
        first = store.latest_study().trials[0].phases[0]
        store._database.write("UPDATE phases SET json = 'x' || json WHERE key = ?", (first,))
    events = run_all(study_file, tmp_path / "out")
    assert [event.key for event in events if isinstance(event, Phase | Record)] == [first]
    assert numbers(tmp_path / "out") == whole


def test_one_trial_that_fails_does_not_cost_the_others_of_its_task(
    study_file: Path, tmp_path: Path
) -> None:
    prepared = prepare(Request(study=str(study_file), folder=tmp_path), None)
    (tmp_path / "states").mkdir()
    trained = prepared.plan.trials[0].keyed
    untrained = keyed(replace(trained.trial, steps=()), prepared.datasets(trained.trial.data))
    hand = TaskRunner(Site(tmp_path, None, threads=1), lambda _: False)
    failed, record = hand.do(Measuring((trained, untrained), frozenset()))
    assert isinstance(failed, Failure)
    assert "cannot be read" in failed.reason
    assert isinstance(record, Record)
    assert record.key == untrained.record


def records_in(folder: Path) -> int:
    if not Store.is_there(folder):
        return 0
    with Store.open(folder) as store:
        try:
            return len(store.done_records())
        except Exception:  # noqa: BLE001 - the tables are only just being made
            return 0


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_killed_with_9_in_the_middle_and_run_again_gives_the_same_bits(
    write_study: WriteStudy, tmp_path: Path, jobs: str
) -> None:
    study = write_study(LONGER)
    run_all(study, tmp_path / "whole")
    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(study, out, "--jobs", jobs, "--threads", "1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: records_in(out) >= 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = records_in(out)
    assert 1 <= done < 14
    wait_for(lambda: not only_writer_is_held(out))
    run_all(study, out)
    assert numbers(out) == numbers(tmp_path / "whole")
    run_all(study, out)  # sweeps what workers that outlived the killed run may still have left
    leftovers = [path.name for path in (out / "states").iterdir() if path.suffix != ".safetensors"]
    assert leftovers == []


def test_a_checkpoint_of_a_finished_training_is_swept(study_file: Path, tmp_path: Path) -> None:
    run_all(study_file, tmp_path / "out")
    states = tmp_path / "out" / "states"
    done = next(states.glob("*.safetensors"))
    done.with_suffix(".checkpoint").write_bytes(b"left by a worker that came late")
    (states / ("0" * 64 + ".checkpoint")).write_bytes(b"of a training that is not finished")
    run_all(study_file, tmp_path / "out")
    assert [path.stem for path in states.glob("*.checkpoint")] == ["0" * 64]


def only_writer_is_held(folder: Path) -> bool:
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'a')\n"
        "try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(1)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(folder / "lock")], check=False)
    return run.returncode != 0


def test_a_training_that_was_stopped_halfway_goes_on_from_its_checkpoint(
    write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.recipes.resumable_training.Job", partial(Job, pulse_seconds=0))
    study = write_study(("seeds = 2", "seeds = 1"))
    out, pulses = tmp_path / "out", list[Pulse]()
    with Store.create(out) as store:
        prepared = prepare(Request(study=str(study), folder=out), store)

        def watch(event: Event) -> None:
            if isinstance(event, Pulse):
                pulses.append(event)

        carry_out(prepared, store, watch, lambda: len(pulses) == 20)
    assert 0 < pulses[0].steps < pulses[0].total
    (checkpoint,) = (out / "states").iterdir()
    assert checkpoint.suffix == ".checkpoint"
    assert pulses[-1].epoch == 1  # 18 batches an epoch
    rest = run_all(study, out)
    resumed = [event for event in rest if isinstance(event, Pulse)]
    assert resumed[0].steps == pulses[-1].steps + 1
    assert not checkpoint.exists()
    run_all(study, tmp_path / "whole")
    assert numbers(out) == numbers(tmp_path / "whole")


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_ctrl_c_stops_with_a_sentence_and_loses_nothing(
    write_study: WriteStudy, tmp_path: Path, jobs: str
) -> None:
    study = write_study(("epochs = 2", "epochs = 100000"))
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(study, out, "--jobs", jobs),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: (out / "threads.json").exists())
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped; nothing is lost: 0 of 10 trainings and 0 of 14 trials are done" in stderr
    assert stdout == ""
    assert not (out / "report.html").exists()
    assert not only_writer_is_held(out)


def test_a_second_run_in_the_same_folder_is_refused(
    write_study: WriteStudy, tmp_path: Path
) -> None:
    study, out = write_study(), tmp_path / "out"
    out.mkdir()
    with only_writer(out):
        second = subprocess.run(command(study, out), check=False, capture_output=True, text=True)
    assert second.returncode == 2
    assert "another gossamer run is at work" in second.stderr


def test_the_record_says_what_determines_its_bits(study_file: Path, tmp_path: Path) -> None:
    run_all(study_file, tmp_path / "out", stop_after=6)
    with Store.open(tmp_path / "out") as store:
        (record, *_) = store.records(list(store.done_records())).values()
    environment = record.environment
    assert environment.torch
    assert environment.threads >= 1
    assert environment.processor
    assert environment.device == "cpu"
    assert record.identity["origin"]["precision"] == "float32"
    assert len(record.identity["origin"]["dataset"]) == 64
    json.dumps(record.model_dump(mode="json"), allow_nan=False)


def test_the_report_says_how_much_of_the_data_there_is_to_train_on(
    write_study: WriteStudy, tmp_path: Path
) -> None:
    def data_shown(**changes: tuple[str, str]) -> str:
        study = write_study(*changes.values())
        return describe_run(prepare(Request(study=str(study), folder=tmp_path), None)).dataset

    whole = "1,438 training and 359 test examples, 10 classes"
    assert data_shown() == f"digits: {whole}"
    fewer = ("values = { epochs = 2 }", "values = { epochs = 2 }\ndata = { examples = 1000 }")
    assert data_shown(fewer=fewer) == f"digits: 1,000 of {whole}"

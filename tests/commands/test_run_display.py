"""What a run shows while it goes on."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from gossamer.commands import run_display
from gossamer.core.formats import duration
from gossamer.recipes import KeyedTrial
from gossamer.studies.run import Request, prepare
from gossamer.studies.tasks import Failure, Pulse

STUDY = """
name = "small"
title = "Small"
question = "Does it run?"
data = { name = "digits" }
network = { name = "mlp", hidden = [4] }
scales = { quick = { seeds = 2 } }
arms = [{ name = "dense", label = "Unpruned", recipe = ["training"] }]
parts = { training = [{ step = "train", epochs = 10, batch = 128 }] }
"""


def test_lines_say_what_is_done_failed_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.toml").write_text(STUDY)
    prepared = prepare(Request(str(tmp_path / "small.toml"), tmp_path / "out", jobs=1), None)
    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    said = io.StringIO()
    trial: KeyedTrial = prepared.plan.trials[0].keyed
    steps = prepared.plan.steps_left // 2
    with run_display.Display(prepared, Console(file=said, width=200)) as shown:
        shown.follow(Pulse(trial.states[1], 1, steps, epoch=1, loss=0.75))
        shown.follow(Pulse(trial.states[1], steps // 2, steps, epoch=5, loss=0.25))
        shown.follow(Failure(trial, None, "its loss is no number"))
    lines = said.getvalue().splitlines()
    # The time before the first step, in which processes start, says nothing of what is left.
    assert lines[0].endswith("epoch 1, loss 0.750  (1 min 0 s)")
    assert "0 of 2 trainings, 0 of 2 trials, epoch 5, loss 0.250" in lines[1]
    total = 2 * steps + 2 * run_display._TRIAL_STEPS
    left = 60 * (total - steps // 2) / (steps // 2 - 1)
    assert lines[1].endswith(f"  (2 min 0 s, about {duration(left)} left)")
    assert lines[2] == "failed: its loss is no number"
    assert "0 of 2 trials, 1 failed" in lines[3]


@pytest.mark.parametrize(
    ("minutes", "done", "said"), [(0.05, 3, ""), (2.0, 0, ""), (2.0, 3, ", 1.5 trials a minute")]
)
def test_throughput_is_said_once_there_is_some(
    minutes: float, done: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.toml").write_text(STUDY)
    prepared = prepare(Request(str(tmp_path / "small.toml"), tmp_path / "out", jobs=1), None)
    shown = run_display.Display(prepared, Console(file=io.StringIO()))
    shown._counts["trials"] = done
    monkeypatch.setattr("time.monotonic", lambda: shown._started + 60 * minutes)
    assert shown._rate() == said

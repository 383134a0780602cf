"""`gossamer sensitivity` as a user meets it: what it prints, writes and refuses."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.shrinking.sensitivity import Probe
from running_commands import Gossamer

NETS = """
from torch import nn

def tiny(width: int = 16):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3))

def right(outputs, targets):
    return (outputs.argmax(1) == targets).double()

def mean(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_nets", raising=False)
    Path("tiny_nets.py").write_text(NETS)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((90, 12)).astype(np.float32), np.arange(90) % 3
    np.savez("mine.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
    torch.save(model.state_dict(), "best.pt")
    torch.save(model, "whole.pt")
    torch.save(nn.Linear(12, 3).state_dict(), "other.pt")
    return tmp_path


ARGUMENTS = ("sensitivity", "tiny_nets.py:tiny", "--data", "mine.npz")


def test_a_table_is_printed_and_files_are_written(gossamer: Gossamer, folder: Path) -> None:
    done = gossamer(
        *ARGUMENTS, "--weights", "best.pt", "--level", "0.5", "--level", "0.9", "--out", "s"
    )
    assert done.code == 0
    assert "accuracy" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["Layer", "Weights", "50%", "90%"] in rows
    assert [row[:2] for row in rows if row and row[0] in ("1", "3")] == [["1", "192"], ["3", "48"]]
    with (folder / "s" / "sensitivity.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["layer"], line["asked"]) for line in lines] == [
        ("1.weight", "0.5"), ("1.weight", "0.9"), ("3.weight", "0.5"), ("3.weight", "0.9"),
    ]  # fmt: skip
    assert json.loads((folder / "s" / "sensitivity.json").read_text())["finished"]
    assert (folder / "s" / "figures" / "sensitivity.png").stat().st_size > 1000
    assert "6 of the training examples are set aside" in done.err


def test_a_dry_run_measures_nothing(
    gossamer: Gossamer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Probe, "of", None)
    done = gossamer(*ARGUMENTS, "--dry-run")
    assert done.code == 0
    assert "2 layers at 5 levels, about" in " ".join(done.out.split())
    assert "No --weights were given" in done.err


def test_what_was_measured_until_an_interruption_is_shown(
    gossamer: Gossamer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Probe.of

    def ending(self: Probe, names: Any) -> Any:
        if names == ("3.weight",):
            raise KeyboardInterrupt
        return whole(self, names)

    monkeypatch.setattr(Probe, "of", ending)
    done = gossamer(*ARGUMENTS, "--json")
    assert done.code == 130
    found = json.loads(done.out)
    assert [one["names"] for one in found["layers"]] == [["1.weight"]]
    assert not found["finished"]
    assert "Interrupted after 1 layer of 2" in done.err


def test_a_metric_of_ones_own(gossamer: Gossamer, folder: Path) -> None:
    own = ("--loss", "tiny_nets.py:mean", "--metric", "tiny_nets.py:right", "--higher-is-better")
    plain = json.loads(gossamer(*ARGUMENTS, "--weights", "best.pt", "--json").out)
    done = json.loads(gossamer(*ARGUMENTS, "--weights", "best.pt", "--json", *own).out)
    assert done["layers"] == plain["layers"]
    assert (done["task"], plain["task"]) == ("right", "accuracy")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--weights", "whole.pt"), "whole.pt: holds Python objects"),
        (
            ("--weights", "other.pt"),
            "holds other weights than the network has: 1.weight is missing",
        ),
        (("--weights", "gone.pt"), "gone.pt: cannot be read as weights"),
        (("--network-arg", "depth=3"), "has no parameter 'depth'"),
        (("--loss", "tiny_nets.py:mean"), "metric is missing"),
        (("--level", "90"), "a level must lie between 0 and 1"),
        (("--data", "gone.npz"), "gone.npz: no such file"),
        (("--data", "tiny_nets.py:tiny"), "a Sequential without train was given"),
        (("--dry-run", "--json"), "a dry run has no numbers"),
        (("--exclude", "nope"), "matches no parameter"),
    ],
)
def test_wrong_input_is_one_sentence(
    gossamer: Gossamer, folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = gossamer(*ARGUMENTS, *arguments)
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert done.err.count("gossamer:") == 1


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("fashion-cn", "did you mean 'fashion-cnn'"),
        ("best.pt", "is a file, which holds weights at most"),
        ("tiny_nets.py", "which network is in it"),
    ],
)
def test_what_is_no_network(gossamer: Gossamer, folder: Path, model: str, told: str) -> None:
    done = gossamer("sensitivity", model, "--data", "mine.npz")
    assert (done.code, told in done.err) == (2, True), done.err

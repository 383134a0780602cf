"""`gossamer shrink` from the command line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.shrinking.split import Split
from running_commands import Gossamer

NETS = """
from torch import nn

def small():
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
"""
FLAGS = ("--target", "flops", "--pattern", "weight", "--threads", "1", "--batch", "4",
         "--epochs", "2", "--max-drop", "0.1")  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    """Write a network of one's own, its weights and its data, into the folder of the command."""
    x = np.random.default_rng(0).standard_normal((1200, 6), dtype=np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    parts = {"train": slice(0, 400), "validation": slice(400, 900), "test": slice(900, 1200)}
    arrays = {f"{a}_{part}": v[at] for part, at in parts.items() for a, v in (("x", x), ("y", y))}
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    (tmp_path / "small_nets.py").write_text(NETS)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for epoch in range(8):
        split = Split(torch.from_numpy(x[:400]), torch.from_numpy(y[:400]))
        for inputs, targets in split.batches(50, seed=0, epoch=epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    torch.save(network.state_dict(), tmp_path / "best.pt")
    yield tmp_path
    sys.modules.pop("small_nets", None)


def test_a_network_of_ones_own_is_shrunk(files: Path, gossamer: Gossamer) -> None:
    asked = ("shrink", "small_nets.py:small", "--weights", "best.pt", "--data", "mine.npz", *FLAGS)
    planned = gossamer(*asked, "--dry-run")
    assert planned.code == 0
    assert "Expected: about" in planned.err
    assert not (files / "shrunk").exists()
    found = gossamer(*asked, "--out", "small")
    assert found.code == 0
    answer, *_, page = found.out.splitlines()
    assert "of the weights are zero" in answer
    assert Path(page).name == "report.html"
    assert "candidate 1" in found.err
    held = {path.name for path in (files / "small").iterdir()}
    assert held >= {"network.gsm", "model.safetensors", "mask.safetensors", "trials.csv", "state"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--max-drop", "0.1", "--min-accuracy", "0.9"), "--min-accuracy: cannot stand beside"),
        (("--data", "nothing.npz"), "nothing.npz: no such file"),
        (("--weights", "nothing.pt"), "nothing.pt"),
        (("--confidence", "2"), "confidence is 2.0"),
        (("--loss", "small_nets.py:small"), "metric is missing"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    files: Path, gossamer: Gossamer, more: tuple[str, ...], said: str
) -> None:
    asked = ("shrink", "small_nets.py:small", "--weights", "best.pt", "--data", "mine.npz")
    found = gossamer(*asked, *more)
    assert found.code == 2
    assert said in found.err
    assert found.err.startswith("gossamer: ")
    assert not (files / "shrunk").exists()


def test_a_network_that_there_is_not_is_told(gossamer: Gossamer, files: Path) -> None:
    found = gossamer("shrink", "small_nets:", "--weights", "best.pt", "--data", "mine.npz")
    assert found.code == 2
    found = gossamer("shrink", "small", "--weights", "best.pt", "--data", "mine.npz")
    assert "There is no network 'small'" in found.err

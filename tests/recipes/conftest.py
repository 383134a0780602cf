import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.data import Dataset
from gossamer.recipes.steps import Pulse
from gossamer.recipes.trial_runner import TrialRunner
from gossamer.training.loop import Job

NETWORKS = """
import torch
from torch import nn


def dropout():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(),
        nn.Linear(16, 3),
    )


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.output = nn.Linear(6, 3)

    def forward(self, x):
        return self.output(torch.relu(self.second(torch.relu(self.first(x)))))


class Transposed(Tied):
    def __init__(self):
        super().__init__()
        self.second.weight = nn.Parameter(self.first.weight.detach().t())


class Aliased(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)
        self.second.weight = nn.Parameter(self.first.weight.detach())
        self.output = nn.Linear(2, 3)

    def forward(self, x):
        return self.output(self.second(torch.relu(self.first(x))).mean((2, 3)))


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("projection", torch.randn(6, 6), persistent=False)
        self.output = nn.Linear(6, 3)

    def forward(self, x):
        return self.output(x @ self.projection)


class Extra(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)

    def get_extra_state(self):
        return {"calls": 1}

    def set_extra_state(self, state):
        pass
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def points() -> Dataset:
    """60 training examples of three overlapping clusters, with six features."""
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(3, 6))
    labels = np.arange(90) % 3
    x = (centres[labels] + draw.normal(size=(90, 6))).astype(np.float32)
    return Dataset("points", x[:60], labels[:60], x[60:], labels[60:], classes=3, scale=1.0)


@pytest.fixture
def images() -> Dataset:
    """18 training images of two channels, so that memory layouts differ."""
    draw = np.random.default_rng(2)
    labels = np.arange(30) % 3
    x = draw.integers(0, 256, size=(30, 2, 12, 12)) // (1 + labels[:, None, None, None])
    pixels = x.astype(np.uint8)
    return Dataset(
        "images", pixels[:18], labels[:18], pixels[18:], labels[18:], classes=3, scale=255.0
    )


@pytest.fixture
def home_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module of networks in the current directory."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "home_made_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(folder)
    sys.modules.pop("home_made_networks", None)
    yield "home_made_networks"
    sys.modules.pop("home_made_networks", None)


MakeRunner = Callable[..., TrialRunner]


@pytest.fixture
def make_runner(tmp_path: Path) -> MakeRunner:
    """Make a runner on a dataset; runners of the same folder share their files."""

    def never(total: int, standing: object) -> bool:
        return False

    def made(
        dataset: Dataset, folder: str = "states", pulse: Pulse = never, *others: Dataset
    ) -> TrialRunner:
        (tmp_path / folder).mkdir(exist_ok=True)
        by_name = {other.name: other for other in others}
        return TrialRunner(
            dataset=lambda data: by_name.get(data.name, dataset),
            state_path=lambda key: tmp_path / folder / f"{key}.safetensors",
            checkpoint_path=lambda key: tmp_path / folder / f"{key}.checkpoint",
            statistics_path=lambda key: tmp_path / folder / f"{key}.statistics",
            pulse=pulse,
        )

    return made


@pytest.fixture
def look_at_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.recipes.resumable_training.Job", partial(Job, pulse_seconds=0))

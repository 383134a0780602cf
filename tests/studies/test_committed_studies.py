"""The study files that stand beside committed results, with noise in place of their data."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gossamer.data import Dataset
from gossamer.recipes import DataSpec
from gossamer.studies.plan import arms_at, study_trials
from gossamer.studies.spec import read_study

FILES = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*/study.toml"))
SHAPES = {
    "mnist": (1_000, (1, 28, 28)),
    "fashion-mnist": (20_000, (1, 28, 28)),
    "cifar10": (10_000, (3, 32, 32)),
}
"""As many examples as the studies ask for at most, and the shape of one."""


@cache
def stand_in(name: str) -> Dataset:
    examples, shape = SHAPES[name]
    x = np.random.default_rng(0).integers(0, 256, (examples, *shape), dtype=np.uint8)
    y = np.arange(examples) % 10
    return Dataset(name, x, y, x[:40], y[:40], classes=10, scale=255.0)


def datasets(data: DataSpec) -> Dataset:
    return stand_in(data.name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_it_can_be_planned_at_each_scale_and_every_claim_is_about_its_arms(file: Path) -> None:
    spec, _ = read_study(str(file))
    assert spec.name == file.parent.name
    for scale in spec.scales:
        planned = {trial.arm for trial in study_trials(spec, scale, 2, datasets, "cpu")}
        assert planned == {arm.name for arm in arms_at(spec, scale)}
        assert len(spec.claims_at(scale)) == len(spec.claims)

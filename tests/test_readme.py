"""What the README shows works."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import Mask
from gossamer.studies.plan import chosen_scale
from gossamer.studies.spec import read_study
from gossamer.studies.written_recipes import resolve_recipe

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    example = torch.ones(4, 20)
    (code,) = blocks("python")
    names: dict[str, Any] = {"model": model, "optimizer": optimizer, "example": example}
    exec(code, names)
    expected = model(example)
    for found in (names["logits"], torch.from_numpy(names["predictor"](example.numpy()))):
        torch.testing.assert_close(found, expected.detach())
    expected.sum().backward()
    optimizer.step()
    mask = Mask.load(tmp_path / "mask.safetensors")
    assert mask.sparsity == 0.9
    assert mask.violations(model) == {}


def test_the_study_of_the_readme_can_be_run(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    (tmp_path / "my-study.toml").write_text(text)
    spec, _ = read_study(str(tmp_path / "my-study.toml"))
    _, scale = chosen_scale(spec, None)
    for arm in spec.arms:
        values = {**scale.values, spec.axis: spec.levels[0]}
        assert resolve_recipe(arm.name, spec.steps_of(arm), values)

"""A kind of step is added by one class: files, checks, keys, plan, rehearsal and doing follow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pytest
import torch
from pydantic import Field, ValidationError

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.networks import NetworkSpec
from gossamer.recipes import DataSpec, Prune, Train, Transfer, Trial, check_recipe, keyed
from gossamer.recipes.steps import STEPS, Expected, Source, Step, Work, any_step, register
from gossamer.recipes.trial_runner import TrialRunner
from gossamer.studies.plan import PlannedTrial, make_plan
from gossamer.studies.run import Request, describe_run, preflight_study, prepare
from gossamer.studies.schema import study_schema

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.recipes.state import State


class Thin(Step):
    """Keep every n-th weight of each layer."""

    version: ClassVar[int] = 1
    step: Literal["thin"] = "thin"
    nth: int = Field(ge=2)

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:
        if reached[-1].masks:
            raise InputError(f"{at} thins a network that is masked already")

    def expected(self, before: Expected) -> Expected:
        return replace(before, masks=(self,), pruned=True, sparsity=1 - 1 / self.nth)

    def rehearsed_as(self) -> "Thin":
        return self

    def rehearse(self, network: "nn.Module", example: "Tensor") -> None:
        if self.nth > sum(p.numel() for p in network.parameters()):
            raise InputError("there are fewer weights than that")

    def do(self, work: Work) -> "State":
        from gossamer.masks import Mask

        network = work.loaded(work.before)
        kept = {name: torch.arange(p.numel()) for name, p in network.named_parameters()}
        return work.before.masked(
            network,
            Mask(
                {
                    name: (count % self.nth == 0).view(network.get_parameter(name).shape)
                    for name, count in kept.items()
                }
            ),
            enforce=True,
        )


@pytest.fixture(autouse=True)
def thin() -> Iterator[None]:
    register(Thin)
    yield
    del STEPS["thin"]
    any_step.cache_clear()
    any_step()


TRAIN = Train(epochs=1, batch=16)
STUDY = """
name = "thin"
title = "T"
question = "Q?"
data = { name = "digits", examples = 200 }
network = { name = "mlp", hidden = [5] }
grid.nth = [2, 4]
scales.quick = { seeds = 1 }
sources.thinned = { recipe = [{ step = "thin", nth = 2 }] }

[[arms]]
name = "dense"
label = "Dense"
role = "baseline"
recipe = [{ step = "train", epochs = 1 }]

[[arms]]
name = "thinned"
label = "Thinned"
recipe = [{ step = "train", epochs = 1 }, { step = "thin", nth = "$nth" }]

[[arms]]
name = "borrowed"
label = "Borrowed"
recipe = [{ step = "transfer", source = "thinned" }]
"""


def made(points: Dataset, *steps: Step) -> Trial:
    return Trial(DataSpec(name=points.name), NetworkSpec(name="mlp", hidden=(8,)), 1, steps)


def written(folder: Path, text: str) -> str:
    path = folder / "thin.toml"
    path.write_text(text)
    return str(path)


def test_it_is_made_of_json_wherever_steps_are() -> None:
    assert any_step().validate_python({"step": "thin", "nth": 3}) == Thin(nth=3)
    lender = Source.model_validate({"recipe": [{"step": "thin", "nth": 3}]})
    step = Transfer(source=lender)
    assert step.source.recipe == (Thin(nth=3),)
    assert any_step().validate_json(step.model_dump_json()) == step
    for wrong in ({"step": "thin"}, {"step": "thin", "nth": 1}, {"step": "thin", "nth": 2, "m": 1}):
        with pytest.raises(ValidationError):
            any_step().validate_python(wrong)


def test_the_schema_of_study_files_has_it() -> None:
    definitions = study_schema()["$defs"]
    assert definitions["Thin"]["description"] == "Keep every n-th weight of each layer."
    assert {"$ref": "#/$defs/Thin"} in definitions["Step"]["oneOf"]
    assert definitions["Thin"]["properties"]["nth"]["anyOf"][0]["minimum"] == 2


def test_it_is_checked_where_it_stands() -> None:
    check_recipe([TRAIN, Thin(nth=2), TRAIN], 0)
    with pytest.raises(InputError, match=r"^step 2 of the recipe \(thin\) thins a network that is"):
        check_recipe([Prune(sparsity=0.5), Thin(nth=2)], 0)


def test_it_enters_the_keys_with_its_options_and_version(
    points: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keyed(made(points, TRAIN, Thin(nth=2), TRAIN), points)
    other = keyed(made(points, TRAIN, Thin(nth=3), TRAIN), points)
    monkeypatch.setattr(Thin, "version", 2)
    newer = keyed(made(points, TRAIN, Thin(nth=2), TRAIN), points)
    for changed in (other, newer):
        assert changed.states[:2] == first.states[:2]
        assert not set(changed.states[2:]) & set(first.states)
    assert len({first.record, other.record, newer.record}) == 3


def test_it_is_planned_after_what_it_needs_and_done_by_the_runner(
    points: Dataset, make_runner: Callable[..., TrialRunner]
) -> None:
    found = keyed(made(points, TRAIN, Thin(nth=3)), points)
    plan = make_plan([PlannedTrial("thinned", 0.0, found)], set(), set())
    assert [training.key for training in plan.trainings] == [found.states[1]]
    assert plan.measurings[0].needs == {found.states[1]}
    runner = make_runner(points)
    runner.train(found, 0)
    before, after = runner.state(found, 1), runner.state(found, 2)
    for name, value in before.network.items():
        expected = torch.zeros(value.numel())
        expected[::3] = value.flatten()[::3]
        assert torch.equal(after.network[name].flatten(), expected)
    measures = runner.measure(found).measures
    assert measures["nonzero_parameters"] == 16 + 8  # every third of 48 and of 24
    assert measures["sparsity_requested"] == pytest.approx(2 / 3)


def test_a_study_file_has_it(tmp_path: Path) -> None:
    study = written(tmp_path, STUDY)
    prepared = prepare(Request(study=study, folder=tmp_path), None)
    recipes = {(one.arm, one.level): one.keyed.trial.steps for one in prepared.plan.trials}
    assert recipes["thinned", 4.0][1] == Thin(nth=4)
    assert recipes["borrowed", 0.0][0] == Transfer(source=Source(recipe=(Thin(nth=2),)))
    assert "thin" in describe_run(prepared).sparse_steps
    preflight_study(prepared)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            'nth = "$nth"',
            "grid.nth.2: must be at least 2 (given: 1); it is for arm thinned, step 2 (thin)",
        ),
        ("nt = 2", "arm thinned, step 2 (thin), nt: there is no such key: did you mean 'nth'?"),
        ("nth = 1000", "arm thinned, thin: there are fewer weights than that"),
    ],
)
def test_what_is_wrong_with_it_is_told_with_its_line(tmp_path: Path, wrong: str, said: str) -> None:
    text = STUDY.replace('nth = "$nth"', wrong).replace("grid.nth = [2, 4]", "grid.nth = [2, 1]")
    if "$" not in wrong:
        text = text.replace("grid.nth = [2, 1]", "grid.nth = [2]")
    study = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        preflight_study(prepare(Request(study=study, folder=tmp_path), None))
    line = "grid.nth" if "$" in wrong else wrong
    number = 1 + next(n for n, at in enumerate(text.splitlines()) if line in at)
    assert said in str(caught.value)
    assert f"line {number}" in str(caught.value)

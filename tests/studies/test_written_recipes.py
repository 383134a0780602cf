from pathlib import Path

import pytest

from gossamer.core.errors import InputError
from gossamer.recipes import Prune, Train
from gossamer.studies.spec import read_study
from gossamer.studies.written_recipes import PlacedStep, PlacedValue, mentioned, resolve_recipe


def values(**given: float) -> dict[str, PlacedValue]:
    return {name: PlacedValue(value, ("values", name)) for name, value in given.items()}


def test_parts_are_written_out_and_values_put_in(study_file: Path) -> None:
    spec, _ = read_study(str(study_file))
    arm = spec.arms[1]
    steps = resolve_recipe(arm.name, spec.steps_of(arm), values(epochs=7, sparsity=0.25))
    assert [step.kind() for step in steps] == ["train", "prune"]
    assert isinstance(steps[0], Train)
    assert steps[0].epochs == 7
    assert isinstance(steps[1], Prune)
    assert steps[1].sparsity == 0.25


def test_mentioned_looks_into_nested_values() -> None:
    steps = [{"epochs": "$a", "optimizer": {"rate": "$b"}, "exclude": ["$c", "plain"]}]
    assert mentioned(steps) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            {"step": "prune", "sparsity": 1.5},
            r"step 1 \(prune\), sparsity: must be at most 1 \(given: 1\.5\)",
        ),
        ({"step": "prune"}, r"step 1 \(prune\): a pruning needs a sparsity, such as 0\.9"),
        ({"step": "pack", "initialisation": "zeros"}, "initialisation"),
        ({"step": "transfer", "source": {"recipe": [{"step": "dance"}]}}, "dance"),
        ({"step": "prune", "sparsity": "$sparsty"}, "mentions \\$sparsty"),
        ({"step": "prune", "sparsity": 0.5, "score": "luck"}, "score"),
        ({"step": "prune", "sparsity": 0.5, "pattern": "rows"}, "pattern"),
        ({"step": "prune", "sparsity": 0.5, "amount": 3}, "amount: there is no such key"),
        ({"step": "distil"}, "step"),
        ({"step": "train", "epochs": 0}, "epochs"),
        ({"step": "train", "epochs": 1, "batch": -4}, "batch"),
        ({"step": "train", "epochs": 1, "optimizer": {"name": "lion"}}, "optimizer"),
        (
            {"step": "train", "epochs": 1, "optimizer": {"name": "sgd", "rate": float("nan")}},
            "rate",
        ),
    ],
)
def test_a_wrong_step_is_refused_with_arm_and_field(step: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve_recipe("mine", [PlacedStep(step, ())], values(sparsity=0.5))
    assert "arm mine" in str(caught.value)

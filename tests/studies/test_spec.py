"""Study files: what is read, and what is refused with the field's name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.errors import InputError
from gossamer.recipes import Prune, Train
from gossamer.studies.spec import (
    builtin_names,
    mentioned,
    published_figures,
    read_study,
    resolve_recipe,
)

WriteStudy = Callable[..., Path]


@pytest.mark.parametrize("name", builtin_names())
def test_every_built_in_study_can_be_read_and_every_recipe_resolved(name: str) -> None:
    spec, text = read_study(name)
    assert spec.name == name
    assert f'name = "{name}"' in text
    for scale in spec.scales.values():
        for arm in spec.arms:
            level = spec.levels[0]
            steps = resolve_recipe(arm.name, spec.steps_of(arm), {**scale.values, spec.axis: level})
            assert isinstance(steps[0], Train)


def test_parts_are_written_out_and_values_put_in(study_file: Path) -> None:
    spec, _ = read_study(str(study_file))
    arm = spec.arms[1]
    steps = resolve_recipe(arm.name, spec.steps_of(arm), {"epochs": 7, "sparsity": 0.25})
    assert [step.step for step in steps] == ["train", "prune"]
    assert isinstance(steps[0], Train)
    assert steps[0].epochs == 7
    assert isinstance(steps[1], Prune)
    assert steps[1].sparsity == 0.25


def test_the_published_table_of_weight_against_unit_pruning_is_as_printed() -> None:
    published = published_figures("weight-vs-unit")
    assert published is not None
    table = {(f.arm, f.level): f.value for f in published.figures}
    assert len(table) == 20
    assert table["weight", 0.0] == table["unit", 0.0] == pytest.approx(0.9709)
    assert table["weight", 0.7] == pytest.approx(0.6421)
    assert table["unit", 0.25] == pytest.approx(0.8253)
    assert table["unit", 0.99] == pytest.approx(0.0647)
    assert {f.measure for f in published.figures} == {"test_accuracy"}


def test_a_study_without_published_figures_has_none() -> None:
    assert published_figures("demo") is None


def test_mentioned_looks_into_nested_values() -> None:
    steps = [{"epochs": "$a", "optimizer": {"rate": "$b"}, "exclude": ["$c", "plain"]}]
    assert mentioned(steps) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "small"', 'name = "Small Study"', "name: String should match pattern"),
        ('name = "small"', 'name = "small"\ncolour = "red"', "colour: Extra inputs"),
        ("seeds = 2", "seeds = 0", "scales.quick.seeds: Input should be greater than 0"),
        ("validation = 0.2", "validation = 1.5", "data.validation: Input should be less than 1"),
        ("hidden = [16, 8]", "hidden = [16, 0]", "network.hidden.1"),
        ("sparsity = [0.5, 0.9]", "sparsity = [0.5, 0.5]", "level '0.5' is given twice"),
        ('name = "weight"', 'name = "dense"', "arm 'dense' is given twice"),
        ('label = "Weights"', 'label = "Unpruned"', "label 'Unpruned' is given twice"),
        ('role = "control"', 'role = "baseline"', "there can be one baseline"),
        ('role = "control"', 'role = "hero"', "arms.3.role"),
        ('recipe = ["training"]', 'recipe = ["trianing"]', "'trianing', which is no part"),
        ('recipe = ["training"]', "recipe = []", "arms.0.recipe"),
        ("[scales.quick]", "[scales.huge]", "scales.huge"),
        ("[grid]\nsparsity", "[grid]\nb = [1]\nsparsity", "grid: Dictionary should have at most 1"),
        ('title = "A small study"', "", "title: Field required"),
        ("[data]", "[data", "no valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_field(
    write_study: WriteStudy, old: str, new: str, message: str
) -> None:
    path = write_study((old, new))
    with pytest.raises(InputError) as caught:
        read_study(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "prune", "sparsity": 1.5}, "less than or equal to 1"),
        ({"step": "prune"}, "sparsity: Field required"),
        ({"step": "prune", "sparsity": "$sparsty"}, "mentions \\$sparsty"),
        ({"step": "prune", "sparsity": 0.5, "score": "luck"}, "score"),
        ({"step": "prune", "sparsity": 0.5, "pattern": "rows"}, "pattern"),
        ({"step": "prune", "sparsity": 0.5, "amount": 3}, "amount: Extra inputs"),
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
        resolve_recipe("mine", [step], {"sparsity": 0.5})
    assert "arm mine" in str(caught.value)


def test_an_unknown_study_is_refused_with_a_hint() -> None:
    with pytest.raises(InputError, match="did you mean 'weight-vs-unit'"):
        read_study("weight-vs-units")

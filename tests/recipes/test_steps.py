import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gossamer.errors import InputError
from gossamer.recipes import Prune, RecipeStep, Rewind, Train, check_recipe
from gossamer.recipes.steps import described
from gossamer.train import AdamW, EarlyStop, Sgd

TRAIN = Train(epochs=2)
STEP: TypeAdapter[Any] = TypeAdapter(RecipeStep)


def refusal(*steps: Train | Prune | Rewind, validation: float = 0.0) -> str:
    with pytest.raises(InputError) as caught:
        check_recipe(steps, validation)
    return str(caught.value)


def test_recipes_of_the_literature_pass() -> None:
    keep = Train(epochs=1, optimizer_state="keep")
    check_recipe([], 0)
    check_recipe([TRAIN, Prune(sparsity=0.9), keep], 0)
    lottery: list[Any] = [
        TRAIN,
        Prune(sparsity=0.5),
        Rewind(to=0),
        TRAIN,
        Prune(sparsity=0.75),
        Rewind(to=1),
    ]
    check_recipe([*lottery, TRAIN], 0)
    check_recipe([Prune(sparsity=0.9, score="random"), TRAIN], 0)
    check_recipe([Train(epochs=1, early_stop=EarlyStop(patience=1))], 0.1)
    check_recipe([Train(epochs=1, early_stop=EarlyStop(watch="train_loss", patience=1))], 0)


def test_a_rewind_to_a_step_not_yet_done_is_refused() -> None:
    message = refusal(TRAIN, Rewind(to=2))
    assert message.startswith("step 2 of the recipe (rewind) goes back to after step 2, but only 1")


@pytest.mark.parametrize(
    "before",
    [
        [],
        [Prune(sparsity=0.5)],
        [Train(epochs=1, optimizer=Sgd())],
        [TRAIN, Rewind(to=0)],
        [TRAIN, Train(epochs=1, optimizer=AdamW())],
    ],
)
def test_an_optimizer_state_that_is_not_there_cannot_be_kept(before: list[Any]) -> None:
    message = refusal(*before, Train(epochs=1, optimizer_state="keep"))
    assert f"step {len(before) + 1} of the recipe (train) keeps the optimizer's state" in message


def test_an_early_stop_on_an_empty_validation_split_is_refused() -> None:
    message = refusal(Train(epochs=1, early_stop=EarlyStop(patience=1)))
    assert "stops early on validation_loss" in message


def test_a_pruning_that_asks_for_less_than_is_gone_is_refused() -> None:
    message = refusal(Prune(sparsity=0.9), TRAIN, Rewind(to=0), Prune(sparsity=0.5))
    assert "step 4 of the recipe (prune) asks for a sparsity of 0.5 in all, but 0.9" in message


def test_prunings_of_other_weights_may_ask_for_less() -> None:
    check_recipe([Prune(sparsity=0.9), Prune(sparsity=0.5, exclude=("output layer",))], 0)
    check_recipe([Prune(sparsity=0.9), Prune(sparsity=0.5, pattern="unit")], 0)
    check_recipe([Prune(sparsity=0.9), Prune(sparsity=0, allocation={"dense1": 0.95})], 0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"step": "prune"}, "sparsity"),
        ({"step": "prune", "sparsity": 90}, "sparsity"),
        ({"step": "prune", "sparsity": math.nan}, "sparsity"),
        ({"step": "prune", "sparsity": 0.9, "score": "luck"}, "score"),
        ({"step": "prune", "sparsity": 0.9, "allocation": {"dense1": 2}}, "allocation"),
        ({"step": "prune", "sparsity": 0.9, "pattern": "block"}, "pattern"),
        ({"step": "rewind", "to": -1}, "to"),
        ({"step": "rewind", "by": 1}, "by"),
        ({"step": "train"}, "epochs"),
        ({"step": "train", "epochs": 1, "optimizer_state": "lost"}, "optimizer_state"),
        ({"step": "dance"}, "dance"),
    ],
)
def test_steps_that_make_no_sense_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        STEP.validate_python(values)
    assert field in str(caught.value)


def test_a_step_is_described_with_its_defaults_and_version() -> None:
    assert described(Train(epochs=2)) == {
        "step": "train",
        "epochs": 2,
        "batch": 128,
        "optimizer": {
            "name": "adam",
            "rate": 0.001,
            "betas": [0.9, 0.999],
            "epsilon": 1e-08,
            "weight_decay": 0.0,
        },
        "schedule": {"name": "constant"},
        "early_stop": None,
        "optimizer_state": "fresh",
        "version": 1,
    }
    assert described(Prune(sparsity=0.9)) == {
        "step": "prune",
        "sparsity": 0.9,
        "score": "magnitude",
        "allocation": "global",
        "pattern": "weight",
        "exclude": [],
        "version": 1,
    }


def test_a_description_tells_the_order_of_allocation_patterns() -> None:
    first = Prune(sparsity=0.5, allocation={"dense1": 0.9, "dense*": 0.1})
    second = Prune(sparsity=0.5, allocation={"dense*": 0.1, "dense1": 0.9})
    assert described(first)["allocation"] == [["dense1", 0.9], ["dense*", 0.1]]
    assert described(first) != described(second)


@pytest.mark.parametrize(
    "step",
    [
        Train(epochs=2, optimizer=Sgd(momentum=0.9), early_stop=EarlyStop(patience=1)),
        Prune(sparsity=0.5, allocation={"b": 0.1, "a": 0.2}, exclude=("output layer",)),
        Rewind(to=3),
    ],
)
def test_a_step_comes_back_from_json(step: Train | Prune | Rewind) -> None:
    assert STEP.validate_json(step.model_dump_json()) == step

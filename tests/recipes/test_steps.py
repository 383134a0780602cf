import math
from typing import Any

import pytest
from pydantic import ValidationError

from gossamer.masks import ERK, Block, ErdosRenyi, FixedFanIn, NByM
from gossamer.recipes import Pack, Prune, Regrow, Rewind, Step, Train, Transfer
from gossamer.recipes.steps import Source, any_step
from gossamer.records.canonical import canonical_json
from gossamer.training import EarlyStop, Sgd

STEP: Any = any_step()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"step": "prune"}, "sparsity"),
        ({"step": "prune", "sparsity": 90}, "sparsity"),
        ({"step": "prune", "sparsity": math.nan}, "sparsity"),
        ({"step": "prune", "sparsity": 0.9, "score": "luck"}, "score"),
        ({"step": "prune", "sparsity": 0.9, "allocation": {"dense1": 2}}, "allocation"),
        ({"step": "prune", "sparsity": 0.9, "pattern": "block"}, "pattern"),
        ({"step": "prune", "sparsity": 0.9, "pattern": {"name": "block", "rows": 2}}, "columns"),
        ({"step": "prune", "sparsity": 0.9, "allocation": {"name": "erk", "k": 1}}, "k"),
        ({"step": "prune", "allocation": {"name": "erdos-renyi", "epsilon": 0}}, "epsilon"),
        ({"step": "prune", "allocation": {"name": "fixed-fan-in"}}, "connections"),
        ({"step": "prune", "allocation": {"name": "erk"}}, "a pruning needs a sparsity"),
        ({"step": "regrow", "to": 1}, "to"),
        ({"step": "pack", "initialisation": "zeros"}, "initialisation"),
        ({"step": "transfer"}, "source"),
        ({"step": "transfer", "source": {"recipe": []}}, "recipe"),
        ({"step": "transfer", "source": {"recipe": [{"step": "dance"}]}}, "dance"),
        (
            {"step": "transfer", "source": {"recipe": [{"step": "regrow"}], "seed_offset": -1}},
            "seed",
        ),
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


@pytest.mark.parametrize(
    "fixing",
    [
        {"allocation": ErdosRenyi(epsilon=2)},
        {"allocation": FixedFanIn(connections=3)},
        {"pattern": NByM(n=2, m=4)},
    ],
)
def test_a_sparsity_that_is_fixed_is_not_given_too(fixing: dict[str, Any]) -> None:
    assert Prune(**fixing).sparsity is None
    with pytest.raises(ValidationError, match=r"leave sparsity out: .* fixes it"):
        Prune(sparsity=0.5, **fixing)


@pytest.mark.parametrize("free", [{"allocation": ERK()}, {"pattern": Block(rows=4, columns=1)}])
def test_a_sparsity_that_nothing_fixes_must_be_given(free: dict[str, Any]) -> None:
    assert Prune(sparsity=0.5, **free).sparsity == 0.5
    with pytest.raises(ValidationError, match=r"a pruning needs a sparsity, such as 0\.9"):
        Prune(**free)


def test_a_layer_may_be_called_as_an_allocation_is_described() -> None:
    assert Prune(sparsity=0.5, allocation={"name": 0.1}).allocation == {"name": 0.1}


def test_a_transfer_is_described_without_its_source() -> None:
    source = Source(recipe=(Prune(sparsity=0.5),))
    assert Transfer(source=source).described() == {
        "step": "transfer",
        "shuffle": None,
        "enforce": True,
        "version": 1,
    }
    assert Pack().described() == {"step": "pack", "initialisation": "keep", "version": 1}
    assert Regrow().described() == {"step": "regrow", "version": 1}


def test_a_step_is_described_with_its_defaults_and_version() -> None:
    assert Train(epochs=2).described() == {
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
    assert Prune(sparsity=0.9).described() == {
        "step": "prune",
        "sparsity": 0.9,
        "score": "magnitude",
        "allocation": "global",
        "pattern": "weight",
        "exclude": [],
        "enforce": True,
        "version": 2,
    }


def test_the_order_of_allocation_patterns_does_not_matter() -> None:
    # Of several patterns that fit a layer the longest counts.
    first = Prune(sparsity=0.5, allocation={"dense1": 0.9, "dense*": 0.1})
    second = Prune(sparsity=0.5, allocation={"dense*": 0.1, "dense1": 0.9})
    assert first.described()["allocation"] == {"dense1": 0.9, "dense*": 0.1}
    assert canonical_json(first.described()) == canonical_json(second.described())


@pytest.mark.parametrize(
    "step",
    [
        Train(epochs=2, optimizer=Sgd(momentum=0.9), early_stop=EarlyStop(patience=1)),
        Prune(sparsity=0.5, allocation={"b": 0.1, "a": 0.2}, exclude=("output layer",)),
        Prune(allocation=ErdosRenyi(epsilon=20), score="random", enforce=False),
        Prune(sparsity=0.5, allocation=ERK(), pattern=Block(rows=2, columns=3)),
        Prune(allocation=FixedFanIn(connections=3)),
        Prune(pattern=NByM(n=2, m=4)),
        Rewind(to=3),
        Regrow(),
        Pack(initialisation="he"),
        Transfer(
            source=Source(
                data="mnist", recipe=(Train(epochs=1), Prune(sparsity=0.5)), seed_offset=0
            ),
            shuffle="unit",
            enforce=False,
        ),
    ],
)
def test_a_step_comes_back_from_json(step: Step) -> None:
    assert STEP.validate_json(step.model_dump_json()) == step


@pytest.mark.parametrize(
    ("pattern", "score"),
    [
        ("weight", "magnitude"),
        ("unit", "relative-rms"),
        ({"name": "block", "rows": 4, "columns": 1}, "magnitude"),
    ],
)
def test_a_score_left_out_is_that_of_the_pattern_in_keys_too(pattern: Any, score: str) -> None:
    values = {"step": "prune", "sparsity": 0.5, "pattern": pattern}
    step = STEP.validate_python(values)
    assert step.score == score
    assert step == STEP.validate_python({**values, "score": score})
    assert step == STEP.validate_python({**values, "score": None})
    assert step.described()["score"] == score


def test_keys_from_before_free_parameters_could_be_included_hold() -> None:
    before = {
        "step": "prune", "sparsity": 0.5, "score": "magnitude", "allocation": "global",
        "pattern": "unit", "exclude": [], "enforce": True, "version": 2,
    }  # fmt: skip
    assert Prune(sparsity=0.5, score="magnitude", pattern="unit").described() == before
    assert Prune(sparsity=0.5, include=("pos",)).described()["include"] == ["pos"]

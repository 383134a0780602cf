"""Study files: what is read, and what is refused with the field's name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.core.errors import InputError
from gossamer.studies.run import Request, prepare
from gossamer.studies.spec import read_study

WriteStudy = Callable[..., Path]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'name = "small"',
            'name = "Small Study"',
            "name: must be small letters, digits and hyphens only",
        ),
        (
            'name = "small"',
            'name = "small"\ncolour = "red"',
            "colour: there is no such key; the keys are arms, claims, data, ",
        ),
        ("seeds = 2", "seeds = 0", "scales.quick.seeds: must be greater than 0 (given: 0)"),
        (
            "validation = 0.2",
            "validation = 1.5",
            "data.validation: must be less than 1 (given: 1.5)",
        ),
        ("hidden = [16, 8]", "hidden = [16, 0]", "network.hidden.2: must be greater than 0"),
        ("sparsity = [0.5, 0.9]", "sparsity = [0.5, 0.5]", "grid.sparsity: 0.5 is given twice"),
        ('name = "weight"', 'name = "dense"', "arm 'dense' is given twice"),
        ('label = "Weights"', 'label = "Unpruned"', "label 'Unpruned' is given twice"),
        ('role = "control"', 'role = "baseline"', "there can be one baseline"),
        (
            'role = "control"',
            'role = "hero"',
            "arms.4.role: must be 'baseline', 'main' or 'control' (given: 'hero')",
        ),
        ('recipe = ["training"]', 'recipe = ["trianing"]', "'trianing', which is no part"),
        ('recipe = ["training"]', "recipe = []", "arms.1.recipe: must not be empty"),
        ("[scales.quick]", "[scales.huge]", "scales.huge"),
        ("[grid]\nsparsity", "[grid]\nb = [1]\nsparsity", "grid: holds too much: at most 1"),
        ('title = "A small study"', "", "title: it is missing"),
        ("[data]", "[data", "line 6: the header [data is not closed: write as many"),
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


def test_the_data_of_an_arm_is_that_of_the_study_of_the_scale_and_its_own(
    write_study: WriteStudy,
) -> None:
    study = write_study(
        ("levels = [0.5]", "data = { examples = 200, mean = 0.5 }"),
        ('data = { pool = "all" }', 'data = { pool = "all", mean = 0.25 }'),
        leaky=True,
    )
    spec, _ = read_study(str(study))
    dense, weight, lent = (spec.data_of(arm, "quick") for arm in spec.arms)
    assert dense == weight
    assert (dense.pool, dense.examples, dense.mean) == ("half", 200, 0.5)
    assert (lent.pool, lent.examples, lent.mean) == ("all", 200, 0.25)


def test_a_scale_runs_its_levels_and_arms(write_study: WriteStudy) -> None:
    study = write_study(
        ("seeds = 3", "seeds = 3\nlevels = [0.9]"),
        ('name = "weight"', 'name = "weight"\nscales = ["paper"]'),
    )
    spec, _ = read_study(str(study))
    trials = {
        scale: prepare(Request(study=str(study), folder=study.parent, scale=scale, seeds=1), None)
        for scale in spec.scales
    }
    found = {
        scale: [(trial.arm, trial.level) for trial in prepared.plan.trials]
        for scale, prepared in trials.items()
    }
    assert found == {
        "quick": [("dense", 0.0)] + [(a, s) for a in ("retrained", "rewound") for s in (0.5, 0.9)],
        "paper": [("dense", 0.0)] + [(a, 0.9) for a in ("weight", "retrained", "rewound")],
    }


def test_a_scale_may_compute_in_its_own_precision(write_study: WriteStudy) -> None:
    study = write_study(("seeds = 3", 'seeds = 3\nprecision = "bf16"'))
    spec, _ = read_study(str(study))
    found = {
        scale: {
            trial.keyed.trial.precision
            for trial in prepare(
                Request(study=str(study), folder=study.parent, scale=scale, seeds=1), None
            ).plan.trials
        }
        for scale in spec.scales
    }
    assert found == {"quick": {"float32"}, "paper": {"bf16"}}


def test_claims_are_made_where_their_arms_are_run(write_study: WriteStudy) -> None:
    claim = '\n[[claims]]\nname = "a"\ntext = "T."\nsays = "on-par"\ncompare = "weight"\n'
    study = write_study(
        ('name = "weight"', 'name = "weight"\nscales = ["paper"]'),
        (
            "rate = 0.1, momentum = 0.9 } },\n]\n",
            f"rate = 0.1 }} }},\n]\n{claim}against = 'dense'\n",
        ),
    )
    spec, _ = read_study(str(study))
    assert spec.claims_at("quick") == ()
    (found,) = spec.claims_at("paper")
    assert (found.against, found.margin) == (("dense",), 0.02)


def test_an_unknown_study_is_refused_with_a_hint() -> None:
    with pytest.raises(InputError, match="did you mean 'weight-vs-unit'"):
        read_study("weight-vs-units")

"""Study files: what is read, and what is refused with the field's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.errors import InputError
from gossamer.recipes import Prune, Train
from gossamer.studies.run import Request, prepare
from gossamer.studies.spec import ClaimSpec, mentioned, read_study, resolve_recipe

WriteStudy = Callable[..., Path]
NEWLINE = "\n"


def test_parts_are_written_out_and_values_put_in(study_file: Path) -> None:
    spec, _ = read_study(str(study_file))
    arm = spec.arms[1]
    steps = resolve_recipe(arm.name, spec.steps_of(arm), {"epochs": 7, "sparsity": 0.25})
    assert [step.step for step in steps] == ["train", "prune"]
    assert isinstance(steps[0], Train)
    assert steps[0].epochs == 7
    assert isinstance(steps[1], Prune)
    assert steps[1].sparsity == 0.25


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
        ({"step": "prune"}, r"0\.prune: a pruning needs a sparsity, such as 0\.9"),
        ({"step": "pack", "initialisation": "zeros"}, "initialisation"),
        ({"step": "transfer", "source": {"recipe": [{"step": "dance"}]}}, "dance"),
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


def refusal(study: Path) -> str:
    """Return how a file is refused, by reading or by planning."""
    with pytest.raises(InputError) as caught:
        prepare(Request(study=str(study), folder=study.parent), None)
    return str(caught.value)


# What is changed in the small or the leaky study; the text that stands on the line complained of;
# and the sentence.
SMALL = [
    (
        'name = "small"',
        'name = "small"\ncolour = "red"',
        "colour",
        "colour: Extra inputs are not permitted (given: 'red')",
    ),
    ("seeds = 2", "seeds = 0", "seeds = 0", "scales.quick.seeds: Input should be greater than 0"),
    (
        'notes = ["Small on purpose."]',
        "levels = [0.5, 0.6]",
        "levels",
        "scales.quick.levels: 0.6 is not in the grid",
    ),
    ("seeds = 3", "seeds = 3\nlevels = []", "levels", "scales.paper.levels: "),
    (
        "seeds = 3",
        "seeds = 3\ndata = { exampels = 9 }",
        "exampels",
        "scales.paper.data.exampels: Extra inputs are not permitted (given: 9)",
    ),
    (
        "seeds = 3",
        "seeds = 3\n[scales.paper.data]\nexamples = 0",
        "examples = 0",
        "scales.paper.data.examples: Input should be greater than 0 (given: 0)",
    ),
    (
        'role = "control"',
        'role = "control"\ndata = { pool = "third" }',
        "third",
        "arms.3.data.pool: Input should be 'all' or 'half' (given: 'third')",
    ),
    (
        'sparsity = "$sparsity" }]',
        "sparsity = 1.5 }]",
        "sparsity = 1.5",
        "arm weight, recipe: 1.prune.sparsity: Input should be less than or equal to 1",
    ),
    (
        'sparsity = "$sparsity" }]',
        'sparsity = "$rate" }]',
        "$rate",
        "arm weight, recipe: it mentions $rate, which is no value of the grid or of the scale; "
        "these are epochs, sparsity",
    ),
    (
        '  { step = "rewind" },',
        '  { step = "rewind", to = 9 },',
        'recipe = [\n  "training",\n  { step = "prune", sparsity = "$sparsity", allocation',
        "arm rewound, recipe: step 3 of the recipe (rewind) goes back to after step 9, but only 2",
    ),
    (
        "sparsity = [0.5, 0.9]",
        "sparsity = []",
        "sparsity = []",
        "grid.sparsity: it is empty, but arm weight needs it",
    ),
    (
        "sparsity = [0.5, 0.9]",
        "sparsity = [0.5, 0.5]",
        "sparsity = [",
        "grid.sparsity: level '0.5' is given twice",
    ),
    (
        'role = "control"',
        'role = "baseline"',
        "[[arms]]4",
        "arms.3: there can be one baseline, not",
    ),
    ('name = "weight"', 'name = "dense"', "[[arms]]2", "arms.1: arm 'dense' is given twice"),
    ('label = "Weights"', 'label = "Unpruned"', "[[arms]]2", "arms.1: label 'Unpruned' is given"),
    (
        'recipe = ["training"]',
        'recipe = ["trianing"]',
        "trianing",
        "arms.0.recipe: arm dense has 'trianing', which is no part (training)",
    ),
    (
        'recipe = ["training"]',
        'recipe = [{ step = "transfer", source = "none" }]',
        'source = "none"',
        "arms.0.recipe: arm dense borrows from 'none', which is no source (none)",
    ),
    ("hidden = [16, 8]", "hidden = [16,\n0]", "0]", "network.hidden.1: Input should be greater"),
]
LEAKY = [
    (
        'recipe = ["training", "half"]\n\n[[arms]]\nname = "dense"',
        'recipe = [{ step = "transfer", source = "again" }, "half"]\n\n[[arms]]\nname = "dense"',
        'source = "again"',
        "sources.again.recipe: sources borrow in a circle: again from again",
    ),
    (
        "[sources.again]",
        '[sources.other]\nrecipe = [\n{ step = "transfer", source = "more" }]\n'
        '[sources.more]\nrecipe = [{ step = "transfer", source = "other" }]\n[sources.again]',
        'recipe = [{ step = "transfer", source = "other" }]',
        "sources.more.recipe: sources borrow in a circle: other from more from other",
    ),
    (
        "[sources.again]",
        '[sources.other]\nrecipe = ["thirds"]\n[sources.again]',
        "thirds",
        "sources.other.recipe: source other has 'thirds', which is no part (training, half)",
    ),
    (
        "[sources.again]",
        "[sources.again]\nseed_offset = -1",
        "seed_offset",
        "sources.again.seed_offset: Input should be greater than or equal to 0",
    ),
    (
        'compare = "weight"',
        'compare = "wieght"',
        "wieght",
        "claims.0.compare: claim a is about 'wieght', which is no arm",
    ),
    (
        'data = { pool = "all" }\n',
        "",
        'recipe = [{ step = "transfer", source = "again" }',
        "arms.2.recipe: with leakage a mask cannot come from another seed's half of the same data",
    ),
    (
        'against = "dense"',
        'against = "weight"',
        "against",
        "claims.0.against: claim a compares 'weight' with itself",
    ),
    (
        'against = "dense"',
        "against = []",
        "against",
        "claims.0.against",
    ),
    (
        'against = "dense"',
        'against = ["dense", "dens"]',
        '"dens"',
        "claims.0.against: claim a is about 'dens', which is no arm",
    ),
    (
        'against = "dense"',
        'against = "dense"\ncontrol = { compare = "lent", against = "land", text = "" }',
        '"land"',
        "claims.0.control: claim a is about 'land', which is no arm",
    ),
    (
        'against = "dense"',
        'against = "dense"\nlevels = [0.5, 0.6]',
        "levels = [0.5, 0.6]",
        "claims.0.levels: claim a looks at 0.6, which is not in the grid",
    ),
    (
        'against = "dense"',
        'against = "dense"\nagainst_level = 0.4',
        "against_level",
        "claims.0.against_level: claim a looks at 0.4, which is not in the grid",
    ),
    (
        'against = "dense"',
        'against = "dense"\nmargin = -1',
        "margin = -1",
        "claims.0.margin: Input should be greater than or equal to 0 (given: -1)",
    ),
    (
        'says = "not-lower"',
        'says = "greater"',
        "greater",
        "claims.0.says: Input should be 'higher', 'lower', 'not-lower', 'not-higher' or 'on-par'",
    ),
    (
        "[[claims]]",
        '[[claims]]\nname = "a"\ntext = ""\nsays = "lower"\ncompare = "lent"\n'
        'against = "dense"\n\n[[claims]]',
        "[[claims]]2",
        "claims.1: claim 'a' is given twice",
    ),
    (
        'overlaps = [["weight", "lent"]]',
        'overlaps = [["weight", "lend"]]',
        "overlaps",
        "overlaps: 'lend' is no arm",
    ),
    ('"paired-halves"', '"halves"', "leakage =", "leakage: Input should be 'paired-halves'"),
    (
        "examples = 300",
        "examples = 300\nvalidation = 0.1",
        "validation",
        "data.validation: arm dense trains on complementary halves of the pool, and what is held "
        'out would be missing: use validation_from = "test", or 0',
    ),
]


@pytest.mark.parametrize(
    ("leaky", "old", "new", "at", "message"),
    [(leaky, *case) for leaky, cases in ((False, SMALL), (True, LEAKY)) for case in cases],
)
def test_a_complaint_names_line_and_field(
    write_study: WriteStudy, leaky: bool, old: str, new: str, at: str, message: str
) -> None:
    path = write_study((old, new), leaky=leaky)
    text, said = path.read_text(), refusal(path)
    start = text.index(at) if at in text else nth(text, at[:-1], int(at[-1]))
    assert said.startswith(f"the study {path}, line ")
    assert f", line {1 + text[:start].count(NEWLINE)}: {message}" in said
    assert NEWLINE not in said


def nth(text: str, part: str, number: int) -> int:
    """Return where a part stands in a text for the n-th time."""
    at = -1
    for _ in range(number):
        at = text.index(part, at + 1)
    return at


def test_what_is_held_out_of_the_test_set_leaves_halves_complementary(
    write_study: WriteStudy,
) -> None:
    held_out = 'examples = 300\nvalidation = 0.1\nvalidation_from = "test"'
    spec, _ = read_study(str(write_study(("examples = 300", held_out), leaky=True)))
    assert spec.data_of(spec.arms[0], "quick").validation == 0.1


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


@pytest.mark.parametrize(
    ("says", "measure", "margin"),
    [
        ("higher", "test_accuracy", 0.005),
        ("not-lower", "validation_accuracy", 0.005),
        ("lower", "lira_online_auc", 0.01),
        ("on-par", "lira_online_auc", 0.02),
    ],
)
def test_margins_that_matter_are_those_of_the_design(
    says: Any, measure: str, margin: float
) -> None:
    claim = ClaimSpec(name="a", text="", says=says, compare="x", against="y", measure=measure)
    assert claim.resolved().margin == margin
    assert claim.model_copy(update={"margin": 0.3}).resolved().margin == 0.3


def test_an_unknown_study_is_refused_with_a_hint() -> None:
    with pytest.raises(InputError, match="did you mean 'weight-vs-unit'"):
        read_study("weight-vs-units")

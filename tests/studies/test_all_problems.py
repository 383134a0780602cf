"""A faulty study file is told of at once, line by line, with what was meant."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.recipes import DataSpec
from gossamer.studies.plan import study_trials
from gossamer.studies.run import Request, prepare
from gossamer.studies.spec import read_study
from gossamer.studies.study_errors import StudyFileError

WriteStudy = Callable[..., Path]
PRUNING = 'sparsity = "$sparsity" }]'
GRID = "sparsity = [0.5, 0.9]"


def refusal(study: Path) -> str:
    with pytest.raises(InputError) as caught:
        prepare(Request(study=str(study), folder=study.parent), None)
    return str(caught.value).removeprefix(f"the study {study}")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[80, 0.9]", "grid.sparsity.1: must be at most 1 (given: 80): 80% is 0.8; it is for arm "
         "weight, step 2 (prune), sparsity"),
        ("[0.5, 100]", "grid.sparsity.2: must be at most 1 (given: 100): 100% is 1"),
        ("[-0.5, 0.9]", "grid.sparsity.1: must be at least 0 (given: -0.5)"),
        ("[0.5, nan]", "grid.sparsity.2: must be a finite number (given: nan)"),
        ("[true, 0.5]", "grid.sparsity.1: must be a number (given: true)"),
        ('[0.5, "90%"]', "grid.sparsity.2: must be a number (given: '90%'): 90% is 0.9"),
        ('[0.5, "97.5 %"]', "grid.sparsity.2: must be a number (given: '97.5 %'): 97.5% is 0.975"),
    ],
)  # fmt: skip
def test_a_level_that_is_no_sparsity_is_told_where_the_grid_is(
    write_study: WriteStudy, given: str, told: str
) -> None:
    assert refusal(write_study((GRID, f"sparsity = {given}"))).startswith(f", line 15: {told}")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("90", "must be at most 1 (given: 90): 90% is 0.9"),
        ('"90%"', "must be a number (given: '90%'): 90% is 0.9"),
        ("true", "must be a number (given: true)"),
        ("-0.1", "must be at least 0 (given: -0.1)"),
        ("nan", "must be a finite number (given: nan)"),
    ],
)
def test_a_sparsity_is_looked_at_in_steps_tables_and_values(
    write_study: WriteStudy, given: str, told: str
) -> None:
    step = refusal(write_study((PRUNING, f"sparsity = {given} }}]")))
    assert step == f", line 38: arm weight, step 2 (prune), sparsity: {told}"
    table = f'sparsity = 0.5, allocation = {{ "dense*" = {given} }} }}]'
    shares = refusal(write_study((PRUNING, table)))
    assert shares == f", line 38: arm weight, step 2 (prune), allocation.dense*: {told}"
    value = refusal(
        write_study(
            ("values = { epochs = 2 }", f"values = {{ epochs = 2, share = {given} }}"),
            (PRUNING, 'sparsity = "$share" }]'),
        )
    )
    assert value.startswith(f", line 19: scales.quick.values.share: {told}; it is for arm weight")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "seeds = 2",
            "seeds = 2\nlevels = [90]",
            "scales.quick.levels: 90 is not in the grid: 90%",
        ),
        ("seeds = 2", 'seeds = 2\nlevels = ["90%"]', "scales.quick.levels.1: must be a number"),
        (
            "[[arms]]",
            '[latency]\narms = ["weight"]\nlevels = [90]\n[[arms]]',
            "latency.levels: 90 is not in the grid: 90% is 0.9",
        ),
    ],
)
def test_levels_elsewhere_are_in_percent_no_more_than_the_grid_is(
    write_study: WriteStudy, old: str, new: str, told: str
) -> None:
    assert told in refusal(write_study((old, new)))


ERDOS = '{ name = "erdos-renyi", epsilon = 20 }'
ALLOCATIONS = [
    ('"erk"', 'write allocation = { name = "erk" } (given: "erk")'),
    ('"ERK"', 'write allocation = { name = "erk" } (given: "ERK")'),
    ('"ERK()"', 'write allocation = { name = "erk" } (given: "ERK()")'),
    ('"erdos_renyi"', f'write allocation = {ERDOS}, say (given: "erdos_renyi")'),
    ('"ErdosRenyi(20)"', f'write allocation = {ERDOS}, say (given: "ErdosRenyi(20)")'),
    ('{ name = "erdos-renyi" }', f"epsilon is missing: write allocation = {ERDOS}, say"),
    ('{ name = "ERK" }', "there is no allocation of the name 'ERK', only 'erk' and "),
    ('"fixed-fan-in"', 'write allocation = { name = "fixed-fan-in", connections = 50 }, say'),
    ('"Uniform"', "must be 'global' or 'uniform' (given: 'Uniform'), or a table such as "),
    ('"sqrt"', "must be 'global' or 'uniform' (given: 'sqrt'), or a table such as "),
]
PATTERNS = [
    ('"n-by-m"', 'write pattern = { name = "n-by-m", n = 2, m = 4 }, say (given: "n-by-m")'),
    ('"NByM(2, 4)"', 'write pattern = { name = "n-by-m", n = 2, m = 4 }, say'),
    ('{ name = "n-by-m", n = 1 }', 'm is missing: write pattern = { name = "n-by-m", n = 1, m = 4'),
    ('"Block"', 'write pattern = { name = "block", rows = 4, columns = 1 }, say'),
    ('{ name = "block" }', "rows and columns are missing: write pattern = "),
    ('"2:4"', "must be 'weight' or 'unit' (given: '2:4'), or a table such as { name = \"n-by-m\""),
]


@pytest.mark.parametrize(
    ("field", "given", "told"),
    [
        *(("allocation", *case) for case in ALLOCATIONS),
        *(("pattern", *case) for case in PATTERNS),
    ],
)
def test_a_named_choice_is_told_how_to_be_written(
    write_study: WriteStudy, field: str, given: str, told: str
) -> None:
    study = write_study((PRUNING, f"sparsity = 0.5, {field} = {given} }}]"))
    said = refusal(study)
    assert said.startswith(f", line 38: arm weight, step 2 (prune), {field}: {told}")


def test_how_to_write_it_works_when_followed(write_study: WriteStudy) -> None:
    for written in (
        'sparsity = 0.5, allocation = { name = "erk" }',
        f"allocation = {ERDOS}",
        'allocation = { name = "fixed-fan-in", connections = 50 }',
        'pattern = { name = "n-by-m", n = 2, m = 4 }',
        'sparsity = 0.5, pattern = { name = "block", rows = 4, columns = 1 }',
    ):
        study = write_study((PRUNING, f"{written} }}]"))
        prepare(Request(study=str(study), folder=study.parent), None)


def test_every_problem_of_a_file_is_told_in_the_order_of_its_lines(
    write_study: WriteStudy,
) -> None:
    said = refusal(
        write_study(
            ("validation = 0.2", "validation = 20"),
            ("seeds = 2", "seeds = 0"),
            ("values = { epochs = 4 }", "levels = [90]"),
            ('label = "Weights"', 'lable = "Weights"'),
            (PRUNING, "sparsity = 9 }]"),
            ('role = "control"', 'role = "contrl"'),
        )
    )
    assert said.splitlines() == [
        " has 7 problems:",
        "  line 8: data.validation: must be less than 1 (given: 20): 20% is 0.2",
        "  line 18: scales.quick.seeds: must be greater than 0 (given: 0)",
        "  line 24: scales.paper.levels: 90 is not in the grid: 90% is 0.9",
        "  line 27: arm dense, step 1: it mentions $epochs, which is no value of the grid or of "
        "the scale; these are sparsity",
        "  line 37: arms.2.lable: there is no such key: did you mean 'label'?",
        "  line 38: arm weight, step 2 (prune), sparsity: must be at most 1 (given: 9): 9% is 0.09",
        "  line 52: arms.4.role: must be 'baseline', 'main' or 'control' (given: 'contrl'): did "
        "you mean 'control'?",
    ]


def test_network_data_and_recipes_are_looked_at_together(write_study: WriteStudy) -> None:
    said = refusal(
        write_study(
            ('name = "mlp"\nhidden = [16, 8]', 'name = "mpl"'),
            (PRUNING, "sparsity = 9 }]"),
            ("epochs = 1, batch", "epochs = 0, batch"),
            ('role = "control"', 'role = "control"\ndata = { name = "mnits" }'),
        )
    )
    lines = [line.strip().partition(":")[0] for line in said.splitlines()]
    assert lines == ["has 4 problems", "line 11", "line 37", "line 45", "line 52"]


def test_what_cannot_be_mended_hides_nothing_that_stands_beside_it(
    write_study: WriteStudy,
) -> None:
    said = refusal(write_study(('title = "A small study"', ""), ("seeds = 2", "seeds = 0")))
    assert [line.strip() for line in said.splitlines()] == [
        "has 2 problems:",
        "title: it is missing",
        "line 18: scales.quick.seeds: must be greater than 0 (given: 0)",
    ]


def test_a_word_that_is_like_none_hides_nothing_in_steps_and_claims(
    write_study: WriteStudy,
) -> None:
    said = refusal(
        write_study(
            ('title = "A', 'titel = "A'),
            ("validation = 0.2", "validation = 1.1"),
            ("epochs = 1, batch = 64", 'epochs = -3, optimizer = { name = "adamm", rate = -1 }'),
            ('role = "control"', 'role = "more"'),
            ('recipe = ["training"]', 'recipe = ["trainin"]'),
        )
    )
    told = [line.strip() for line in said.splitlines()]
    for part in (
        "titel: there is no such key: did you mean 'title'?",
        "data.validation: must be less than 1 (given: 1.1)",
        "epochs: must be greater than 0 (given: -3)",
        "not 'adamm': did you mean 'adam'?",
        "optimizer.rate: must be greater than 0 (given: -1)",
        "role: must be 'baseline', 'main' or 'control' (given: 'more')",
        "'trainin', which is no part: did you mean 'training'?",
    ):
        assert any(line.endswith(part) for line in told), part


def test_a_number_in_quotes_is_told_how_to_be_written(write_study: WriteStudy) -> None:
    said = refusal(write_study((GRID, 'sparsity = ["0.5", 0.9]')))
    assert said == (
        ", line 15: grid.sparsity.1: must be a number (given: '0.5'): write 0.5, unquoted"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"x = " + b"[" * 5000, "nests arrays or tables too deeply"),
        (b"\xff\xfe", "is no text: save it as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_told_in_a_sentence(
    tmp_path: Path, content: bytes, told: str
) -> None:
    study = tmp_path / "odd.toml"
    study.write_bytes(content)
    assert refusal(study).endswith(told)


def test_a_dataset_that_cannot_be_loaded_is_tried_and_told_once(write_study: WriteStudy) -> None:
    asked: list[str] = []

    def load(data: DataSpec) -> Dataset:
        asked.append(data.name)
        raise InputError(f"{data.name}: cannot be downloaded")

    study = write_study(('role = "control"', 'role = "control"\ndata = { name = "digits" }'))
    spec, _ = read_study(str(study))
    with pytest.raises(StudyFileError) as caught:
        study_trials(spec, "quick", 2, load, "cpu")
    assert asked == ["digits"]
    assert str(caught.value) == "digits: cannot be downloaded"

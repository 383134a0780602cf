"""The JSON Schema of study files agrees with what the command accepts and refuses."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gossamer.studies.schema import study_schema
from gossamer.studies.spec import builtin_names, read_study

VALIDATOR = Draft202012Validator(study_schema())


def problems(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(study_schema())


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_studies_fit_the_schema(name: str) -> None:
    assert problems(read_study(name)[1]) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "A small study"', 'titel = "A small study"'),
        ('step = "rewind"', 'step = "unwind"'),
        ('step = "rewind"', 'step = "rewind", too = 1'),
        ("batch = 64", 'batch = "many"'),
        ("seeds = 2", "seeds = 0"),
        ('role = "control"', 'role = "bystander"'),
    ],
)
def test_what_is_misspelt_does_not_fit(
    write_study: Callable[..., Path], old: str, new: str
) -> None:
    assert problems(write_study((old, new)).read_text())


def test_every_field_says_what_it_is() -> None:
    schema = study_schema()
    for name, table in {"a study": schema, **schema["$defs"]}.items():
        fields: dict[str, Any] = table.get("properties", {})
        undescribed = [
            field
            for field, known in fields.items()
            if "const" not in known and not known.get("description")
        ]
        assert undescribed == [], name


def test_every_option_of_a_step_is_there() -> None:
    definitions: dict[str, Any] = study_schema()["$defs"]
    assert set(definitions["Prune"]["properties"]) == {
        "step", "sparsity", "score", "allocation", "pattern", "exclude", "include", "coupled",
        "examples",
        "enforce",
    }  # fmt: skip

"""A study as its file says it: data, network, arms and scales."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError, model_validator

from gossamer.errors import InputError
from gossamer.nets import NetworkSpec
from gossamer.recipes import DataSpec, MeasureSpec, RecipeStep
from gossamer.records.record import Published, PublishedFigure
from gossamer.train.options import Options, Precision

_STEPS: TypeAdapter[tuple[RecipeStep, ...]] = TypeAdapter(tuple[RecipeStep, ...])

Scale = Literal["quick", "paper"]


class ArmSpec(Options):
    """One recipe, tried at every level of the grid that it mentions."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    label: str
    role: Literal["baseline", "main", "control"] = "main"
    recipe: tuple[Mapping[str, Any] | str, ...] = Field(min_length=1)
    """Steps, or names of parts; a value ``"$name"`` is one of the grid's or of the scale's."""


class ScaleSpec(Options):
    """How large a study is run."""

    seeds: PositiveInt
    values: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    """What a reader of the report must know: what was shortened or chosen."""


class StudySpec(Options):
    """A study file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    question: str
    data: DataSpec
    network: NetworkSpec
    measure: MeasureSpec = MeasureSpec()
    precision: Precision = "float32"
    grid: Mapping[str, tuple[float, ...]] = Field({"sparsity": ()}, min_length=1, max_length=1)
    scales: Mapping[Scale, ScaleSpec] = Field(min_length=1)
    parts: Mapping[str, tuple[Mapping[str, Any], ...]] = {}
    """Steps that several recipes have in common, by name."""
    arms: tuple[ArmSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _arms_and_levels_differ(self) -> "StudySpec":
        for what, names in (
            ("arm", [arm.name for arm in self.arms]),
            ("label", [arm.label for arm in self.arms]),
            ("level", [str(level) for level in self.levels]),
        ):
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{what} {twice[0]!r} is given twice")
        baselines = [arm.name for arm in self.arms if arm.role == "baseline"]
        if len(baselines) > 1:
            raise ValueError(f"there can be one baseline, not {' and '.join(baselines)}")
        for arm in self.arms:
            if not self.levels and self.axis in mentioned(list(arm.recipe)):
                raise ValueError(f"grid.{self.axis} is empty, but arm {arm.name} needs its values")
            for part in arm.recipe:
                if isinstance(part, str) and part not in self.parts:
                    known = ", ".join(self.parts) or "none"
                    raise ValueError(f"arm {arm.name} has {part!r}, which is no part ({known})")
        return self

    def steps_of(self, arm: ArmSpec) -> list[Mapping[str, Any]]:
        """Return an arm's steps with its parts written out, values not yet resolved."""
        return [
            step
            for part in arm.recipe
            for step in (self.parts[part] if isinstance(part, str) else (part,))
        ]

    @property
    def axis(self) -> str:
        """The name of the grid's variable."""
        return next(iter(self.grid))

    @property
    def levels(self) -> tuple[float, ...]:
        """The values of the grid's variable."""
        return next(iter(self.grid.values()))


def builtin_names() -> tuple[str, ...]:
    """Return the names of the built-in studies.

    Examples
    --------
    >>> "weight-vs-unit" in builtin_names()
    True
    """
    folder = resources.files("gossamer.studies") / "builtin"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir()))


def read_study(name: str) -> tuple[StudySpec, str]:
    """Return a built-in study, or the study in a TOML file, and the text it was read from.

    Raises
    ------
    InputError
        If there is no such study, or its file is not as it should be; the sentence names the
        field.
    """
    text = _study_text(name)
    try:
        spec = StudySpec.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the study {name} is no valid TOML: {error}") from error
    except ValidationError as error:
        raise InputError(f"the study {name}: {_first_problem(error)}") from error
    return _with_data_beside(spec, Path(name).parent), text


def _with_data_beside(spec: StudySpec, folder: Path) -> StudySpec:
    """Let a file of arrays be named from where the study file lies, too."""
    beside = folder / spec.data.name
    if spec.data.name.endswith(".npz") and not Path(spec.data.name).exists() and beside.is_file():
        data = spec.data.model_copy(update={"name": str(beside)})
        return spec.model_copy(update={"data": data})
    return spec


def _study_text(name: str) -> str:
    if name in builtin_names():
        file = resources.files("gossamer.studies") / "builtin" / f"{name}.toml"
        return file.read_text(encoding="utf-8")
    if not name.endswith(".toml"):
        close = difflib.get_close_matches(name, builtin_names(), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(
            f"there is no study {name!r}{hint}: choose one of {', '.join(builtin_names())}, or "
            "give a .toml file"
        )
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the study file {name} cannot be read: {error}") from error


def resolve_recipe(
    arm: str, steps: Sequence[Mapping[str, Any]], values: Mapping[str, Any]
) -> tuple[RecipeStep, ...]:
    """Return an arm's steps with every ``"$name"`` replaced by its value.

    Raises
    ------
    InputError
        If a value is not given, or a step is not as it should be; the sentence names arm, step
        and field.
    """
    resolved = [_substituted(step, values, f"arm {arm}") for step in steps]
    try:
        return _STEPS.validate_python(resolved)
    except ValidationError as error:
        raise InputError(f"arm {arm}, recipe: {_first_problem(error)}") from error


def mentioned(value: object) -> set[str]:
    """Return the names that a recipe mentions as ``"$name"``.

    Examples
    --------
    >>> sorted(mentioned([{"epochs": "$epochs", "batch": 10}, "$rate"]))
    ['epochs', 'rate']
    """
    if isinstance(value, str):
        return {value[1:]} if value.startswith("$") else set()
    if isinstance(value, Mapping):
        return set().union(*map(mentioned, value.values()))
    if isinstance(value, Sequence):
        return set().union(*map(mentioned, value))
    return set()


def _substituted(value: Any, values: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] not in values:
            raise InputError(
                f"{where} mentions {value}, which is no value of the grid or of the scale; these "
                f"are {', '.join(sorted(values)) or 'none'}"
            )
        return values[value[1:]]
    if isinstance(value, Mapping):
        return {name: _substituted(v, values, where) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_substituted(v, values, where) for v in value]
    return value


def _first_problem(error: ValidationError) -> str:
    """Say the first problem of a validation in one sentence, with the field's path."""
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"]) or "the file"
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float) else ""
    more = f"; {error.error_count() - 1} more problems" if error.error_count() > 1 else ""
    return f"{path}: {message}{shown}{more}"


class _PublishedTable(Options):
    """One measure at several levels, a row for each arm."""

    measure: str
    percent: bool = False
    levels: tuple[float, ...]
    arms: Mapping[str, tuple[float, ...]]

    def figures(self) -> list[PublishedFigure]:
        """Return the table cell by cell, as fractions."""
        unit = 100 if self.percent else 1
        return [
            PublishedFigure(arm=arm, measure=self.measure, level=level, value=value / unit)
            for arm, row in self.arms.items()
            for level, value in zip(self.levels, row, strict=True)
        ]


class _PublishedFile(Options):
    source: str
    defects: tuple[str, ...] = ()
    tables: tuple[_PublishedTable, ...]


def published_figures(name: str) -> Published | None:
    """Return the published figures of a built-in study; None for a study that has none."""
    file = resources.files("gossamer.studies") / "published" / f"{name}.toml"
    if not file.is_file():
        return None
    content = _PublishedFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    return Published(
        source=content.source,
        defects=content.defects,
        figures=tuple(figure for table in content.tables for figure in table.figures()),
    )

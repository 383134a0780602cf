"""A study as its file says it: data, network, arms and scales."""

import difflib
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PositiveInt, ValidationError, model_validator

from gossamer.core.errors import InputError
from gossamer.core.system import failure_reason
from gossamer.networks import NetworkSpec
from gossamer.recipes import DataSpec, SampleSpec, Step
from gossamer.records.record import Claim
from gossamer.studies.claim_spec import ClaimSpec, Level, Line, Paragraph
from gossamer.studies.error_recovery import mended
from gossamer.studies.spec_checks import check_study, recipe_errors
from gossamer.studies.study_errors import (
    StudyFileError,
    StudyFileErrors,
    located,
    study_file_errors,
)
from gossamer.studies.toml_syntax import syntax_problem
from gossamer.studies.validation_problems import Place, problems
from gossamer.studies.written_recipes import (
    Cookbook,
    PlacedStep,
    PlacedValue,
    SourceSpec,
    WrittenStep,
    check_together,
    mentioned,
    resolve_recipe,
)
from gossamer.training.options import Options, Precision

Scale = Literal["quick", "medium", "paper"]
"""How large a study is run, from the smallest on."""


class ArmSpec(Options):
    """One recipe, tried at every level of the grid that it mentions."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """What claims, tables and files call it: small letters, digits and dashes."""
    label: Line
    """What figures and sentences call it."""
    role: Literal["baseline", "main", "control"] = "main"
    """The "baseline" is what all others are compared to, at most one; a "control" could explain an
    effect away, and is drawn as such."""
    recipe: tuple[WrittenStep | str, ...] = Field(min_length=1)
    """Steps, or names of parts; a value ``"$name"`` is one of the grid's or of the scale's."""
    data: Mapping[str, Any] = {}
    """What of the study's data is otherwise in this arm."""
    network: NetworkSpec | None = None
    """Its own network; None for the study's."""
    scales: tuple[Scale, ...] = get_args(Scale)
    """The scales at which it is run."""


class ScaleSpec(Options):
    """How large a study is run."""

    seeds: PositiveInt
    """How many seeds every arm is run with, unless the command says otherwise; even where leakage
    is measured."""
    values: Mapping[str, Any] = {}
    """What recipes mention as `"$name"` at this scale."""
    levels: tuple[Level, ...] | None = Field(None, min_length=1)
    """The values of the grid that are run; None for all of them."""
    data: Mapping[str, Any] = {}
    """What of the data is otherwise at this scale, such as the size of the pool."""
    precision: Precision | None = None
    """What trainings at this scale compute in; None for what the study says."""
    notes: tuple[Line, ...] = ()
    """What a reader of the report must know: what was shortened or chosen."""


class LatencySpec(Options):
    """Which networks are timed, and how."""

    arms: tuple[str, ...] = Field(min_length=1)
    """Each is timed beside the baseline, which is timed by itself, too."""
    levels: tuple[Level, ...] = ()
    """Where on the grid; empty for everywhere that the arms are."""
    batch: PositiveInt = 64
    """Examples that are predicted at once."""
    threads: PositiveInt = 1
    """One leaves no doubt: more, and idle threads of PyTorch may disturb those of the engine."""


class StudySpec(Options):
    """A study file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Names the folder of its results: small letters, digits and dashes."""
    title: Line
    """Heads the report."""
    question: Paragraph
    """What the study asks, in a sentence or two."""
    data: DataSpec
    """What all arms are trained and tested on, unless they say otherwise."""
    network: NetworkSpec
    """What all arms train, unless they say otherwise."""
    measure: SampleSpec = SampleSpec()
    """How much of the data networks are measured on."""
    precision: Precision = "float32"
    """What trainings compute in: "float32", or "bf16" for bfloat16 autocast over float32 weights.
    """
    leakage: Literal["paired-halves"] | None = None
    """Attack every network with the networks of the other seeds: seeds 2j and 2j + 1 train on
    complementary halves of the pool."""
    grid: Mapping[Line, tuple[Level, ...]] = Field({"sparsity": ()}, min_length=1, max_length=1)
    """The one variable that recipes are tried at several values of, by name."""
    scales: Mapping[Scale, ScaleSpec] = Field(min_length=1)
    """How large the study is run, by name; at least one of quick, medium and paper."""
    parts: Mapping[str, tuple[WrittenStep, ...]] = {}
    """Steps that several recipes have in common, by name."""
    sources: Mapping[str, SourceSpec] = {}
    """Recipes that ``{ step = "transfer", source = "name" }`` borrows a mask from."""
    arms: tuple[ArmSpec, ...] = Field(min_length=1)
    """The recipes that are compared."""
    claims: tuple[ClaimSpec, ...] = ()
    """What the report judges."""
    overlaps: tuple[tuple[str, str], ...] = ()
    """Pairs of arms whose masks are compared, seed by seed."""
    latency: LatencySpec | None = None
    """Time predictions, once everything is trained and measured."""

    @model_validator(mode="after")
    def _its_parts_go_together(self) -> "StudySpec":
        check_study(self)
        return self

    @property
    def axis(self) -> str:
        """The name of the grid's variable."""
        return next(iter(self.grid))

    @property
    def levels(self) -> tuple[float, ...]:
        """The values of the grid's variable."""
        return next(iter(self.grid.values()))

    def levels_at(self, scale: Scale) -> tuple[float, ...]:
        """Return the grid's values that are run at a scale."""
        levels = self.scales[scale].levels
        return self.levels if levels is None else levels

    def precision_at(self, scale: Scale) -> Precision:
        """Return what trainings at a scale compute in."""
        return self.scales[scale].precision or self.precision

    def arm(self, name: str) -> ArmSpec:
        """Return the arm of a name that there is."""
        return next(arm for arm in self.arms if arm.name == name)

    def claims_at(self, scale: Scale) -> tuple[Claim, ...]:
        """Return the claims about arms that are run at a scale."""
        there = {arm.name for arm in self.arms if scale in arm.scales}
        claims = [claim.resolved() for claim in self.claims]
        return tuple(c for c in claims if {c.compare, *c.against} <= there)

    @property
    def baseline(self) -> ArmSpec | None:
        """The arm that the others are compared to."""
        return next((arm for arm in self.arms if arm.role == "baseline"), None)

    @property
    def cookbook(self) -> Cookbook:
        """The parts and sources that recipes call by name."""
        return Cookbook(self.parts, self.sources)

    def steps_of(self, arm: ArmSpec) -> list[PlacedStep]:
        """Return an arm's steps, its parts and sources written out, values not yet put in."""
        return self.cookbook.written_out(
            arm.recipe, f"arm {arm.name}", self.place_of(arm, "recipe")
        )

    def varies(self, arm: ArmSpec) -> bool:
        """Whether an arm's recipe mentions the grid's variable."""
        return self.axis in mentioned([one.step for one in self.steps_of(arm)])

    def recipe_of(self, arm: ArmSpec, scale: Scale, level: float) -> tuple[Step, ...]:
        """Return the steps of an arm at a scale and a level.

        Raises
        ------
        InputError
            If a value is not given, a step is not as it should be, or steps do not go together.
        """
        placed = self.steps_of(arm)
        steps = resolve_recipe(arm.name, placed, self._values(scale, level))
        check_together(arm.name, steps, placed, self.data_of(arm, scale).validation)
        return steps

    def _values(self, scale: Scale, level: float) -> dict[str, PlacedValue]:
        """Return what recipes may mention, and where the file has it."""
        at = (self.levels.index(level),) if level in self.levels else ()
        return {
            name: PlacedValue(value, ("scales", scale, "values", name))
            for name, value in self.scales[scale].values.items()
        } | {self.axis: PlacedValue(level, ("grid", self.axis, *at))}

    def data_of(self, arm: ArmSpec, scale: Scale) -> DataSpec:
        """Return the data of an arm at a scale."""
        half = {"pool": "half"} if self.leakage else {}
        changed = {**half, **self.scales[scale].data, **arm.data}
        return DataSpec.model_validate({**self.data.model_dump(), **changed})

    def place_of(self, arm: ArmSpec, *fields: str) -> Place:
        """Return where the file has a field of an arm."""
        position = next(n for n, one in enumerate(self.arms) if one is arm)
        return ("arms", position, *fields)

    def data_place(self, arm: ArmSpec, scale: Scale, field: str) -> Place:
        """Return where the file says a field of an arm's data at a scale."""
        if field in arm.data:
            return self.place_of(arm, "data", field)
        if field in self.scales[scale].data:
            return ("scales", scale, "data", field)
        return ("data", field)

    def network_place(self, arm: ArmSpec) -> Place:
        """Return where the file says which network an arm has, by its name unless a fault says."""
        return ("network", "name") if arm.network is None else self.place_of(arm, "network", "name")


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
        field and its line.
    """
    text = _study_text(name)
    try:
        spec = _validated(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        line, problem = syntax_problem(text, error)
        raise InputError(f"the study {name}, line {line}: {problem}") from error
    except RecursionError as error:
        raise InputError(f"the study {name} nests arrays or tables too deeply") from error
    except StudyFileError as error:
        raise located(error, name, text) from error
    return _with_data_beside(spec, Path(name).parent), text


def _validated(content: Mapping[str, Any]) -> StudySpec:
    """Return the study that a file holds.

    Raises
    ------
    StudyFileError
        With all that is wrong with it.
    """
    found: list[StudyFileError] = []
    there: Mapping[str, Any] | None = content
    while there is not None:
        try:
            spec = StudySpec.model_validate(there)
        except ValidationError as error:
            refusal = study_file_errors(error, StudySpec)
            if str(refusal) in map(str, found):
                break  # mending one thing brought another back
            found.append(refusal)
            there = mended(there, problems(error, (StudySpec,)), StudySpec)
            continue
        if not found:
            return spec
        found += recipe_errors(spec)
        break
    raise StudyFileErrors(found)


def _with_data_beside(spec: StudySpec, folder: Path) -> StudySpec:
    """Let files of arrays be named from where the study file lies, too."""

    def found(name: str) -> str:
        beside = folder / name
        there = name.endswith(".npz") and not Path(name).exists() and beside.is_file()
        return str(beside) if there else name

    def renamed(data: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**data, "name": found(data["name"])} if "name" in data else data

    return spec.model_copy(
        update={
            "data": spec.data.model_copy(update={"name": found(spec.data.name)}),
            "scales": {
                name: scale.model_copy(update={"data": renamed(scale.data)})
                for name, scale in spec.scales.items()
            },
            "arms": tuple(arm.model_copy(update={"data": renamed(arm.data)}) for arm in spec.arms),
            "sources": {
                name: source.model_copy(update={"data": source.data and found(source.data)})
                for name, source in spec.sources.items()
            },
        }
    )


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
    except UnicodeDecodeError as error:
        raise InputError(f"the study file {name} is no text: save it as UTF-8") from error
    except OSError as error:
        raise InputError(
            f"the study file {name} cannot be read ({failure_reason(error)})"
        ) from error

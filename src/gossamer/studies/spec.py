"""A study as its file says it: data, network, arms and scales."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from gossamer.errors import InputError
from gossamer.nets import NetworkSpec
from gossamer.recipes import DataSpec, MeasureSpec, RecipeStep
from gossamer.records.record import Claim, ControlComparison
from gossamer.studies.complaints import (
    ArmError,
    Misplaced,
    Place,
    at_line,
    first_problem,
    place_of,
    said,
)
from gossamer.train.options import Options, Precision

_STEPS: TypeAdapter[tuple[RecipeStep, ...]] = TypeAdapter(tuple[RecipeStep, ...])

Scale = Literal["quick", "paper"]
Above = tuple[str, ...]


class ArmSpec(Options):
    """One recipe, tried at every level of the grid that it mentions."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    label: str
    role: Literal["baseline", "main", "control"] = "main"
    recipe: tuple[Mapping[str, Any] | str, ...] = Field(min_length=1)
    """Steps, or names of parts; a value ``"$name"`` is one of the grid's or of the scale's."""
    data: Mapping[str, Any] = {}
    """What of the study's data is otherwise in this arm."""
    network: NetworkSpec | None = None
    """Its own network; None for the study's."""
    scales: tuple[Scale, ...] = ("quick", "paper")
    """The scales at which it is run."""


class ScaleSpec(Options):
    """How large a study is run."""

    seeds: PositiveInt
    values: Mapping[str, Any] = {}
    levels: tuple[float, ...] | None = Field(None, min_length=1)
    """The values of the grid that are run; None for all of them."""
    data: Mapping[str, Any] = {}
    """What of the data is otherwise at this scale, such as the size of the pool."""
    notes: tuple[str, ...] = ()
    """What a reader of the report must know: what was shortened or chosen."""


class SourceSpec(Options):
    """A recipe that masks are borrowed from."""

    recipe: tuple[Mapping[str, Any] | str, ...] = Field(min_length=1)
    data: str | None = None
    """Its dataset; None for that of the arm that borrows."""
    seed_offset: NonNegativeInt = 1000


class ClaimSpec(Options):
    """A claim as the file has it; see `gossamer.records.record.Claim`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9'-]*$")
    text: str
    says: Literal["higher", "lower", "not-lower", "not-higher", "on-par"]
    compare: str
    against: Annotated[tuple[str, ...], Field(min_length=1)] | str
    measure: str = "test_accuracy"
    levels: tuple[float, ...] = ()
    against_level: float | None = None
    over: Literal["each", "any", "mean"] = "each"
    matched_on: str | None = None
    margin: NonNegativeFloat | None = None
    """None for 0.005, half a point of accuracy, or 0.01 of an attack's; 0.02 for "on-par"."""
    control: ControlComparison | None = None

    def resolved(self) -> Claim:
        """Return the claim with its defaults."""
        against = (self.against,) if isinstance(self.against, str) else self.against
        margin = self._default_margin() if self.margin is None else self.margin
        return Claim(**{**self.model_dump(), "against": against, "margin": margin})

    def arms(self) -> Iterator[tuple[str, str]]:
        """Yield every arm that the claim is about, with the field that says so."""
        yield "compare", self.compare
        yield from (("against", arm) for arm in self.resolved().against)
        if self.control is not None:
            yield from (("control", self.control.compare), ("control", self.control.against))

    def fixed_levels(self) -> Iterator[tuple[str, float]]:
        """Yield every level that the claim names, with the field that says so."""
        yield from (("levels", level) for level in self.levels)
        if self.against_level is not None:
            yield "against_level", self.against_level

    def _default_margin(self) -> float:
        if self.says == "on-par":
            return 0.02
        return 0.005 if self.measure.startswith(("train_", "validation_", "test_")) else 0.01


class StudySpec(Options):
    """A study file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    question: str
    data: DataSpec
    network: NetworkSpec
    measure: MeasureSpec = MeasureSpec()
    precision: Precision = "float32"
    leakage: Literal["paired-halves"] | None = None
    """Attack every network with the networks of the other seeds: seeds 2j and 2j + 1 train on
    complementary halves of the pool."""
    grid: Mapping[str, tuple[float, ...]] = Field({"sparsity": ()}, min_length=1, max_length=1)
    scales: Mapping[Scale, ScaleSpec] = Field(min_length=1)
    parts: Mapping[str, tuple[Mapping[str, Any], ...]] = {}
    """Steps that several recipes have in common, by name."""
    sources: Mapping[str, SourceSpec] = {}
    """Recipes that ``{ step = "transfer", source = "name" }`` borrows a mask from."""
    arms: tuple[ArmSpec, ...] = Field(min_length=1)
    claims: tuple[ClaimSpec, ...] = ()
    overlaps: tuple[tuple[str, str], ...] = ()
    """Pairs of arms whose masks are compared, seed by seed."""

    @model_validator(mode="after")
    def _arms_and_levels_differ(self) -> "StudySpec":
        for what, names, field in (
            ("arm", [arm.name for arm in self.arms], "arms"),
            ("label", [arm.label for arm in self.arms], "arms"),
            ("claim", [claim.name for claim in self.claims], "claims"),
        ):
            for position, name in enumerate(names):
                if name in names[:position]:
                    raise Misplaced(f"{what} {name!r} is given twice", field, position)
        for level in self.levels:
            if self.levels.count(level) > 1:
                raise Misplaced(f"level '{level}' is given twice", "grid", self.axis)
        baselines = [n for n, arm in enumerate(self.arms) if arm.role == "baseline"]
        if len(baselines) > 1:
            named = " and ".join(self.arms[n].name for n in baselines)
            raise Misplaced(f"there can be one baseline, not {named}", "arms", baselines[1])
        for name, scale in self.scales.items():
            for level in scale.levels or ():
                if level not in self.levels:
                    raise Misplaced(f"{level} is not in the grid", "scales", name, "levels")
        return self

    @model_validator(mode="after")
    def _changes_of_the_data_are_possible(self) -> "StudySpec":
        changes: list[tuple[str, str | int, Mapping[str, Any]]] = [
            *(("scales", name, scale.data) for name, scale in self.scales.items()),
            *(("arms", position, arm.data) for position, arm in enumerate(self.arms)),
        ]
        for what, which, changed in changes:
            try:
                DataSpec.model_validate({"name": self.data.name, **changed})
            except ValidationError as error:
                problem = error.errors()[0]
                raise Misplaced(said(problem), what, which, "data", *problem["loc"]) from error
        return self

    @model_validator(mode="after")
    def _halves_are_complementary(self) -> "StudySpec":
        if self.leakage is None:
            return self
        for arm in self.arms:
            for scale in self.scales:
                data = self.data_of(arm, scale)
                if data.pool == "half" and data.validation and data.validation_from == "train":
                    raise Misplaced(
                        f"arm {arm.name} trains on complementary halves of the pool, and what is "
                        'held out would be missing: use validation_from = "test", or 0',
                        *("data", "validation"),
                    )
        return self

    @model_validator(mode="after")
    def _recipes_can_be_written_out(self) -> "StudySpec":
        for name, source in self.sources.items():
            self._written_out(source.recipe, f"source {name}", ("sources", name, "recipe"), (name,))
        for position, arm in enumerate(self.arms):
            steps = self._written_out(
                arm.recipe, f"arm {arm.name}", ("arms", position, "recipe"), ()
            )
            if not self.levels and self.axis in mentioned(steps):
                raise Misplaced(f"it is empty, but arm {arm.name} needs it", "grid", self.axis)
            own = (None, arm.data.get("name", self.data.name))
            attacked = self.leakage and arm.data.get("pool", "half") == "half"
            if attacked and any(_borrows(step, own) for step in steps):
                # The source would have trained on examples that count as non-members here.
                message = (
                    "with leakage a mask cannot come from another seed's half of the same data: "
                    "let its source have seed_offset = 0, or data of its own"
                )
                raise Misplaced(message, "arms", position, "recipe")
        return self

    @model_validator(mode="after")
    def _claims_are_about_arms(self) -> "StudySpec":
        names = [arm.name for arm in self.arms]
        for position, claim in enumerate(self.claims):
            for field, arm in claim.arms():
                if arm not in names:
                    message = f"claim {claim.name} is about {arm!r}, which is no arm"
                    raise Misplaced(message, "claims", position, field)
            if claim.against_level is None and claim.compare in claim.resolved().against:
                message = f"claim {claim.name} compares {claim.compare!r} with itself"
                raise Misplaced(message, "claims", position, "against")
            for field, level in claim.fixed_levels():
                if level not in (0, *self.levels):
                    message = f"claim {claim.name} looks at {level}, which is not in the grid"
                    raise Misplaced(message, "claims", position, field)
        for arm in (arm for pair in self.overlaps for arm in pair):
            if arm not in names:
                raise Misplaced(f"{arm!r} is no arm", "overlaps")
        return self

    def claims_at(self, scale: Scale) -> tuple[Claim, ...]:
        """Return the claims about arms that are run at a scale."""
        there = {arm.name for arm in self.arms if scale in arm.scales}
        claims = [claim.resolved() for claim in self.claims]
        return tuple(c for c in claims if {c.compare, *c.against} <= there)

    def steps_of(self, arm: ArmSpec) -> list[Mapping[str, Any]]:
        """Return an arm's steps, its parts and sources written out, values not yet resolved."""
        return self._written_out(arm.recipe, f"arm {arm.name}", ("arms",), ())

    def _written_out(
        self, recipe: Sequence[Mapping[str, Any] | str], owner: str, place: Place, above: Above
    ) -> list[Mapping[str, Any]]:
        """Write out a recipe; `above` are the sources that it is itself written out for."""
        steps: list[Mapping[str, Any]] = []
        for part in recipe:
            if isinstance(part, str) and part not in self.parts:
                known = ", ".join(self.parts) or "none"
                raise Misplaced(f"{owner} has {part!r}, which is no part ({known})", *place)
            steps += self.parts[part] if isinstance(part, str) else (part,)
        return [self._with_source(step, owner, place, above) for step in steps]

    def _with_source(
        self, step: Mapping[str, Any], owner: str, place: Place, above: Above
    ) -> Mapping[str, Any]:
        name = step.get("source")
        if not isinstance(name, str):
            return step
        if name not in self.sources:
            known = ", ".join(self.sources) or "none"
            raise Misplaced(f"{owner} borrows from {name!r}, which is no source ({known})", *place)
        if name in above:
            circle = " from ".join([*above[above.index(name) :], name])
            raise Misplaced(f"sources borrow in a circle: {circle}", *place)
        source = self.sources[name]
        inner = ("sources", name, "recipe")
        recipe = self._written_out(source.recipe, f"source {name}", inner, (*above, name))
        return {**step, "source": {**source.model_dump(), "recipe": recipe}}

    def data_of(self, arm: ArmSpec, scale: Scale) -> DataSpec:
        """Return the data of an arm at a scale."""
        half = {"pool": "half"} if self.leakage else {}
        changed = {**half, **self.scales[scale].data, **arm.data}
        return DataSpec.model_validate({**self.data.model_dump(), **changed})

    def levels_at(self, scale: Scale) -> tuple[float, ...]:
        """Return the grid's values that are run at a scale."""
        levels = self.scales[scale].levels
        return self.levels if levels is None else levels

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
        where = at_line(text, place_of(error))
        raise InputError(f"the study {name}{where}: {first_problem(error)}") from error
    return _with_data_beside(spec, Path(name).parent), text


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
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the study file {name} cannot be read: {error}") from error


def located(error: "ArmError", name: str, spec: StudySpec, text: str) -> InputError:
    """Return an error about an arm with the line of the study's text that it is about.

    Parameters
    ----------
    error
        What is wrong.
    name, spec, text
        The study as `read_study` was given it, and what this returned.
    """
    position = [arm.name for arm in spec.arms].index(error.arm)
    where = at_line(text, ("arms", position, "recipe"))
    return InputError(f"the study {name}{where}: {error}")


def resolve_recipe(
    arm: str, steps: Sequence[Mapping[str, Any]], values: Mapping[str, Any]
) -> tuple[RecipeStep, ...]:
    """Return an arm's steps with every ``"$name"`` replaced by its value.

    Raises
    ------
    ArmError
        If a value is not given, or a step is not as it should be; the sentence names arm, step
        and field.
    """
    try:
        return _STEPS.validate_python([_substituted(step, values) for step in steps])
    except _UnknownValue as error:
        raise ArmError(arm, str(error)) from error
    except ValidationError as error:
        raise ArmError(arm, first_problem(error)) from error


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


def _borrows(step: Mapping[str, Any], data: Sequence[str | None]) -> bool:
    """Tell whether a step borrows a mask from another seed on one of these datasets."""
    source = step.get("source")
    return bool(source and source["data"] in data and source["seed_offset"])


class _UnknownValue(Exception):  # noqa: N818 - turned into an `ArmError` at once
    pass


def _substituted(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] not in values:
            raise _UnknownValue(
                f"it mentions {value}, which is no value of the grid or of the scale; these "
                f"are {', '.join(sorted(values)) or 'none'}"
            )
        return values[value[1:]]
    if isinstance(value, Mapping):
        return {name: _substituted(v, values) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_substituted(v, values) for v in value]
    return value

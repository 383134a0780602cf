"""Recipes as a study file has them, written out: parts, sources and values put in."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from gossamer.core.errors import InputError
from gossamer.recipes.steps import STEPS, Lender, Step, any_step, check_recipe
from gossamer.studies.study_errors import ErrorCollector, StudyFileError, StudyFileErrors, path_text
from gossamer.studies.validation_problems import Place, Problem, hint, problems

WrittenStep = Mapping[str, Any]
"""A step of which ``"$name"`` stands for a value of the grid or of the scale."""


class SourceSpec(Lender):
    """A recipe that masks are borrowed from."""

    recipe: tuple[WrittenStep | str, ...] = Field(min_length=1)
    """Steps, or names of parts."""


@dataclass(frozen=True)
class PlacedStep:
    """A step that is written out, and where the file has it."""

    step: WrittenStep
    place: Place


@dataclass(frozen=True)
class Cookbook:
    """What the recipes of a study call by name."""

    parts: Mapping[str, Sequence[WrittenStep]]
    sources: Mapping[str, SourceSpec]

    def written_out(
        self,
        recipe: Sequence[WrittenStep | str],
        owner: str,
        place: Place,
        above: tuple[str, ...] = (),
    ) -> list[PlacedStep]:
        """Write a recipe out; `above` are the sources that it is itself written out for.

        Raises
        ------
        StudyFileError
            If it names a part or a source that there is not, or sources borrow in a circle.
        """
        errors, steps = ErrorCollector(), list[PlacedStep]()
        for position, part in enumerate(recipe):
            here = (*place, position)
            for one in self._steps_of(part, here):
                with errors.collecting(*one.place):
                    steps.append(self._with_source(one, owner, above))
            if isinstance(part, str) and part not in self.parts:
                errors.found.append(
                    _no_such(f"{owner} has {part!r}", "part", part, self.parts, here)
                )
        errors.raise_all()
        return steps

    def _steps_of(self, part: WrittenStep | str, here: Place) -> list[PlacedStep]:
        """Return a step, or those of a part that there is."""
        if not isinstance(part, str):
            return [PlacedStep(part, here)]
        each = enumerate(self.parts.get(part, ()))
        return [PlacedStep(step, ("parts", part, number)) for number, step in each]

    def _with_source(self, one: PlacedStep, owner: str, above: tuple[str, ...]) -> PlacedStep:
        name = one.step.get("source")
        if not isinstance(name, str):
            return one
        if name not in self.sources:
            raise _no_such(
                f"{owner} borrows from {name!r}", "source", name, self.sources, one.place
            )
        if name in above:
            circle = " from ".join([*above[above.index(name) :], name])
            raise StudyFileError(f"sources borrow in a circle: {circle}", *one.place)
        source, place = self.sources[name], ("sources", name, "recipe")
        inner = self.written_out(source.recipe, f"source {name}", place, (*above, name))
        lent = {**source.model_dump(), "recipe": [step.step for step in inner]}
        return PlacedStep({**one.step, "source": lent}, one.place)


def _no_such(
    message: str, kind: str, name: str, known: Mapping[str, object], place: Place
) -> StudyFileError:
    names = hint(name, known) or f" ({', '.join(known) or 'none'})"
    return StudyFileError(f"{message}, which is no {kind}{names}", *place)


@dataclass(frozen=True)
class PlacedValue:
    """A value of the grid or of a scale, and where the file has it."""

    value: Any
    place: Place


def resolve_recipe(
    arm: str, steps: Sequence[PlacedStep], values: Mapping[str, PlacedValue]
) -> tuple[Step, ...]:
    """Return an arm's steps with every ``"$name"`` replaced by its value.

    Raises
    ------
    StudyFileError
        If values are not given, or steps are not as they should be: all that is wrong, each with
        arm, step and field; of a value, where the value stands.
    """
    errors, resolved = ErrorCollector(), list[Step]()
    for number, one in enumerate(steps, start=1):
        with errors.collecting(*one.place):
            resolved.append(_resolved(f"arm {arm}, step {number}", one, values))
    errors.raise_all()
    return tuple(resolved)


def _resolved(owner: str, one: PlacedStep, values: Mapping[str, PlacedValue]) -> Step:
    if unknown := sorted(mentioned(one.step) - values.keys()):
        raise StudyFileErrors([_unknown_value(owner, one, name, values) for name in unknown])
    step = _substituted(one.step, values)
    try:
        return any_step().validate_python(step)
    except ValidationError as error:
        first = error
    found = problems(first, list(STEPS.values()))
    told = {each.place: each for each in (*_behind(step, found), *found)}
    errors = [_placed_error(owner, one, each, values) for each in told.values()]
    raise StudyFileErrors(errors) from first


def _behind(step: Any, found: Sequence[Problem]) -> list[Problem]:
    """Return what else is wrong with a step, once the misspelt kinds of its tables are mended."""
    misspelt = [one for one in found if one.kind == "union_tag_invalid" and one.meant]
    for one in misspelt:
        if not isinstance(table := _at(step, one.place), dict):
            return []
        table.update({key: one.meant for key in ("step", "name") if key in table})
    if not misspelt:
        return []
    try:
        any_step().validate_python(step)
    except ValidationError as error:
        return problems(error, list(STEPS.values()))
    return []


def _unknown_value(
    owner: str, one: PlacedStep, name: str, values: Mapping[str, PlacedValue]
) -> StudyFileError:
    near = hint(name, values) or f"; these are {', '.join(sorted(values)) or 'none'}"
    what = f"it mentions ${name}, which is no value of the grid or of the scale{near}"
    return StudyFileError(f"{owner}: {what}", *one.place, what=what)


def _placed_error(
    owner: str, one: PlacedStep, problem: Problem, values: Mapping[str, PlacedValue]
) -> StudyFileError:
    """Return the error of a field of a step, or of the value of grid or scale that it takes."""
    kind, field = one.step.get("step"), path_text(problem.place)
    whose = f"{owner} ({kind})" if isinstance(kind, str) else owner
    whose = f"{whose}, {field}" if field else whose
    written = _at(one.step, problem.place)
    if isinstance(written, str) and written[1:] in values and written.startswith("$"):
        place = values[written[1:]].place
        return StudyFileError(
            f"{path_text(place)}: {problem.text}; it is for {whose}", *place, what=problem.text
        )
    return StudyFileError(f"{whose}: {problem.text}", *one.place, *problem.place, what=problem.text)


def _at(value: Any, place: Place) -> Any:
    """Return what stands at a place of a written step; None where nothing does."""
    for part in place:
        with suppress(LookupError, TypeError):
            value = value[part]
            continue
        return None
    return value


def check_together(
    arm: str, steps: Sequence[Step], placed: Sequence[PlacedStep], validation: float
) -> None:
    """Refuse steps that do not go together.

    Raises
    ------
    StudyFileError
        At the first step that does not go with those before it; see `check_recipe`.
    """
    for count, one in enumerate(placed, start=1):
        try:
            check_recipe(steps[:count], validation)
        except InputError as error:
            raise StudyFileError(f"arm {arm}: {error}", *one.place) from error


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


def _substituted(value: Any, values: Mapping[str, PlacedValue]) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        return values[value[1:]].value
    if isinstance(value, Mapping):
        return {name: _substituted(v, values) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_substituted(v, values) for v in value]
    return value

"""Recipes as a study file has them, written out: parts, sources and values put in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from gossamer.errors import InputError
from gossamer.recipes import (
    Pack,
    Prune,
    RecipeStep,
    Regrow,
    Rewind,
    Train,
    Transfer,
    check_recipe,
)
from gossamer.recipes.steps import Lender
from gossamer.studies.complaints import StudyFileError, path_text
from gossamer.studies.problems import Place, first_problem, hint

_STEP: TypeAdapter[RecipeStep] = TypeAdapter(RecipeStep)
_KINDS = (Train, Prune, Regrow, Rewind, Pack, Transfer)

WrittenStep = Mapping[str, Any]
"""A step of which ``"$name"`` stands for a value of the grid or of the scale."""


class SourceSpec(Lender):
    """A recipe that masks are borrowed from."""

    recipe: tuple[WrittenStep | str, ...] = Field(min_length=1)


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
        steps: list[PlacedStep] = []
        for position, part in enumerate(recipe):
            here = (*place, position)
            if not isinstance(part, str):
                steps.append(PlacedStep(part, here))
            elif part in self.parts:
                each = enumerate(self.parts[part])
                steps += [PlacedStep(step, ("parts", part, number)) for number, step in each]
            else:
                raise _no_such(f"{owner} has {part!r}", "part", part, self.parts, here)
        return [self._with_source(one, owner, above) for one in steps]

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


def resolve_recipe(
    arm: str, steps: Sequence[PlacedStep], values: Mapping[str, Any]
) -> tuple[RecipeStep, ...]:
    """Return an arm's steps with every ``"$name"`` replaced by its value.

    Raises
    ------
    StudyFileError
        If a value is not given, or a step is not as it should be; the sentence names arm, step
        and field.
    """
    return tuple(
        _resolved(f"arm {arm}, step {number}", one, values)
        for number, one in enumerate(steps, start=1)
    )


def _resolved(owner: str, one: PlacedStep, values: Mapping[str, Any]) -> RecipeStep:
    try:
        return _STEP.validate_python(_substituted(one.step, values))
    except _UnknownValue as error:
        raise StudyFileError(f"{owner}: {error}", *one.place) from error
    except ValidationError as error:
        first = first_problem(error, _KINDS)
        kind, field = one.step.get("step"), path_text(first.place)
        where = f"{owner} ({kind})" if isinstance(kind, str) else owner
        where = f"{where}, {field}" if field else where
        raise StudyFileError(f"{where}: {first.text}", *one.place, *first.place) from error


def check_together(
    arm: str, steps: Sequence[RecipeStep], placed: Sequence[PlacedStep], validation: float
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


class _UnknownValue(Exception):  # noqa: N818 - turned into a `StudyFileError` at once
    pass


def _substituted(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        name = value[1:]
        if name not in values:
            raise _UnknownValue(
                f"it mentions {value}, which is no value of the grid or of the scale"
                + (hint(name, values) or f"; these are {', '.join(sorted(values)) or 'none'}")
            )
        return values[name]
    if isinstance(value, Mapping):
        return {name: _substituted(v, values) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_substituted(v, values) for v in value]
    return value

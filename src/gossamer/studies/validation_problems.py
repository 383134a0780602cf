"""What a validation found, in plain words, the cause before what follows from it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gossamer.core.errors import InputError
from gossamer.core.formats import likeliest, percentage
from gossamer.recipes.spellings import Spelled

Place = tuple[str | int, ...]
"""Where in a study file a field stands: keys and positions in arrays."""

Models = Sequence[type[BaseModel]]

_BRANCH = re.compile(r".*[\[\]].*|str|int|float|bool")
"""What pydantic calls the alternatives of a union, which no file holds."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    place: Place
    text: str
    """What is wrong there, and what was given if that is short."""
    kind: str = ""
    """What pydantic calls this kind of problem."""
    meant: str | None = None
    """The key or the word that was misspelt there, as it should be; None where none is like it."""
    cause: Exception | None = None
    """The error that a check raised, if it was one."""
    words: tuple[str, ...] = ()
    """The words, or the keys, that there could be."""


def problems(error: ValidationError, models: Models) -> list[Problem]:
    """Return what a validation found, each field once: misspelt keys first, missing ones last.

    What follows from something else is left out: an array that is too short because of what its
    elements are, and a key that is missing because it is misspelt.

    Parameters
    ----------
    error
        What pydantic found.
    models
        What it should have been, or one of them: their fields are what a misspelt key may mean.
    """
    meant: dict[Place, Place] = {}
    errors = [each for each in error.errors() if not _follows(each)]
    for each in errors:
        field, loc = _without_branches(each["loc"]), each["loc"]
        # Of the alternatives of a union, the one that got furthest is what was meant.
        if field not in meant or len(loc) > len(meant[field]):
            meant[field] = loc
    told = [each for each in errors if _is_of(each["loc"], meant[_without_branches(each["loc"])])]
    order = sorted(told, key=lambda each: _ORDER.get(each["type"], 1))
    found = [_problem(each, models) for each in order]
    misspelt = {(*one.place[:-1], one.meant) for one in found if one.kind == "extra_forbidden"}
    return [one for one in found if one.kind != "missing" or one.place not in misspelt]


_ORDER = {"extra_forbidden": 0, "missing": 2}


def _is_of(loc: Place, meant: Place) -> bool:
    """Whether a problem is of the alternative that was meant."""
    branch = len(_without_branches(meant)) + 1
    return loc[:branch] == meant[:branch]


def _follows(each: Mapping[str, Any]) -> bool:
    """Whether an array is too short only because its elements are wrong."""
    return each["type"] == "too_short" and bool(each["input"])


def _without_branches(loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """Return where a problem is, up to the first union on the way."""
    branches = [
        n for n, part in enumerate(loc) if isinstance(part, str) and _BRANCH.fullmatch(part)
    ]
    return tuple(loc[: branches[0]] if branches else loc)


def _problem(each: Mapping[str, Any], models: Models) -> Problem:
    place, there = _walk(each["loc"], models)
    cause = each.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        place = (*place, *cause.fields)
    known = _known(each, there)
    given = place[-1] if each["type"] == "extra_forbidden" else _given(each)
    meant = likeliest(given, known) if isinstance(given, str) else None
    return Problem(place, _text(each, place, known), each["type"], meant, cause, tuple(known))


def _known(each: Mapping[str, Any], there: Models) -> list[str]:
    """Return the keys or words that could stand there, if there are few."""
    context = each.get("ctx", {})
    if each["type"] == "extra_forbidden":
        return sorted({name for one in there for name in one.model_fields})
    return re.findall("'([^']*)'", context.get("expected_tags") or context.get("expected") or "")


def _given(each: Mapping[str, Any]) -> Any:
    return each["ctx"]["tag"] if each["type"] == "union_tag_invalid" else each["input"]


def _walk(loc: Sequence[str | int], models: Models) -> tuple[Place, Models]:
    """Follow pydantic's path; return it without what no file holds, and the last models on it."""
    place: list[str | int] = []
    for part in loc:
        if isinstance(part, int):
            place.append(part)
        elif fields := [m.model_fields[part] for m in models if part in m.model_fields]:
            place.append(part)
            models = [model for one in fields for model in _models(one)] or models
        elif tagged := [model for model in models if part in _tags(model)]:
            models = tagged
        elif not _BRANCH.fullmatch(part):
            place.append(part)
    return tuple(place), models


def _models(field: FieldInfo) -> Iterator[type[BaseModel]]:
    """Yield the models that a field may hold, such as those of a union.

    One without fields, such as a step of any kind, stands for its kinds.
    """
    yield from _named_in(field.annotation)
    for spelled in field.metadata:
        if isinstance(spelled, Spelled):
            yield from spelled.tables.values()


def _named_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from [annotation] if annotation.model_fields else annotation.__subclasses__()
    for part in get_args(annotation):
        yield from _named_in(part)


def _tags(model: type[BaseModel]) -> set[Any]:
    """Return the values that tell a model from the others of its union."""
    return {
        field.default for field in model.model_fields.values() if isinstance(field.default, str)
    }


_SENTENCES = {
    "missing": "it is missing",
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must be small letters, digits and hyphens only",
    "tuple_type": "must be a list in square brackets",
    "list_type": "must be a list in square brackets",
    "dict_type": "must be a table, such as {{ key = value }}",
    "mapping_type": "must be a table, such as {{ key = value }}",
    "model_type": "must be a table, such as {{ key = value }}",
    "model_attributes_type": "must be a table, such as {{ key = value }}",
    "too_short": "must not be empty",
    "too_long": "holds too much: at most {max_length}",
    "union_tag_not_found": "needs a {discriminator}, which says what it is",
    "union_tag_invalid": "must be one of {expected_tags}, not {tag!r}",
}
"""By pydantic's kind of error, what is said of it."""


def _text(each: Mapping[str, Any], place: Place, known: Sequence[str]) -> str:
    kind, context, given = each["type"], each.get("ctx", {}), each["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        near = hint(str(place[-1]), known)
        return f"there is no such key{near or '; the keys are ' + ', '.join(known)}"
    if kind == "union_tag_invalid":
        return f"{_SENTENCES[kind].format(**context)}{hint(str(context['tag']), known)}"
    plain = str(each["msg"]).replace("Input should be", "must be")
    text = _SENTENCES.get(kind, plain.replace("{", "{{").replace("}", "}}")).format(**context)
    if isinstance(given, bool | str | int | float):
        text = f"{text} (given: {_written(given)})"
    if isinstance(given, str):
        return f"{text}{hint(given, known)}"
    return f"{text}{percentage(given) if _may_be_percentage(given, place) else ''}"


def _may_be_percentage(given: Any, place: Place) -> bool:
    """Whether a number is likely a share in percent; 1.1 is rather one that is a bit too big."""
    return bool(_SHARES & set(place)) and isinstance(given, Real) and float(given) >= 2


_SHARES = {"sparsity", "allocation", "validation"}
"""Fields that people give in percent."""


def _written(given: bool | str | float) -> str:
    """Return a value as the file has it."""
    if isinstance(given, bool):
        return str(given).lower()
    whole = isinstance(given, float) and given.is_integer()  # a level, which the file has as 80
    return f"{given:g}" if whole else repr(given)


def hint(given: str, known: Iterable[str]) -> str:
    """Return a hint at the name that is most like a misspelt one; nothing if none is.

    Examples
    --------
    >>> hint("wieght", ["dense", "weight"]), hint("zebra", ["dense", "weight"])
    (": did you mean 'weight'?", '')
    >>> hint("ERK", ["erk"])
    ": did you mean 'erk'?"
    """
    meant = likeliest(given, known)
    return "" if meant is None else f": did you mean {meant!r}?"

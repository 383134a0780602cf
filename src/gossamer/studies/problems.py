"""What a validation found, in plain words, the cause before what follows from it."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gossamer.formats import counted

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
    cause: Exception | None = None
    """The error that a check raised, if it was one."""


def first_problem(error: ValidationError, models: Models) -> Problem:
    """Return the problem of a validation to tell of, with the number of others in its text.

    Parameters
    ----------
    error
        What pydantic found.
    models
        What it should have been, or one of them: their fields are what a misspelt key may mean.
    """
    first, *others = problems(error, models)
    more = f"; {counted(len(others), 'more problem')}" if others else ""
    return replace(first, text=f"{first.text}{more}")


def problems(error: ValidationError, models: Models) -> list[Problem]:
    """Return what a validation found, each field once: misspelt keys first, missing ones last.

    A key that is missing, or an array that is too short, often follows from something else.
    """
    meant: dict[tuple[str | int, ...], Mapping[str, Any]] = {}
    for each in error.errors():
        field = _without_branches(each["loc"])
        # Of the alternatives of a union, the one that got furthest is what was meant.
        further = field not in meant or len(each["loc"]) > len(meant[field]["loc"])
        if further and not _follows(each):
            meant[field] = each
    order = sorted(meant.values(), key=lambda each: _ORDER.get(each["type"], 1))
    return [_problem(each, models) for each in order]


_ORDER = {"extra_forbidden": 0, "missing": 2}


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
    return Problem(place, _text(each, place, there), cause)


def _walk(loc: Sequence[str | int], models: Models) -> tuple[Place, Models]:
    """Follow pydantic's path; return it without what no file holds, and the last models on it."""
    place: list[str | int] = []
    for part in loc:
        if isinstance(part, int):
            place.append(part)
        elif fields := [m.model_fields[part].annotation for m in models if part in m.model_fields]:
            place.append(part)
            models = [model for one in fields for model in _models(one)] or models
        elif tagged := [model for model in models if part in _tags(model)]:
            models = tagged
        elif not _BRANCH.fullmatch(part):
            place.append(part)
    return tuple(place), models


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names, such as those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


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


def _text(each: Mapping[str, Any], place: Place, there: Models) -> str:
    kind, context, given = each["type"], each.get("ctx", {}), each["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return _unknown_key(str(place[-1]), {name for one in there for name in one.model_fields})
    if kind == "union_tag_invalid":
        tags = re.findall("'([^']*)'", context["expected_tags"])
        return f"{_SENTENCES[kind].format(**context)}{hint(str(context['tag']), tags)}"
    plain = str(each["msg"]).replace("Input should be", "must be")
    text = _SENTENCES.get(kind, plain.replace("{", "{{").replace("}", "}}")).format(**context)
    return f"{text} (given: {given!r})" if isinstance(given, str | int | float) else text


def _unknown_key(key: str, known: Iterable[str]) -> str:
    return f"there is no such key{hint(key, known) or '; the keys are ' + ', '.join(sorted(known))}"


def hint(given: str, known: Iterable[str]) -> str:
    """Return a hint at the name that is most like a misspelt one; nothing if none is.

    Examples
    --------
    >>> hint("wieght", ["dense", "weight"]), hint("zebra", ["dense", "weight"])
    (": did you mean 'weight'?", '')
    """
    nearest = difflib.get_close_matches(given, sorted(known), n=1)
    return f": did you mean {nearest[0]!r}?" if nearest else ""

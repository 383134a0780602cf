"""Mending what is plainly meant in a faulty study file, to see what else is wrong with it.

A file that does not even have the right fields cannot be checked further: which arms a claim is
about, say, is known only of arms that there are. What is mended here is never run.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

from pydantic import BaseModel, ValidationError

from gossamer.studies.study_errors import path_text
from gossamer.studies.validation_problems import Place, Problem, problems

_OUT_OF_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
_OF_ONE_VALUE = _OUT_OF_BOUNDS | {
    *("bool_type", "bool_parsing", "int_type", "int_parsing", "int_from_float"),
    *("float_type", "float_parsing", "finite_number"),
}
_UNMENTIONED = {"title", "question", "label", "text"}
"""Texts that nothing refers to."""
_OFF = {"claims", "overlaps", "latency"}
"""Parts of a file without which the others are as they were."""
_STANDING_IN = 2
"""A number that most fields can have."""


def mended(raw: Any, found: Sequence[Problem], model: type[BaseModel]) -> Any | None:
    """Return the content of a file with every problem mended; None if one cannot be.

    Only what changes nothing else is mended: a misspelt key or word, a key too many, and a number,
    a word or a text that nothing refers to. Of claims that cannot be, none is looked at.

    Parameters
    ----------
    raw
        What was read of the file.
    found
        What is wrong with it.
    model
        What it should be.
    """
    content = deepcopy(raw)
    for problem in found:
        part = problem.place[0] if problem.place else None
        if part in _OFF and part not in content:
            continue
        if _mend(content, problem, model):
            continue
        if part not in _OFF:
            return None
        del content[part]
    return content


def _mend(content: Any, problem: Problem, model: type[BaseModel]) -> bool:
    """Mend one problem in place, and tell whether that could be done."""
    *above, last = problem.place or (None,)
    holder = _at(content, tuple(above)) if problem.place else None
    if isinstance(holder, list) and isinstance(last, int) and problem.place[0] == "grid":
        holder[last] = _level(holder[last], last)
        return True
    if not isinstance(holder, dict):
        return False
    if last in _UNMENTIONED and problem.kind in ("missing", "string_type"):
        holder[last] = f"text {path_text(problem.place)}"
        return True
    if last not in holder:
        return False
    if problem.kind == "extra_forbidden":
        value = holder.pop(last)
        if problem.meant is not None:
            holder.setdefault(problem.meant, value)
        return True
    if problem.kind == "literal_error" and problem.words:
        holder[last] = problem.meant or problem.words[0]
        return True
    if problem.kind not in _OF_ONE_VALUE:
        return False
    ways: tuple[Callable[[], Any], ...] = (
        lambda: holder.pop(last),
        lambda: holder.__setitem__(last, _STANDING_IN),
    )
    return any(_helps(way, content, problem.place, model) for way in ways)


def _level(given: Any, position: int) -> float:
    """Return the level that a percentage means, or one that stands in for what is none."""
    with suppress(ValueError, AttributeError):
        return float(given.rstrip().removesuffix("%")) / 100
    return 0.0123 + 0.001 * position


def _helps(way: Callable[[], Any], content: Any, place: Place, model: type[BaseModel]) -> bool:
    way()
    try:
        model.model_validate(content)
    except ValidationError as error:
        return all(one.place != place for one in problems(error, (model,)))
    return True


def _at(content: Any, place: Place) -> Any:
    for part in place:
        with suppress(LookupError, TypeError):
            content = content[part]
            continue
        return None
    return content

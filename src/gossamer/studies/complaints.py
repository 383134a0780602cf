"""Complaints about a study file: what is wrong, in which field, on which line."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gossamer.errors import InputError
from gossamer.formats import counted
from gossamer.studies.toml_lines import line_of

Place = tuple[str | int, ...]
"""Where in a study file a field stands: keys and positions in arrays."""


class Misplaced(ValueError):  # noqa: N818 - pydantic makes a validation error of it
    """Something that is wrong at a place of the file other than where validation found it."""

    def __init__(self, message: str, *place: str | int) -> None:
        super().__init__(message)
        self.place = place


class ArmError(InputError):
    """Something in an arm's recipe that is wrong once the values of a scale are put in."""

    def __init__(self, arm: str, message: str) -> None:
        super().__init__(f"arm {arm}, recipe: {message}")
        self.arm = arm


def at_line(text: str, place: Place) -> str:
    """Return ``", line 7"`` for a place of a study file; nothing if it is not found."""
    line = line_of(text, place)
    return "" if line is None else f", line {line}"


def place_of(error: ValidationError) -> Place:
    """Return where in the file the first problem of a validation is."""
    problem = error.errors()[0]
    cause = problem.get("ctx", {}).get("error")
    return cause.place if isinstance(cause, Misplaced) else problem["loc"]


def first_problem(error: ValidationError) -> str:
    """Say the first problem of a validation in one sentence, with the field's path."""
    path = ".".join(str(part) for part in place_of(error)) or "the file"
    others = error.error_count() - 1
    more = f"; {counted(others, 'more problem')}" if others else ""
    return f"{path}: {said(error.errors()[0])}{more}"


def said(problem: Mapping[str, Any]) -> str:
    """Say what is wrong with a field, and what was given if that is short."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = problem.get("input")
    return f"{message} (given: {given!r})" if isinstance(given, str | int | float) else message

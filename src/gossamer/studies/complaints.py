"""Complaints about a study file: what is wrong, in which field, on which line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import BaseModel, ValidationError

from gossamer.errors import InputError
from gossamer.studies.problems import Place, first_problem
from gossamer.studies.toml_lines import line_of


class StudyFileError(InputError):
    """Something that is wrong at a place of the study file."""

    def __init__(self, message: str, *place: str | int) -> None:
        super().__init__(message)
        self.place: Place = place


@contextmanager
def complaining_at(*place: str | int) -> Iterator[None]:
    """Give what is wrong inside the block its place in the file, unless it has one already."""
    try:
        yield
    except StudyFileError:
        raise
    except InputError as error:
        raise StudyFileError(str(error), *place) from error


def located(error: StudyFileError, name: str, text: str) -> InputError:
    """Return an error with the study's name and the line of its text that it is about."""
    line = line_of(text, error.place)
    return InputError(f"the study {name}{'' if line is None else f', line {line}'}: {error}")


def complaint(error: ValidationError, model: type[BaseModel]) -> StudyFileError:
    """Return the first problem of a validation as one sentence, with the field's path."""
    first = first_problem(error, (model,))
    place = first.cause.place if isinstance(first.cause, StudyFileError) else first.place
    return StudyFileError(f"{path_text(place) or 'the file'}: {first.text}", *place)


def path_text(place: Sequence[str | int]) -> str:
    """Return the path of a field as a reader counts: elements of arrays from 1.

    Examples
    --------
    >>> path_text(("arms", 0, "recipe", 1, "sparsity")), path_text(())
    ('arms.1.recipe.2.sparsity', '')
    """
    parts = [str(part + 1) if isinstance(part, int) else part for part in place]
    return ".".join(parts)

"""ErrorCollector about a study file: what is wrong, in which field, on which line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import BaseModel, ValidationError

from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.studies.toml_lines import line_of
from gossamer.studies.validation_problems import Place, problems


class StudyFileError(InputError):
    """Something that is wrong at a place of the study file.

    Parameters
    ----------
    message
        What a reader is told.
    place
        Where in the file it is.
    what
        What is wrong without whose it is, by which one fault that several arms share is known to
        be one; None for the message.
    """

    def __init__(self, message: str, *place: str | int, what: str | None = None) -> None:
        super().__init__(message)
        self.place: Place = place
        self.what = message if what is None else what

    @property
    def each(self) -> tuple["StudyFileError", ...]:
        """The single faults that it consists of."""
        return (self,)


class StudyFileErrors(StudyFileError):  # noqa: N818 - several of them
    """Several things that are wrong in a study file, to be told of at once."""

    def __init__(self, found: Sequence[StudyFileError]) -> None:
        super().__init__("; ".join(map(str, found)))
        self._found = tuple(one for error in found for one in error.each)

    @property
    def each(self) -> tuple[StudyFileError, ...]:
        """The single faults that it consists of."""
        return self._found


@contextmanager
def placing_errors(*place: str | int) -> Iterator[None]:
    """Give what is wrong inside the block its place in the file, unless it has one already.

    An error that names fields itself is about those, beside the last one of the place.
    """
    try:
        yield
    except StudyFileError:
        raise
    except InputError as error:
        fields = (*place[:-1], *error.fields) if error.fields else place
        raise StudyFileError(str(error), *fields) from error


class ErrorCollector:
    """Gathers what is wrong in a study file, so that all of it can be told at once."""

    def __init__(self) -> None:
        self.found: list[StudyFileError] = []

    @contextmanager
    def collecting(self, *place: str | int) -> Iterator[None]:
        """Note what is wrong inside the block, which ends there, and go on after it."""
        try:
            with placing_errors(*place):
                yield
        except StudyFileError as error:
            self.found += [one for one in error.each if not self._has(one)]

    def _has(self, one: StudyFileError) -> bool:
        """Return whether what an error comes from was noted before, at another place."""
        cause = one.__cause__
        return cause is not None and any(known.__cause__ is cause for known in self.found)

    def raise_all(self) -> None:
        """Raise what was noted, if anything was.

        Raises
        ------
        StudyFileError
            With every single fault.
        """
        if self.found:
            raise StudyFileErrors(self.found)


def located(error: StudyFileError, name: str, text: str) -> InputError:
    """Return an error with the study's name and the lines of its text that it is about.

    Several faults stand line by line, in the order of the file.
    """
    single = {(one.place, one.what): one for one in reversed(error.each)}
    lines = {one: line_of(text, one.place) for one in reversed(single.values())}
    if len(lines) == 1:
        ((one, line),) = lines.items()
        return InputError(f"the study {name}{'' if line is None else f', line {line}'}: {one}")
    ordered = sorted(lines.items(), key=lambda found: (found[1] or 0, _order(found[0].place)))
    told = [f"  {'' if line is None else f'line {line}: '}{one}" for one, line in ordered]
    return InputError("\n".join([f"the study {name} has {counted(len(told), 'problem')}:", *told]))


def _order(place: Place) -> list[str]:
    """Return what sorts the places of one line."""
    return [f"{part:09}" if isinstance(part, int) else part for part in place]


def study_file_errors(error: ValidationError, model: type[BaseModel]) -> StudyFileErrors:
    """Return the problems of a validation as sentences, with the paths of the fields."""
    found: list[StudyFileError] = []
    for problem in problems(error, (model,)):
        if isinstance(problem.cause, StudyFileError):  # of a check of the whole
            found += problem.cause.each
        else:
            message = f"{path_text(problem.place) or 'the file'}: {problem.text}"
            found.append(StudyFileError(message, *problem.place, what=problem.text))
    return StudyFileErrors(found)


def path_text(place: Sequence[str | int]) -> str:
    """Return the path of a field as a reader counts: elements of arrays from 1.

    Examples
    --------
    >>> path_text(("arms", 0, "recipe", 1, "sparsity")), path_text(())
    ('arms.1.recipe.2.sparsity', '')
    """
    parts = [str(part + 1) if isinstance(part, int) else part for part in place]
    return ".".join(parts)

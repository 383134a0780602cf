"""The file that an audit reads: one ``.npz`` of predictions, labels and memberships.

Headers are read before arrays: what the file claims to hold is compared with the memory there is,
and only then are arrays made. Whether the numbers make sense together is for the audit to say,
which is given arrays from elsewhere, too.
"""

import difflib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gossamer.core.arrays import (
    MAGIC,
    Header,
    StoredArray,
    entries,
    opened,
    read_header,
    read_numbers,
    readable,
)
from gossamer.core.errors import InputError
from gossamer.core.system import available_memory
from gossamer.records.leakage import Source

SCORES = ("logits", "probabilities")
"""What a model says of each example: the file holds one of these."""
REQUIRED = ("labels", "members")
OPTIONAL = ("pairs",)

WORKING_BYTES = 300
"""What an audit takes beside the arrays for each model and example, at its peak: statistics,
gathered margins, the scores of one attack with their ranks (256, measured with 16 models), and
the scores that are kept of every attack, four bytes each."""

_NAMES_SHOWN = 8


@dataclass(frozen=True)
class AuditInput:
    """What one file says, as `gossamer.audit` takes it."""

    logits: StoredArray
    """``[models, examples, classes]``, or ``[examples, classes]`` of one model; not read yet."""
    labels: NDArray[Any]
    """True classes, ``[examples]``."""
    members: NDArray[Any]
    """``[models, examples]`` or ``[examples]``: whether the model trained on the example."""
    pairs: NDArray[Any] | None
    """``[models]``: a number that the two models of a pair share; None if the file has none."""
    probabilities: bool
    """True if the first array holds probabilities."""
    source: Source
    """Name and SHA-256 of the file."""


@dataclass(frozen=True)
class Contents:
    """What a file declares to hold."""

    path: Path
    headers: Mapping[str, Header]
    """Of the arrays that an audit reads, by their names."""
    ignored: tuple[str, ...]
    """What the file holds beside them."""

    @property
    def scores(self) -> str:
        """Either "logits" or "probabilities"."""
        return next(name for name in SCORES if name in self.headers)

    @property
    def memory(self) -> int:
        """Bytes that reading and auditing the file take at most, about."""
        scores = self.headers[self.scores]
        others = sum(self.headers[name].size for name in self.headers if name != self.scores)
        held = scores.size if scores.column_major else 0
        return held + others + WORKING_BYTES * math.prod(scores.shape[:-1])


def read_archive(path: Path | str) -> AuditInput:
    """Read what an audit needs from an ``.npz`` file, but for the scores, which may be many.

    The file holds ``logits`` or ``probabilities``, ``[models, examples, classes]`` or
    ``[examples, classes]``, of any floating type; ``labels``, ``[examples]``, or any form that
    `gossamer.core.labels.read_labels` takes; ``members``,
    ``[models, examples]`` or ``[examples]``, booleans or 0 and 1; and, if models were trained in
    pairs on complementary halves, it may hold ``pairs``, ``[models]``.

    Parameters
    ----------
    path
        The file, as written by `numpy.savez` or `numpy.savez_compressed`.

    Returns
    -------
    AuditInput

    Raises
    ------
    InputError
        If the file cannot be read, lacks an array, holds Python objects, or an audit of it does
        not fit in memory. Shapes and numbers are checked by `gossamer.audit`, and the checksum of
        the scores, too.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(
    ...         f"{folder}/mine.npz",
    ...         logits=np.zeros((2, 4, 10), np.float16),
    ...         labels=np.array([3, 1, 4, 1]),
    ...         members=np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool),
    ...     )
    ...     found = read_archive(f"{folder}/mine.npz")
    >>> found.logits.shape, found.members.sum(), found.pairs, found.probabilities
    ((2, 4, 10), np.int64(4), None, False)
    """
    contents = read_contents(path)
    check_memory(contents)
    source = _source(contents.path)
    others = contents.headers.keys() - {contents.scores}
    arrays = {name: read_array(contents, name) for name in others}
    return AuditInput(
        StoredArray(contents.path, contents.scores, contents.headers[contents.scores]),
        arrays["labels"],
        arrays["members"],
        arrays.get("pairs"),
        contents.scores == "probabilities",
        source,
    )


def read_contents(path: Path | str) -> Contents:
    """Read what a file declares to hold, and check that it holds as many bytes.

    Raises
    ------
    InputError
        If the file cannot be read, lacks an array or holds Python objects.
    """
    path = Path(path)
    _check_is_file(path)
    with opened(path) as archive:
        held = entries(archive)
        wanted = _wanted(path, list(held))
        headers = {name: read_header(path, archive, name, held[name]) for name in wanted}
    ignored = tuple(_printable(name) for name in held if name not in wanted)
    return Contents(path, headers, ignored)


def read_array(contents: Contents, name: str) -> NDArray[Any]:
    """Read one array of a file whose contents were read before.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    with opened(contents.path) as archive:
        return read_numbers(archive, entries(archive)[name])


def check_memory(contents: Contents) -> None:
    """Refuse a file that would not fit in memory, before any of it is read.

    Raises
    ------
    InputError
        If it takes more than there is.
    """
    available = available_memory()
    if available is not None and contents.memory > available:
        header = contents.headers[contents.scores]
        fits = header.column_major and contents.memory - header.size <= available
        other = ", or save them by numpy.ascontiguousarray, to be read in parts" if fits else ""
        raise InputError(
            f"{contents.path}: auditing {contents.scores} of shape {list(header.shape)} takes "
            f"about {contents.memory / 2**30:,.1f} GiB of memory and {available / 2**30:,.1f} GiB "
            f"are available; audit fewer models or examples{other}."
        )


def _source(path: Path) -> Source:
    with readable(path), path.open("rb") as file:
        return Source(name=path.name, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _check_is_file(path: Path) -> None:
    with readable(path):
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no file" if path.exists() else "not there"
            raise InputError(f"{path}: is {found}, expected an .npz file written by numpy.savez.")
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
        if not start:
            raise InputError(f"{path}: is empty, expected an .npz file; write it again.")
        if start == MAGIC:
            raise InputError(
                f"{path}: is a single array, expected an .npz file of logits, labels and members; "
                "write it with numpy.savez."
            )


def _wanted(path: Path, names: list[str]) -> tuple[str, ...]:
    """Names of the arrays to read; complain of those missing, misspelt or one too many."""
    scores = [name for name in SCORES if name in names]
    if len(scores) == 2:
        raise InputError(
            f"{path}: holds both logits and probabilities, expected one of them; leave one out."
        )
    missing = [name for name in REQUIRED if name not in names]
    if not scores:
        missing.insert(0, "logits (or probabilities)")
    others = [name for name in names if name not in (*scores, *REQUIRED, *OPTIONAL)]
    optional = tuple(name for name in OPTIONAL if name in names)
    misspelt = [] if optional else [name for name in others if _similar(name, OPTIONAL)]
    if missing:
        raise InputError(
            f"{path}: lacks {', '.join(missing)}; it holds {_shown(names)}{_hint(others)}."
        )
    if misspelt:
        raise InputError(
            f"{path}: holds {_printable(misspelt[0])}, which is no array of an audit"
            f"{_hint(misspelt)}; rename it or leave it out."
        )
    return (*scores, *REQUIRED, *optional)


def _similar(name: str, wanted: tuple[str, ...]) -> list[str]:
    return difflib.get_close_matches(name.lower(), wanted, n=1, cutoff=0.7)


def _hint(names: list[str]) -> str:
    for name in names:
        if similar := _similar(name, (*SCORES, *REQUIRED, *OPTIONAL)):
            return f" (is {_printable(name)} meant to be {similar[0]}?)"
    return ""


def _shown(names: list[str]) -> str:
    shown = [_printable(name) for name in names[:_NAMES_SHOWN]]
    more = ["..."] if len(names) > _NAMES_SHOWN else []
    return ", ".join([*shown, *more]) or "nothing"


def _printable(name: str) -> str:
    """Return a name from outside as a terminal may show it."""
    return name if name.isprintable() else repr(name)

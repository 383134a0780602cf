"""The table of every example's scores, for whoever wants to look behind an audit's numbers."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import InputError
from gossamer.files import replacing
from gossamer.records.example_scores import ExampleScores
from gossamer.system import failure_reason

PLAIN_LINES = 200_000
"""More lines than this are compressed."""

_BLOCK = 10_000


def score_columns(scores: ExampleScores) -> tuple[str, ...]:
    """Return the names of the columns: what a line is about, then a column for each attack."""
    return ("model", "example", "label", "member", *scores.attacks)


def write_scores(scores: ExampleScores, folder: Path) -> Path:
    """Write ``scores.csv``, a line for each example of each model, or ``scores.csv.gz`` if long.

    Scores are written with seven digits, and left empty where an attack cannot judge an example.
    The same scores give the same bytes. An older table of the other name is removed.

    Parameters
    ----------
    scores
        Of every attack.
    folder
        Where the table goes; made if it is not there.

    Returns
    -------
    Path
        The table.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    plain, packed = folder / "scores.csv", folder / "scores.csv.gz"
    is_long = scores.members.size > PLAIN_LINES
    path, other = (packed, plain) if is_long else (plain, packed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            if is_long:
                with gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
                    stream.writelines(_blocks(scores))
            else:
                file.writelines(_blocks(scores))
        other.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"the table of scores {path} cannot be written ({failure_reason(error)}); "
            "a folder that can be written, with space left on its disk, is needed"
        ) from error
    return path


def _blocks(scores: ExampleScores) -> Iterator[bytes]:
    """Yield the table piece by piece: as text it takes more memory than the scores."""
    yield (",".join(score_columns(scores)) + "\n").encode()
    for row, model in enumerate(scores.models):
        columns = np.stack([found[row] for found in scores.attacks.values()], axis=1)
        for start in range(0, len(scores.labels), _BLOCK):
            part = slice(start, start + _BLOCK)
            text = io.StringIO()
            for example, (label, inside, values) in enumerate(
                zip(
                    scores.labels[part].tolist(),
                    scores.members[row, part].tolist(),
                    _texts(columns[part]),
                    strict=True,
                ),
                start,
            ):
                text.write(f"{model},{example},{label},{int(inside)},{values}\n")
            yield text.getvalue().encode()


def _texts(columns: NDArray[np.float32]) -> Iterator[str]:
    line = ",".join(["%.7g"] * columns.shape[1])
    for values in columns.tolist():
        yield (line % tuple(values)).replace("nan", "")

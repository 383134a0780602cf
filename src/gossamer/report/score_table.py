"""The table of every example's scores, for whoever wants to look behind an audit's numbers."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gossamer.records.example_scores import ExampleScores
from gossamer.report.files import whole

PLAIN_LINES = 200_000
"""More lines than this are compressed."""

_LEVEL = 3
"""Of compression: digits hardly get smaller beyond it, and take longer."""
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
    InputError, UnwritableError
        As `gossamer.report.files.whole`.
    """
    plain, packed = folder / "scores.csv", folder / "scores.csv.gz"
    is_long = scores.members.size > PLAIN_LINES
    path, other = (packed, plain) if is_long else (plain, packed)
    with whole(path) as temporary, temporary.open("wb") as file:
        if is_long:
            with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as stream:
                stream.writelines(_blocks(scores))
        else:
            file.writelines(_blocks(scores))
    other.unlink(missing_ok=True)
    return path


def _blocks(scores: ExampleScores) -> Iterator[bytes]:
    """Yield the table piece by piece: as text it takes more memory than the scores."""
    yield (",".join(score_columns(scores)) + "\n").encode()
    line = ",".join(["%d"] * 4 + ["%.7g"] * len(scores.attacks)) + "\n"
    examples = np.arange(len(scores.labels))
    for row, model in enumerate(scores.models):
        columns = [np.full_like(examples, model), examples, scores.labels, scores.members[row]]
        columns += [found[row] for found in scores.attacks.values()]
        for start in range(0, len(examples), _BLOCK):
            # float64 holds all of them; one format for many lines takes half the time.
            block = np.stack([column[start : start + _BLOCK] for column in columns], axis=1)
            numbers = tuple(block.astype(np.float64).ravel().tolist())
            yield (line * len(block) % numbers).replace("nan", "").encode()

"""What is written beside the page: tables of claims and attacks, and files that appear whole."""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gossamer.core.errors import InputError
from gossamer.core.files import replacing, unwritable
from gossamer.core.system import failure_reason
from gossamer.records.example_scores import ExampleScores
from gossamer.records.leakage import AttackResult, Estimate
from gossamer.reporting.claims import JudgedClaim
from gossamer.reporting.columns import IN_ATTACKS, IN_CLAIMS
from gossamer.reporting.leakage_tables import audited
from gossamer.reporting.results import Results


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file, renamed when it is written: no reader sees half of it.

    Raises
    ------
    InputError
        If there can be no such folder.
    UnwritableError
        If it cannot be written or its disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        known = unwritable(path.parent, error) if path.parent.is_dir() else None
        raise known or InputError(
            f"the file {path} cannot be written ({failure_reason(error)}); "
            "a folder that can be written, with space left on its disk, is needed"
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as a whole; errors are those of `whole`."""
    with whole(path) as temporary:
        temporary.write_bytes(content)


def claims_table(judged: Iterable[JudgedClaim]) -> str:
    """Return one line of CSV a comparison of each claim and control; empty without claims.

    Differences are in the unit of their measure, as fractions where it is one.
    """
    rows = [
        (one, role, row)
        for one in judged
        for role, row in [
            *(("claim", row) for row in one.comparisons),
            ("control", one.control_comparison),
        ]
        if row is not None
    ]
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in IN_CLAIMS)
    for one, role, row in rows:
        claim, interval = one.claim, row.interval
        control = claim.control.measure if claim.control and role == "control" else None
        ends = (interval.mean, interval.low, interval.high, interval.count) if interval else ()
        writer.writerow(
            [
                *(claim.name, claim.text, one.verdict, one.evidence, role, row.compare),
                " ".join(row.against),
                " ".join(f"{level:g}" for level in row.levels),
                *(control or claim.measure, claim.says, claim.margin),
                *("" if end is None else end for end in ends or [""] * 4),
                row.verdict or row.gap,
            ]
        )
    return text.getvalue()


ATTACK_COLUMNS = tuple(column.name for column in IN_ATTACKS)


def leakage_lines(results: Results) -> str:
    """Return one line of CSV a number of each attack of each audit; empty if there is none."""
    found = audited(results)
    if not found:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "level", *ATTACK_COLUMNS])
    for one in found:
        second = results.joint(one.arm, one.level, "releases")
        more = [attack for attack in (second.joint, second.foreign) if attack] if second else []
        lines = attack_lines([*one.leakage.attacks, *more], one.leakage.headline)
        writer.writerows([one.arm, one.level, *line] for line in lines)
    return text.getvalue()


def attack_lines(attacks: Iterable[AttackResult], headline: str) -> Iterator[list[object]]:
    """Yield one line a number of each attack, in the order of `ATTACK_COLUMNS`."""
    for attack in attacks:
        start: list[object] = [attack.name, attack.name == headline, attack.optimistic]
        for name in ("auc", "balanced_accuracy", "advantage"):
            yield [*start, name, "", "", *_ends(getattr(attack, name))]
        for at in attack.tpr_at:
            yield [*start, "tpr", at.fpr, at.realised_fpr, *_ends(at.tpr)]
            yield [*start, "curve_tpr", at.fpr, "", *_ends(at.curve_tpr)]


def _ends(estimate: Estimate) -> list[object]:
    low, high = ("" if end is None else end for end in (estimate.low, estimate.high))
    return [estimate.value, low, high, estimate.method]


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
        As `gossamer.reporting.files.whole`.
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

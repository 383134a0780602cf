"""What a store holds as lines of JSON, so that a part of a study can travel as a small text file.

Each line is one record, training, joint measure or study, with its checksum. Trained states and
statistics stay where they are: what is measured needs them no more.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gossamer.core.errors import InputError
from gossamer.core.system import failure_reason
from gossamer.records.checksums import checksum, is_whole
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record, StudyRun, Value
from gossamer.records.store import Store

_HEADER = '{"format": "gossamer store 1"}'
KINDS: dict[str, type[Value]] = {"phases": Phase, "records": Record, "joints": JointRecord}
"""What is told by a key."""


@dataclass(frozen=True)
class Contents:
    """What a store or such a file holds, by key."""

    phases: dict[str, Phase] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    joints: dict[str, JointRecord] = field(default_factory=dict)
    studies: list[StudyRun] = field(default_factory=list)
    """The one that was asked for last comes last."""
    damaged: list[str] = field(default_factory=list)
    """Sentences on what is left out."""


def contents_of(store: Store) -> Contents:
    """Return all that the database of a store holds and that is whole."""
    found = Contents(
        phases=store.phases(store.done_phases()),
        records=store.records(store.done_records()),
        joints=store.joints(store.done_joints()),
        studies=store.studies(),
    )
    found.damaged.extend(store.told())
    return found


def lines_of(contents: Contents) -> Iterator[str]:
    """Yield the lines of a file that `read_lines` reads.

    Examples
    --------
    >>> len(list(lines_of(Contents())))
    1
    """
    yield f"{_HEADER}\n"
    for kind in KINDS:
        for key, value in getattr(contents, kind).items():
            yield _line(kind, key, value)
    for study in contents.studies:
        yield _line("studies", "", study)


def _line(kind: str, key: str, value: Value) -> str:
    text = value.model_dump_json()
    return f"{_start(kind, key, checksum(kind, key, text.encode()))}{text}}}\n"


def _start(kind: str, key: str, found: str) -> str:
    return f'{{"kind": "{kind}", "key": "{key}", "checksum": "{found}", "value": '


def read_lines(path: Path) -> Contents:
    """Read such a file; lines that are not what was written are left out.

    Raises
    ------
    InputError
        If it cannot be read, or is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({failure_reason(error)})") from error
    if not lines or lines[0] != _HEADER:
        raise InputError(f"{path}: expected a file that `gossamer store export` wrote as .jsonl")
    found = Contents()
    rest = enumerate(lines[1:], 2)
    bad = [number for number, line in rest if line and not _take(line, found)]
    if bad:
        found.damaged.append(_left_out(path, bad))
    return found


def _take(line: str, found: Contents) -> bool:
    """Add what a line holds; tell whether it is what was written."""
    try:
        parsed: dict[str, Any] = json.loads(line)
        kind, key, seal = parsed["kind"], parsed["key"], parsed["checksum"]
        text = line[len(_start(kind, key, seal)) : -1]
        if not is_whole(kind, key, text.encode(), seal):
            return False
        if kind == "studies":
            found.studies.append(StudyRun.model_validate_json(text))
        else:
            getattr(found, kind)[key] = KINDS[kind].model_validate_json(text)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return False
    return True


def _left_out(path: Path, numbers: Iterable[int]) -> str:
    shown = ", ".join(f"{number}" for number in numbers)
    return f"Damaged in {path}, and so left out: line {shown}."

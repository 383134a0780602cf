"""The folder of what is damaged: nothing is deleted, and nobody reads there by mistake."""

import json
from collections.abc import Iterable
from pathlib import Path

DAMAGED = "damaged"


def set_aside(folder: Path, path: Path) -> None:
    """Move a file of a store to its folder of what is damaged, under a name that is free.

    Raises
    ------
    OSError
        If it cannot be moved.
    """
    (folder / DAMAGED).mkdir(exist_ok=True)
    path.replace(_free(folder / DAMAGED / f"{path.parent.name}-{path.name}"))


def set_rows_aside(folder: Path, table: str, rows: Iterable[tuple[bytes, ...]]) -> None:
    """Write rows of a store's database to a file in its folder of what is damaged.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    (folder / DAMAGED).mkdir(exist_ok=True)
    path = _free(folder / DAMAGED / f"{table}.jsonl")
    lines = [json.dumps([value.decode("utf-8", "backslashreplace") for value in r]) for r in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _free(path: Path) -> Path:
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found

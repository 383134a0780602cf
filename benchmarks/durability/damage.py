"""Damage a store in every way, run its study again, and compare every number with a quiet run.

    python -m benchmarks.durability.damage --flips 1000 --others 300

A bit is flipped in the database, a trained state or a file of statistics; or two files or rows
change places, one is cut, or one is gone. The store is that of a study in the middle, of one whose
networks are measured but not attacked together, or of a finished one. Then the study is run, as
often as something fails. Written are the counts of wrong numbers, of tracebacks, of dead ends (a
study that three runs do not finish), and of damage that was told of.
"""

import argparse
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._common import write_result
from benchmarks.durability._small_study import failures, numbers, run, write_study
from gossamer.core.errors import GossamerError
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record
from gossamer.studies.tasks import Event

_MOST_RUNS = 3


@dataclass(frozen=True)
class Snapshots:
    """The folders that are damaged, and what a quiet run finds."""

    study: Path
    folders: dict[str, Path]
    expected: dict[str, Any]


def snapshots(folder: Path) -> Snapshots:
    """Run the study, to its end and until it is stopped in between."""
    study = write_study(folder)
    run(study, folder / "finished")
    run(study, folder / "half", lambda events: _made(events, Phase | Record) >= 7)
    run(study, folder / "measured", lambda events: _made(events, JointRecord) >= 1)
    with sqlite3.connect(folder / "measured" / "store.sqlite") as database:
        database.execute("DELETE FROM joints")
    database.close()
    names = ("half", "measured", "finished")
    return Snapshots(study, {name: folder / name for name in names}, numbers(folder / "finished"))


def _made(events: list[Event], kind: Any) -> int:
    return sum(isinstance(event, kind) for event in events)


def flip(folder: Path, draw: random.Random) -> str:
    """Flip a bit of a file; return which kind of file it was."""
    files = _files(folder)
    kind = draw.choice([kind for kind, some in files.items() if some])
    path = draw.choice(files[kind])
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return kind


def swap(folder: Path, draw: random.Random) -> str:
    """Have two files or rows of a kind change places."""
    files = _files(folder)
    kinds = [kind for kind, some in files.items() if len(some) > 1]
    kind = draw.choice([*kinds, "database"])
    if kind == "database":
        _swap_rows(folder, draw)
        return kind
    one, other = draw.sample(files[kind], 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return kind


def _swap_rows(folder: Path, draw: random.Random) -> None:
    with sqlite3.connect(folder / "store.sqlite") as database:
        table = draw.choice(("records", "phases"))
        rows = database.execute(f"SELECT key, json, checksum FROM {table}").fetchall()
        (one, *first), (other, *second) = draw.sample(rows, 2)
        change = f"UPDATE {table} SET json = ?, checksum = ? WHERE key = ?"
        database.execute(change, (*second, one))
        database.execute(change, (*first, other))
    database.close()


def cut(folder: Path, draw: random.Random) -> str:
    """Cut a file short."""
    files = _files(folder)
    kind = draw.choice([kind for kind, some in files.items() if some])
    path = draw.choice(files[kind])
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])
    return kind


def delete(folder: Path, draw: random.Random) -> str:
    """Delete a file."""
    files = _files(folder)
    kind = draw.choice([kind for kind, some in files.items() if some])
    draw.choice(files[kind]).unlink()
    return kind


def _files(folder: Path) -> dict[str, list[Path]]:
    return {
        "database": [folder / "store.sqlite"],
        "states": sorted((folder / "states").glob("*.safetensors")),
        "statistics": sorted((folder / "statistics").glob("*.safetensors")),
    }


def outcome(seen: Snapshots, folder: Path) -> str:
    """Run the study in a damaged folder until nothing fails; say what came of it."""
    told: list[str] = []
    try:
        for _ in range(_MOST_RUNS):
            events, said = run(seen.study, folder)
            told += said
            if not failures(events):
                break
        else:
            return "dead end"
        found = numbers(folder)
    except GossamerError as error:
        return f"dead end ({error})"
    except Exception as error:  # noqa: BLE001 - what is counted
        return f"traceback ({type(error).__name__}: {error})"
    if found != seen.expected:
        return "wrong number"
    return "right, and told" if told else "right"


def campaign(
    seen: Snapshots, damage: Callable[[Path, random.Random], str], count: int, folder: Path
) -> Counter[str]:
    """Damage a copy of a snapshot so many times; count what came of which file of which one."""
    found: Counter[str] = Counter()
    for number in range(count):
        draw = random.Random(f"{damage.__name__} {number}")
        name = draw.choice(sorted(seen.folders))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(seen.folders[name], folder)
        kind = damage(folder, draw)
        result = outcome(seen, folder)
        if not result.startswith("right"):
            print(f"{damage.__name__} {number} of {kind}, {name}: {result}", flush=True)
            shutil.copytree(folder, folder.with_name(f"bad-{damage.__name__}-{number}"))
        found[f"{kind}, {name}: {result.partition(' (')[0]}"] += 1
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--others", type=int, default=300)
    options = parser.parse_args()
    started, outcomes = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as name:
        seen = snapshots(Path(name))
        outcomes["flip"] = campaign(seen, flip, options.flips, Path(name) / "damaged")
        for damage in (swap, cut, delete):
            count = options.others // 3
            outcomes[damage.__name__] = campaign(seen, damage, count, Path(name) / "damaged")
    every = Counter[str]()
    for found in outcomes.values():
        for what, times in found.items():
            every[what.rpartition(": ")[2]] += times
    result = {
        "command": f"python -m benchmarks.durability.damage --flips {options.flips} "
        f"--others {options.others}",
        "seconds": round(time.monotonic() - started),
        "in all": dict(sorted(every.items())),
        "wrong numbers": every["wrong number"],
        "tracebacks": every["traceback"],
        "dead ends": every["dead end"],
        "by damage": {name: dict(sorted(found.items())) for name, found in outcomes.items()},
    }
    print(write_result("durability-damage", 1, result))


if __name__ == "__main__":
    main()

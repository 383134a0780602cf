"""What lies in the folder of a store: how much of what, who needs it, and whether it is whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.records.record import StudyRun
from gossamer.records.setting_aside import DAMAGED
from gossamer.records.store import Store
from gossamer.studies.damage import StoredFile

Follow = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Files:
    """How many files of a kind there are, and how large they are together."""

    count: int = 0
    size: int = 0

    @classmethod
    def of(cls, paths: list[Path]) -> "Files":
        """Count files."""
        return cls(len(paths), sum(path.stat().st_size for path in paths))


@dataclass(frozen=True)
class Inventory:
    """The files of a store by kind, and those that no study needs."""

    files: dict[str, Files]
    not_needed: tuple[Path, ...]
    """States, checkpoints and statistics of no study that was asked for."""

    @property
    def size(self) -> int:
        """Bytes of everything."""
        return sum(one.size for one in self.files.values())


def inventory(store: Store) -> Inventory:
    """Return what lies in a store's folder."""
    folder = store.folder
    states, checkpoints, statistics = _kept(folder)
    damaged = sorted(path for path in (folder / DAMAGED).glob("*") if path.is_file())
    files = {
        "database": Files.of(sorted(folder.glob("store.sqlite*"))),
        "trained states": Files.of(states),
        "checkpoints": Files.of(checkpoints),
        "statistics": Files.of(statistics),
        "set aside as damaged": Files.of(damaged),
    }
    trials = [trial for study in store.studies() for trial in study.trials]
    phases = {key for trial in trials for key in trial.phases}
    records, done = {trial.key for trial in trials}, store.done_states()
    idle = [path for path in states if path.stem not in phases]
    idle += [path for path in checkpoints if path.stem not in phases or path.stem in done]
    idle += [path for path in statistics if path.stem not in records]
    return Inventory(files, tuple(idle))


def _kept(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return states, checkpoints and statistics."""
    states = folder / "states"
    return (
        sorted(states.glob("*.safetensors")),
        sorted(states.glob("*.checkpoint")),
        sorted((folder / "statistics").glob("*.safetensors")),
    )


def needed_by(store: Store, key: str) -> list[tuple[StudyRun, list[str]]]:
    """Return the studies that need a state or record, with the trials by which they do."""
    found = []
    for study in store.studies():
        trials = [
            f"{trial.arm}, {study.axis} {trial.level:g}, seed {trial.seed}"
            for trial in study.trials
            if trial.key == key or key in trial.phases
        ]
        if trials:
            found.append((study, trials))
    return found


@dataclass(frozen=True)
class Verified:
    """What was held against its checksum."""

    whole: int
    """Rows and files that are what was written."""
    damaged: tuple[Path, ...]
    """Files that are not."""
    unverified: tuple[StoredFile, ...]
    """Files from before checksums covered all of a file."""
    told: tuple[str, ...] = field(default=())
    """Sentences on rows."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not (self.damaged or self.told)


def verify(store: Store, follow: Follow) -> Verified:
    """Hold everything in a store's folder against its checksum."""
    states, checkpoints, statistics = _kept(store.folder)
    whole = len(store.phases(store.done_phases())) + len(store.records(store.done_records()))
    whole += len(store.joints(store.done_joints())) + len(store.studies())
    damaged, unverified = [], []
    files = [StoredFile(path, "trained state") for path in (*states, *checkpoints)]
    files += [StoredFile(path, "statistics file") for path in statistics]
    for number, file in enumerate(files):
        follow(number, len(files), file.path.name)
        can_be_read, is_verified = file.check()
        if not can_be_read:
            damaged.append(file.path)
        elif not is_verified:
            unverified.append(file)
        else:
            whole += 1
    follow(len(files), len(files), "")
    return Verified(whole, tuple(damaged), tuple(unverified), tuple(store.told()))


def repair(store: Store, follow: Follow) -> tuple[Verified, list[str]]:
    """Set aside what is damaged, bind files of before to their names, and sweep what is half-done.

    Returns what was found, and sentences on the rows that opening the store set aside.
    """
    told = store.told()
    found = verify(store, follow)
    for path in found.damaged:
        store.set_aside(path)
    for file in found.unverified:
        file.write_again()
    store.sweep()
    return found, told


def stores_in(folder: Path) -> Iterator[Path]:
    """Yield a folder that holds a store, or the folders in it that do."""
    if Store.is_there(folder):
        yield folder
    elif folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if Store.is_there(path))

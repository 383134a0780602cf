"""What lies in the folder of a store: how much of what, who needs it, and whether it is whole."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from gossamer.records.record import StudyRun
from gossamer.records.setting_aside import DAMAGED
from gossamer.records.store import Store
from gossamer.studies.damage import Kind, StoredFile

Follow = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Files:
    """How many files of a kind there are, and how large they are together."""

    count: int = 0
    size: int = 0

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> "Files":
        """Count files, given their sizes by name."""
        return cls(len(sizes), sum(sizes.values()))


@dataclass(frozen=True)
class Inventory:
    """The files of a store by kind, and those that no study needs."""

    files: dict[str, Files]
    not_needed: Mapping[str, int]
    """States, checkpoints and statistics of no study that was asked for: bytes by name."""
    not_needed_there: Mapping[str, int]
    """The same at the address of the states."""

    @property
    def size(self) -> int:
        """Bytes of everything."""
        return sum(one.size for one in self.files.values())

    @property
    def idle(self) -> Files:
        """What no study needs."""
        here, there = Files.of(self.not_needed), Files.of(self.not_needed_there)
        return Files(here.count + there.count, here.size + there.size)


def inventory(store: Store) -> Inventory:
    """Return what lies in a store's folder, and at the address of its states.

    Raises
    ------
    StoreError
        If that cannot be reached.
    """
    folder, there = store.folder, store.sizes_elsewhere()
    here = _sizes(folder, sorted(path for paths in _kept(folder) for path in paths))
    files = {
        "database": Files.of(_sizes(folder, folder.glob("store.sqlite*"))),
        **_by_kind(here, ""),
        **(_by_kind(there, " elsewhere") if store.states_at else {}),
        "set aside as damaged": Files.of(_sizes(folder, (folder / DAMAGED).glob("*"))),
    }
    trials = [trial for study in store.studies() for trial in study.trials]
    phases = {key for trial in trials for key in trial.phases}
    records, done = {trial.key for trial in trials}, store.done_states()

    def idle(name: str) -> bool:
        part, _, file = name.partition("/")
        key, _, ending = file.partition(".")
        if part == "statistics":
            return key not in records
        return key not in phases or (ending == "checkpoint" and key in done)

    return Inventory(
        files,
        {name: size for name, size in here.items() if idle(name)},
        {name: size for name, size in there.items() if idle(name)},
    )


def _sizes(folder: Path, paths: Iterable[Path]) -> dict[str, int]:
    found = (path for path in paths if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


def _by_kind(sizes: Mapping[str, int], where: str) -> dict[str, Files]:
    """Count states, checkpoints and statistics."""
    kinds = {
        "trained states": ("states/", ".safetensors"),
        "checkpoints": ("states/", ".checkpoint"),
        "statistics": ("statistics/", ".safetensors"),
    }
    return {
        f"{kind}{where}": Files.of(
            {n: size for n, size in sizes.items() if n.startswith(part) and n.endswith(ending)}
        )
        for kind, (part, ending) in kinds.items()
    }


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
    damaged_there: tuple[str, ...]
    """Names of those at the address of the states that are not."""
    unverified: tuple[StoredFile, ...]
    """Files from before checksums covered all of a file."""
    told: tuple[str, ...] = field(default=())
    """Sentences on rows."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not (self.damaged or self.damaged_there or self.told)


def verify(store: Store, follow: Follow) -> Verified:
    """Hold everything in a store's folder, and at the address of its states, against its checksum.

    Raises
    ------
    StoreError
        If that cannot be reached.
    """
    states, checkpoints, statistics = _kept(store.folder)
    whole = len(store.phases(store.done_phases())) + len(store.records(store.done_records()))
    whole += len(store.joints(store.done_joints())) + len(store.studies())
    damaged, unverified = [], []
    files = [StoredFile(path, "trained state") for path in (*states, *checkpoints)]
    files += [StoredFile(path, "statistics file") for path in statistics]
    there = tuple(store.sizes_elsewhere())
    for number, file in enumerate(files):
        follow(number, len(files) + len(there), file.path.name)
        can_be_read, is_verified = file.check()
        if not can_be_read:
            damaged.append(file.path)
        elif not is_verified:
            unverified.append(file)
        else:
            whole += 1
    damaged_there = []
    for number, name in enumerate(there, len(files)):
        follow(number, len(files) + len(there), name)
        if not _is_whole_there(store, name):
            damaged_there.append(name)
    whole += len(there) - len(damaged_there)
    follow(len(files) + len(there), len(files) + len(there), "")
    told = tuple(store.told())
    return Verified(whole, tuple(damaged), tuple(damaged_there), tuple(unverified), told)


def _is_whole_there(store: Store, name: str) -> bool:
    """Hold a file at the address of the states against its checksum; one that has gone is none."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        if not store.fetch_file(name, path):
            return True
        what: Kind = "trained state" if name.startswith("states/") else "statistics file"
        return StoredFile(path, what).check()[0]


def repair(store: Store, follow: Follow) -> tuple[Verified, list[str]]:
    """Set aside what is damaged, bind files of before to their names, and sweep what is half-done.

    Returns what was found, and sentences on the rows that opening the store set aside.
    """
    told = store.told()
    found = verify(store, follow)
    for path in found.damaged:
        store.set_aside(path)
    for name in found.damaged_there:
        if not (store.folder / name).is_file() and store.fetch_file(name, store.folder / name):
            store.set_aside(store.folder / name)
        store.remove_elsewhere(name)
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

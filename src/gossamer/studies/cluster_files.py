"""What a worker needs of others and others need of it, where they share no folder.

A worker has a folder of its own. It says which states and data it lacks for a task, gets them from
the driving process, and gives back what it made; or states and statistics go by way of an object
store. The driving process alone writes the study's folder.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gossamer.core.errors import DamagedFileError, InputError
from gossamer.core.files import replacing
from gossamer.data import Dataset, datasets_folder, load
from gossamer.recipes import DataSpec, KeyedTrial
from gossamer.records.object_store import PARTS, ObjectStore
from gossamer.records.store import checkpoint_path, state_path, statistics_path
from gossamer.studies.plan import Task, Training
from gossamer.studies.tasks import Event, Pulse, Site, TaskRunner, Watch

_CHECKPOINT_SECONDS = 20.0
"""Between copies of a checkpoint to an object store."""
_MOST_BYTES = 4 << 30
"""Of states that a worker keeps for later tasks."""


@dataclass(frozen=True)
class Parcel:
    """What is sent to a worker or comes back from it: files by name, and datasets."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    data: tuple[Dataset, ...] = ()


@dataclass(frozen=True)
class Lacking:
    """Comes instead of what a task makes: what its worker does not have."""

    files: frozenset[str]
    data: frozenset[str]
    """Fingerprints."""


@dataclass(frozen=True)
class Made:
    """What a task made, with the files that belong to it."""

    events: tuple[Event, ...]
    files: Mapping[str, bytes]


def fingerprints(task: Task) -> dict[str, str]:
    """Return the fingerprint of every dataset that a task needs, by its name."""
    return {
        trial.trial.data.name: str(trial.identity["origin"]["dataset"])
        for one in _trials(task)
        for trial in _with_sources(one)
    }


def data_of(task: Task, fingerprint: str) -> DataSpec:
    """Return how a task calls the dataset of a fingerprint."""
    return next(
        trial.trial.data
        for one in _trials(task)
        for trial in _with_sources(one)
        if trial.identity["origin"]["dataset"] == fingerprint
    )


def _trials(task: Task) -> tuple[KeyedTrial, ...]:
    return (task.keyed,) if isinstance(task, Training) else task.trials


def _with_sources(trial: KeyedTrial) -> Iterator[KeyedTrial]:
    yield trial
    for source in trial.sources.values():
        yield from _with_sources(source)


def needed_files(task: Task) -> set[str]:
    """Return the names of the states that a task works on."""
    return {_name(state_path(Path(), key)) for key in task.needs}


def made_files(task: Task) -> set[str]:
    """Return the names of the files that a task makes, if it comes to its end."""
    if isinstance(task, Training):
        return {_name(state_path(Path(), task.key))}
    leaking = [trial for trial in task.trials if trial.trial.measure.leakage]
    return {_name(statistics_path(Path(), trial.record)) for trial in leaking}


def unfinished_file(task: Task) -> str | None:
    """Return the name of the checkpoint that a task may go on from."""
    return _name(checkpoint_path(Path(), task.key)) if isinstance(task, Training) else None


def _name(path: Path) -> str:
    return path.as_posix()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names, each whole or not at all."""
    for name, content in files.items():
        path = folder / name
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def read_files(folder: Path, names: set[str]) -> dict[str, bytes]:
    """Return the content of those files that are there, by name."""
    found = {}
    for name in names:
        with suppress(FileNotFoundError):
            found[name] = (folder / name).read_bytes()
    return found


class ApartWorker:
    """Does tasks of one run in a folder of its own."""

    def __init__(self, site: Site, watch: Watch) -> None:
        self._folder = site.folder
        for part in PARTS:
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        self._there = None if site.states is None else ObjectStore(site.states)
        self._watch = watch
        self._runner = TaskRunner(site, self._watching, self._dataset)
        self._datasets: dict[str, Dataset] = {}
        """By fingerprint."""
        self._known: dict[str, str] = {}
        """Fingerprints, by the names that the task at hand has for them."""
        self._checkpoint: str | None = None
        self._copied = 0.0

    def do(self, task: Task, parcel: Parcel) -> Lacking | Made:
        """Do a task once everything that it needs is there; until then, say what is not.

        Raises
        ------
        GossamerError
            If a file cannot be written here, or the object store cannot be reached.
        """
        from gossamer.training.loop import Interrupted

        self._known, self._checkpoint = fingerprints(task), unfinished_file(task)
        self._copied = time.monotonic()
        write_files(self._folder, parcel.files)
        for received in parcel.data:
            whole = replace(received)  # so that its fingerprint is that of what came
            self._datasets[whole.fingerprint] = whole
        lacking = self._lacking(task)
        if lacking is not None:
            return lacking
        if self._there is not None and self._checkpoint is not None:
            self._there.fetch(self._checkpoint, self._folder / self._checkpoint)
        names, made = made_files(task), list[Event]()
        try:
            made.extend(self._runner.do(task))
        except Interrupted:
            names = {self._checkpoint} if self._checkpoint else set()
        files = self._given_back(names)
        _make_room(self._folder, names | needed_files(task))
        return Made(tuple(made), files)

    def _dataset(self, data: DataSpec) -> Dataset:
        return self._datasets[self._known[data.name]]

    def _lacking(self, task: Task) -> Lacking | None:
        """Look for what a task needs here and in the object store; None where all is there."""
        files = {name for name in needed_files(task) if not self._has_state(name)}
        for name, fingerprint in self._known.items():
            if fingerprint not in self._datasets and (found := _own_data(name, fingerprint)):
                self._datasets[fingerprint] = found
        data = set(self._known.values()) - self._datasets.keys()
        return Lacking(frozenset(files), frozenset(data)) if files or data else None

    def _has_state(self, name: str) -> bool:
        """Tell whether a state is here or can be fetched; one that is damaged is removed there."""
        from gossamer.recipes.state import load_state

        path = self._folder / name
        if path.is_file():
            return True
        if self._there is None or not self._there.fetch(name, path):
            return False
        try:
            load_state(path)
        except DamagedFileError:
            path.unlink()
            self._there.remove(name)
            return False
        return True

    def _given_back(self, names: set[str]) -> dict[str, bytes]:
        """Return what was made, or leave it in the object store."""
        if self._there is None:
            return read_files(self._folder, names)
        for name in names:
            if (self._folder / name).is_file():
                self._there.put(name, self._folder / name)
        if self._checkpoint is not None and self._checkpoint not in names:
            self._there.remove(self._checkpoint)
        return {}

    def _watching(self, pulse: Pulse) -> bool:
        """Copy the checkpoint to the object store now and then, for whoever may go on from it."""
        due = time.monotonic() - self._copied > _CHECKPOINT_SECONDS
        if due and self._there is not None and self._checkpoint is not None:
            self._copied = time.monotonic()
            if (self._folder / self._checkpoint).is_file():
                self._there.put(self._checkpoint, self._folder / self._checkpoint)
        return self._watch(pulse)


def _own_data(name: str, fingerprint: str) -> Dataset | None:
    """Return a dataset that this machine has itself, if it is the right one; download nothing."""
    folder = datasets_folder(None)
    if name != "digits" and not (folder and (folder / name).is_dir()):
        return None
    with suppress(InputError):
        found = load(name, folder)
        return found if found.fingerprint == fingerprint else None
    return None


def _make_room(folder: Path, needed: set[str]) -> None:
    """Remove the states that were used longest ago, where there are too many of them."""
    paths = sorted((folder / "states").glob("*"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in paths)
    for path in paths:
        if total <= _MOST_BYTES:
            return
        if _name(path.relative_to(folder)) not in needed:
            total -= path.stat().st_size
            path.unlink()

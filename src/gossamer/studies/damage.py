"""Before anything is done: which files of a store are not what was written.

Looked at is what the work that is left rests on. What is damaged is moved to the store's folder of
such and planned again, so that it costs time, and neither a wrong number nor the rest.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gossamer.core.errors import DamagedFileError
from gossamer.core.formats import counted, listed
from gossamer.records.setting_aside import DAMAGED
from gossamer.records.store import Store, state_path, statistics_path
from gossamer.studies.plan import trained_before
from gossamer.studies.run import Prepared, with_what_is_done


def without_damage(prepared: Prepared, store: Store) -> tuple[Prepared, list[str]]:
    """Return the study with what is left once damaged files are set aside, and sentences on them.

    Raises
    ------
    StoreError
        If the folder cannot be written.
    """
    checked: set[Path] = set()
    damaged = {"trained state": 0, "statistics file": 0}
    unverified = {"trained state": 0, "statistics file": 0}
    while True:
        prepared = with_what_is_done(prepared, store)
        files = dict.fromkeys(file for file in _needed(prepared, store) if file.path not in checked)
        found = 0
        for file in files:
            checked.add(file.path)
            whole, verified = file.check()
            unverified[file.what] += whole and not verified
            if not whole:
                store.set_aside(file.path)
                damaged[file.what] += 1
                found += 1
        if not found:
            return prepared, list(_told(store.folder, damaged, unverified))


Kind = Literal["trained state", "statistics file"]


@dataclass(frozen=True)
class StoredFile:
    """A file of a store, and what it holds."""

    path: Path
    what: Kind

    def check(self) -> tuple[bool, bool]:
        """Return whether it can be read, and whether that says that it is what was written."""
        if self.what == "trained state":
            from gossamer.recipes.state import is_bound_to_name, load_state  # imports torch

            with suppress(DamagedFileError):
                load_state(self.path)
                return True, is_bound_to_name(self.path)
        else:
            from gossamer.recipes.statistics_files import is_verified, read_statistics

            with suppress(DamagedFileError):
                read_statistics(self.path)
                return True, is_verified(self.path)
        return False, False

    def write_again(self) -> None:
        """Write it with a checksum that covers all of it, as one from before has none."""
        if self.what == "trained state":
            from gossamer.recipes.state import load_state, save_state

            save_state(self.path, *load_state(self.path))
        else:
            from gossamer.recipes.statistics_files import read_statistics, write_statistics

            write_statistics(self.path, read_statistics(self.path))


def _needed(prepared: Prepared, store: Store) -> Iterator[StoredFile]:
    """Yield the files that are there and that what is left will read."""
    states, statistics = store.done_states(), store.kept_statistics()
    keys = {key for task in prepared.plan.tasks for key in task.needs}
    for task in prepared.joints_left:
        for trial in task.networks:
            if not task.needs_statistics:
                keys |= trained_before(trial, len(trial.trial.steps))
            elif trial.record in statistics:
                path = statistics_path(store.folder, trial.record)
                if path.is_file():  # else it is elsewhere, where who reads it looks
                    yield StoredFile(path, "statistics file")
    for path in (state_path(store.folder, key) for key in sorted(keys & states)):
        if path.is_file():
            yield StoredFile(path, "trained state")


def _told(folder: Path, damaged: dict[str, int], unverified: dict[str, int]) -> Iterator[str]:
    if any(damaged.values()):
        yield (
            f"Damaged in {folder}: {_counted(damaged)}, moved to {folder / DAMAGED} and made again."
        )
    if any(unverified.values()):
        yield (
            f"From before checksums covered all of a file, and so taken as they are in {folder}: "
            f"{_counted(unverified)}."
        )


def _counted(numbers: dict[str, int]) -> str:
    return listed([counted(number, what) for what, number in numbers.items() if number])

"""Doing a task of a plan, in whatever process, and what comes of it."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gossamer.core.errors import GossamerError, UnwritableError
from gossamer.data import Dataset, load
from gossamer.recipes import DataSpec, KeyedTrial
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record
from gossamer.records.store import checkpoint_path, state_path, statistics_path
from gossamer.studies.plan import Task, Training

if TYPE_CHECKING:
    from gossamer.training.loop import Standing


Alike = Literal["torch", "all", "any"]
"""What workers must have as it is here: gossamer and torch, NumPy, Python and the processor too, or
gossamer alone. What may differ stands in the records."""


@dataclass(frozen=True)
class Site:
    """Where the work is done."""

    folder: Path
    """The store's."""
    data_root: Path | None
    """Where datasets lie on disk."""
    threads: int
    """Of each process."""
    home: Path | None = None
    """From where relative paths and modules of the user's own are meant, if not from here."""
    states: str | None = None
    """Address of an object store of states and statistics, if they are not in the folder."""


@dataclass(frozen=True)
class Pulse:
    """A training under way: optimizer steps done and in all, and where it stands."""

    key: str
    steps: int
    total: int
    epoch: int
    loss: float | None
    """Training loss of the last finished epoch."""


@dataclass(frozen=True)
class Failure:
    """A training or a measurement that could not be done, and why."""

    trial: KeyedTrial
    """The trial it was done for; others may need the same training."""
    state: str | None
    """Key of the trained state that there will not be; None for a measurement."""
    reason: str
    given_up: bool = False
    """Whether it cost its process or went over a limit, and is not tried again unasked."""

    @property
    def key(self) -> str:
        """Key of the state or the record that there will not be."""
        return self.trial.record if self.state is None else self.state


Event = Phase | Record | JointRecord | Pulse | Failure
"""What the doing of tasks brings about."""

Watch = Callable[[Pulse], bool]
"""Called about twice a second during training; a true answer stops it."""


@cache
def _dataset(name: str, root: Path | None) -> Dataset:
    return load(name, root)


def forget_datasets() -> None:
    """Have datasets loaded anew, in a process that outlives a run."""
    _dataset.cache_clear()


def dataset_of(data: DataSpec, root: Path | None) -> Dataset:
    """Return a dataset, loaded once in a process."""
    return _dataset(data.name, root)


def _attempt(
    trial: KeyedTrial, state: str | None, do: Callable[[KeyedTrial], Phase | Record]
) -> Phase | Record | Failure:
    """Do one thing for a trial; what goes wrong with it must not cost other trials."""
    from gossamer.training.loop import Interrupted  # imports torch

    try:
        return do(trial)
    except UnwritableError:
        raise  # of the others, too
    except GossamerError as error:
        return Failure(trial, state, str(error))
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - a network of the user's own may raise anything
        return Failure(trial, state, _told(error))


def _told(error: Exception) -> str:
    """Say what was raised, and where."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{said} ({place.filename}, line {place.lineno})"


class TaskRunner:
    """Does tasks in the process that it is made in."""

    def __init__(
        self, site: Site, watch: Watch, dataset: Callable[[DataSpec], Dataset] | None = None
    ) -> None:
        from gossamer.recipes.trial_runner import TrialRunner  # imports torch

        self._watch = watch
        self._training: Training | None = None
        self._runner = TrialRunner(
            dataset=dataset or (lambda data: dataset_of(data, site.data_root)),
            state_path=partial(state_path, site.folder),
            checkpoint_path=partial(checkpoint_path, site.folder),
            statistics_path=partial(statistics_path, site.folder),
            pulse=self._pulse,
        )

    def do(self, task: Task) -> Iterator[Phase | Record | Failure]:
        """Do a task, and yield what it makes.

        Raises
        ------
        UnwritableError
            If the folder takes no more.
        Interrupted
            If the watch asked a training to stop; a checkpoint was kept.
        """
        if isinstance(task, Training):
            self._training = task
            train = partial(self._runner.train, position=task.position)
            yield _attempt(task.keyed, task.key, train)
        else:
            for trial in task.trials:
                measure = partial(self._runner.measure, names=task.names.get(trial.record))
                yield _attempt(trial, None, measure)

    def _pulse(self, total: int, standing: "Standing") -> bool:
        assert self._training is not None
        loss = standing.history[-1].train_loss if standing.history else None
        return self._watch(
            Pulse(self._training.key, standing.steps, total, len(standing.history), loss)
        )

"""Keys of states and records: everything that determines their numbers, up to rounding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gossamer.data import Dataset
from gossamer.nets import identity
from gossamer.recipes.steps import described
from gossamer.recipes.trial import Trial
from gossamer.records.canonical import key_of

_MEASURES_VERSION = 1


def origin(trial: Trial, dataset: Dataset) -> dict[str, Any]:
    """Return what determines the state before the first step."""
    return {
        "dataset": dataset.fingerprint,
        "inputs": {"mean": trial.data.mean, "std": trial.data.std},
        "validation": trial.data.validation,
        "network": identity(trial.network, dataset.input_shape, dataset.classes, trial.seed),
        "seed": trial.seed,
        "precision": trial.precision,
        "device": trial.device,
    }


def record_identity(trial: Trial, start: dict[str, Any]) -> dict[str, Any]:
    """Return what determines a record: the state and what is measured of it."""
    return {
        "origin": start,
        "steps": [described(step) for step in trial.steps],
        "measure": {**trial.measure.model_dump(mode="json"), "version": _MEASURES_VERSION},
    }


@dataclass(frozen=True)
class KeyedTrial:
    """A trial with the keys of its states and of its record."""

    trial: Trial
    identity: Mapping[str, Any]
    record: str
    """Key of the record: the hash of the identity."""
    states: tuple[str, ...]
    """Keys of the state after no step, after one, and so on."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Keys of the trained states, in order."""
        return tuple(self.states[position + 1] for position in self.trial.trainings)


def keyed(trial: Trial, dataset: Dataset, start: dict[str, Any] | None = None) -> KeyedTrial:
    """Work out the keys of a trial.

    Parameters
    ----------
    trial, dataset
        The trial, and the dataset that it names.
    start
        Its `origin`, where that is known already from a trial that starts alike.

    Raises
    ------
    InputError
        If the network does not suit the dataset.
    """
    start = origin(trial, dataset) if start is None else start
    steps = [described(step) for step in trial.steps]
    identity = record_identity(trial, start)
    return KeyedTrial(
        trial=trial,
        identity=identity,
        record=key_of(identity),
        states=tuple(key_of({"origin": start, "steps": steps[:n]}) for n in range(len(steps) + 1)),
    )

"""Keys of states and records: everything that determines their numbers, up to rounding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.nets import identity
from gossamer.recipes.split import train_count
from gossamer.recipes.steps import Source
from gossamer.recipes.trial import DataSpec, Trial
from gossamer.records.canonical import key_of

_MEASURES_VERSION = 2

Datasets = Callable[[DataSpec], Dataset]
"""Returns the dataset of a specification."""


def origin(trial: Trial, dataset: Dataset) -> dict[str, Any]:
    """Return what determines the state before the first step."""
    data = trial.data.model_dump(mode="json", exclude={"name", "mean", "std"})
    return {
        "dataset": dataset.fingerprint,
        "inputs": {"mean": trial.data.mean, "std": trial.data.std},
        "split": data,
        "network": identity(trial.network, dataset.input_shape, dataset.classes, trial.seed),
        "seed": trial.seed,
        "precision": trial.precision,
        "device": trial.device,
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
    train_examples: int
    """How many examples it trains on."""
    sources: Mapping[int, "KeyedTrial"] = field(default_factory=dict)
    """By the position of a step that borrows, the trial that it borrows from."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Keys of the trainings behind it, those of what it borrows from first, each once."""
        keys: list[str] = []
        for position in range(len(self.trial.steps)):
            if position in self.sources:
                keys.extend(self.sources[position].phases)
            if position in self.trial.trainings:
                keys.append(self.states[position + 1])
        return tuple(dict.fromkeys(keys))


def keyed(
    trial: Trial,
    dataset: Dataset,
    start: dict[str, Any] | None = None,
    elsewhere: Datasets | None = None,
) -> KeyedTrial:
    """Work out the keys of a trial.

    Parameters
    ----------
    trial, dataset
        The trial, and the dataset that it names.
    start
        Its `origin`, where that is known already from a trial that starts alike.
    elsewhere
        Where the datasets of transferred masks come from; without it, they have the trial's own.

    Raises
    ------
    InputError
        If network or augmentation do not suit the dataset, or a mask comes from data of another
        shape.
    """
    examples = train_count(trial.data, dataset, trial.seed)
    for step in trial.steps:
        step.check_data(dataset, examples)
    start = origin(trial, dataset) if start is None else start
    sources = {
        position: _source(trial, step.source_recipe, dataset, elsewhere)
        for position, step in enumerate(trial.steps)
        if step.source_recipe is not None
    }
    steps = [step.keyed_for(trial.network) for step in trial.steps]
    for position, source in sources.items():
        steps[position]["mask_of"] = source.states[-1]
    identity = {
        "origin": start,
        "steps": steps,
        "measure": {**trial.measure.model_dump(mode="json"), "version": _MEASURES_VERSION},
    }
    return KeyedTrial(
        trial=trial,
        identity=identity,
        record=key_of(identity),
        states=tuple(key_of({"origin": start, "steps": steps[:n]}) for n in range(len(steps) + 1)),
        train_examples=examples,
        sources=sources,
    )


def _source(
    trial: Trial, source: Source, dataset: Dataset, elsewhere: Datasets | None
) -> KeyedTrial:
    """Return the trial that a mask is borrowed from; it ends in the state that has the mask."""
    data = trial.data
    if source.data is not None:
        data = data.model_copy(update={"name": source.data})
    found = dataset if elsewhere is None or data == trial.data else elsewhere(data)
    if (found.input_shape, found.classes) != (dataset.input_shape, dataset.classes):
        raise InputError(
            f"a mask cannot go from {found.name} to {dataset.name}: the network of one has "
            f"examples of shape {found.input_shape} and {found.classes} classes, of the other "
            f"{dataset.input_shape} and {dataset.classes}"
        )
    seed = trial.seed + source.seed_offset
    lender = replace(trial, data=data, seed=seed, steps=source.recipe)
    return keyed(lender, found, elsewhere=elsewhere)

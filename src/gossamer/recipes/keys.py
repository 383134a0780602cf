"""Keys of states and records: everything that determines their numbers, up to rounding."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.networks import NetworkSpec, identity
from gossamer.recipes.split import train_count
from gossamer.recipes.steps import Source, Step
from gossamer.recipes.trial import DataSpec, MeasureSpec, Trial
from gossamer.records.canonical import canonical_json

_MEASURES_VERSION = 2

Datasets = Callable[[DataSpec], Dataset]
"""Returns the dataset of a specification."""


@dataclass(frozen=True)
class Written:
    """A part of an identity, and its canonical JSON: written once, however many trials have it."""

    value: Mapping[str, Any]
    text: str


def written(value: Mapping[str, Any]) -> Written:
    """Write a part of an identity."""
    return Written(value, canonical_json(value))


def origin(trial: Trial, dataset: Dataset) -> Written:
    """Return what determines the state before the first step."""
    data = trial.data.model_dump(mode="json", exclude={"name", "mean", "std"})
    return written(
        {
            "dataset": dataset.fingerprint,
            "inputs": {"mean": trial.data.mean, "std": trial.data.std},
            "split": data,
            "network": identity(trial.network, dataset.input_shape, dataset.classes, trial.seed),
            "seed": trial.seed,
            "precision": trial.precision,
            "device": trial.device,
        }
    )


def written_steps(steps: Sequence[Step], network: NetworkSpec) -> tuple[Written, ...]:
    """Return what keys hold of steps that are done to a network; of what they borrow, nothing."""
    return tuple(written(step.keyed_for(network)) for step in steps)


def written_measure(measure: MeasureSpec) -> Written:
    """Return what keys hold of what is measured."""
    return written({**measure.model_dump(mode="json"), "version": _MEASURES_VERSION})


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

    @cached_property
    def phases(self) -> tuple[str, ...]:
        """Keys of the trainings behind it, those of what it borrows from first, each once."""
        keys: list[str] = []
        for position in range(len(self.trial.steps)):
            if position in self.sources:
                keys.extend(self.sources[position].phases)
            if position in self.trial.trainings:
                keys.append(self.states[position + 1])
        return tuple(dict.fromkeys(keys))


@dataclass(frozen=True)
class Shared:
    """What many trials have in common of their keys, so that it is worked out once."""

    start: Written
    """The `origin` of trials that start alike."""
    steps: tuple[Written, ...]
    """The `written_steps` of trials of one recipe and network."""
    measure: Written


def keyed(
    trial: Trial,
    dataset: Dataset,
    shared: Shared | None = None,
    elsewhere: Datasets | None = None,
) -> KeyedTrial:
    """Work out the keys of a trial.

    Parameters
    ----------
    trial, dataset
        The trial, and the dataset that it names.
    shared
        Parts of its keys, where they are known already from other trials.
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
    if shared is None:
        shared = Shared(
            origin(trial, dataset),
            written_steps(trial.steps, trial.network),
            written_measure(trial.measure),
        )
    sources = {
        position: _source(trial, step.source_recipe, dataset, elsewhere)
        for position, step in enumerate(trial.steps)
        if step.source_recipe is not None
    }
    steps = list(shared.steps)
    for position, source in sources.items():
        steps[position] = written({**steps[position].value, "mask_of": source.states[-1]})
    return KeyedTrial(
        trial=trial,
        identity={
            "origin": shared.start.value,
            "steps": [step.value for step in steps],
            "measure": shared.measure.value,
        },
        record=_record_key(shared, steps),
        states=tuple(_state_keys(shared.start, steps)),
        train_examples=examples,
        sources=sources,
    )


def _record_key(shared: Shared, steps: Sequence[Written]) -> str:
    """Return the `key_of` an identity, whose parts are written already."""
    texts = ",".join([step.text for step in steps])
    whole = f'{{"measure":{shared.measure.text},"origin":{shared.start.text},"steps":[{texts}]}}'
    return hashlib.sha256(whole.encode()).hexdigest()


def _state_keys(start: Written, steps: Sequence[Written]) -> Iterator[str]:
    """Yield the `key_of` origin and steps so far, after no step, after one, and so on.

    Trials that start alike have the same text in memory for what they share.
    """
    begun = hashlib.sha256(f'{{"origin":{start.text},"steps":['.encode())
    for count in range(len(steps) + 1):
        if count:
            begun.update(f"{',' if count > 1 else ''}{steps[count - 1].text}".encode())
        whole = begun.copy()
        whole.update(b"]}")
        yield sys.intern(whole.hexdigest())


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

"""The parts of a dataset that a trial works on, resident on its device."""

from dataclasses import dataclass

import numpy as np

from gossamer.data import Dataset, stratified_sample
from gossamer.data.resident import Resident, make_resident
from gossamer.recipes.split import split
from gossamer.recipes.trial import Trial


@dataclass(frozen=True)
class TrialData:
    """What is trained on, what is looked at on the way, and what is measured at the end."""

    train: Resident
    validation: Resident | None
    """Held out of the data; None if nothing is."""
    sample: Resident
    """The examples of the training part that the training accuracy is measured on."""
    test: Resident
    pool: Resident | None
    """What could have been trained on, where leakage is measured; None elsewhere."""


def make_trial_data(trial: Trial, dataset: Dataset, channels_last: bool) -> TrialData:
    """Split the dataset as the trial asks, and move the parts to the device."""
    chosen = split(trial.data, dataset, trial.seed)

    def resident(part: str, positions: np.ndarray) -> Resident:
        examples, labels = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        return make_resident(
            examples[positions],
            labels[positions],
            dataset.scale,
            mean=trial.data.mean,
            std=trial.data.std,
            device=trial.device,
            channels_last=channels_last,
        )

    training = resident("train", chosen.train)
    count = trial.measure.train_examples
    sample = training
    if count is not None and count < len(chosen.train):
        drawn = stratified_sample(dataset.y_train[chosen.train], count, trial.seed)
        sample = resident("train", chosen.train[drawn])
    held_out = chosen.validation
    return TrialData(
        train=training,
        validation=resident(trial.data.validation_from, held_out) if len(held_out) else None,
        sample=sample,
        test=resident("test", chosen.test),
        pool=resident("train", chosen.pool) if trial.measure.leakage else None,
    )

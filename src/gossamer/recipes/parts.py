"""The parts of a dataset that a trial works on, resident on its device."""

from dataclasses import dataclass

import numpy as np

from gossamer.data import Dataset, stratified_sample, stratified_split
from gossamer.data.resident import Resident, make_resident
from gossamer.recipes.trial import Trial


@dataclass(frozen=True)
class Parts:
    """What is trained on, what is looked at on the way, and what is measured at the end."""

    train: Resident
    validation: Resident | None
    """Held out of the training set; None if nothing is."""
    sample: Resident
    """The examples of the training part that the training accuracy is measured on."""
    test: Resident


def make_parts(trial: Trial, dataset: Dataset, channels_last: bool) -> Parts:
    """Split the training set as the trial asks, seeded by its seed, and move it to the device."""
    x, y = dataset.x_train, dataset.y_train
    kept, held_out = stratified_split(y, trial.data.validation, trial.seed)

    def resident(examples: np.ndarray, labels: np.ndarray) -> Resident:
        return make_resident(
            examples,
            labels,
            dataset.scale,
            mean=trial.data.mean,
            std=trial.data.std,
            device=trial.device,
            channels_last=channels_last,
        )

    training = resident(x[kept], y[kept])
    count = trial.measure.train_examples
    sample = training
    if count is not None and count < len(kept):
        chosen = kept[stratified_sample(y[kept], count, trial.seed)]
        sample = resident(x[chosen], y[chosen])
    return Parts(
        train=training,
        validation=resident(x[held_out], y[held_out]) if len(held_out) else None,
        sample=sample,
        test=resident(dataset.x_test, dataset.y_test),
    )

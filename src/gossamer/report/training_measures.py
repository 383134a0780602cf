"""Measures that are read off the history of a training, not off the finished network."""

from gossamer.records.record import Phase


def training_measures(phase: Phase) -> dict[str, float]:
    """Return the measures that are read off the history of a network's last training.

    ``running_train_accuracy`` and ``running_train_loss`` are means over the last epoch, under
    augmentation and dropout, while the weights change; ``validation_accuracy`` and
    ``validation_loss`` are those after it. ``validation_gain_second_half`` is how far the accuracy
    lies above that of the epoch at half of the training, where none stopped early: halves of
    different lengths cannot be compared.
    """
    if not phase.history:
        return {}
    last = phase.history[-1]
    found = {
        "running_train_accuracy": last.train_accuracy,
        "running_train_loss": last.train_loss,
        "validation_accuracy": last.validation_accuracy,
        "validation_loss": last.validation_loss,
    }
    if len(phase.history) > 1 and phase.stopped is None and last.validation_accuracy is not None:
        half = phase.history[len(phase.history) // 2 - 1].validation_accuracy
        if half is not None:
            found["validation_gain_second_half"] = last.validation_accuracy - half
    return {name: value for name, value in found.items() if value is not None}

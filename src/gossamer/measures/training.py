"""What is read off the history of a training, not off the finished network."""

from typing import TYPE_CHECKING

from gossamer.measures.measure import Measure, Measurement

if TYPE_CHECKING:
    from gossamer.records.record import Phase


def _read(phase: "Phase") -> dict[str, float]:
    """Return the numbers of the last epoch, and how far it came since that at half of them.

    The gain is known where none stopped early: halves of different lengths cannot be compared.
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


_NO_TRAINING = "the recipe does not end in training"
_NO_VALIDATION = "no data is held out for validation, or the recipe does not end in training"
TRAINING = Measurement(
    "training",
    read=_read,
    measures=(
        Measure(
            "running_train_accuracy",
            "Running training accuracy",
            "Share of right answers over the last epoch, under augmentation and dropout, while the "
            "weights change.",
            "fraction",
            better="higher",
            empty=_NO_TRAINING,
            examples="train_examples",
        ),
        Measure(
            "running_train_loss",
            "Running training loss",
            "Mean cross-entropy over the last epoch, under augmentation and dropout, in nats.",
            "nats",
            better="lower",
            empty=_NO_TRAINING,
        ),
        Measure(
            "validation_accuracy",
            "Validation accuracy",
            "Share of the validation examples that are classified correctly after the last epoch.",
            "fraction",
            better="higher",
            empty=_NO_VALIDATION,
            condition="validation",
        ),
        Measure(
            "validation_loss",
            "Validation loss",
            "Mean cross-entropy over the validation examples after the last epoch, in nats.",
            "nats",
            better="lower",
            empty=_NO_VALIDATION,
            condition="validation",
        ),
        Measure(
            "validation_gain_second_half",
            "Gain of validation accuracy in the second half",
            "Validation accuracy after the last epoch minus that after half of the epochs.",
            "fraction",
            empty=f"{_NO_VALIDATION}, or that stopped early or took one epoch",
            condition="validation",
        ),
    ),
)

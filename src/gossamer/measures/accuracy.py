"""Accuracy and loss on training and test examples."""

import math

from gossamer.core.errors import TrainingError
from gossamer.measures.measure import Measure, Measurement, Subject, Taken


def _take(subject: Subject) -> Taken:
    """Evaluate the network in evaluation mode.

    Raises
    ------
    TrainingError
        If a loss is not a number.
    """
    from gossamer.measures.functional import evaluate

    numbers, per_class = dict[str, float](), {}
    for part, data in (("train", subject.sample), ("test", subject.test)):
        found = evaluate(subject.network, data.inputs, data.labels, subject.classes)
        if not math.isfinite(found.loss):
            raise TrainingError(
                f"the network's {part} loss is not a number: its weights or its inputs overflow"
            )
        numbers |= {
            f"{part}_accuracy": found.accuracy,
            f"{part}_loss": found.loss,
            f"{part}_examples": found.examples,
        }
        per_class[part] = found.per_class
    return Taken(numbers, per_class)


ACCURACY = Measurement(
    "accuracy",
    take=_take,
    measures=(
        Measure(
            "test_accuracy",
            "Test accuracy",
            "Share of the test examples whose largest output is the right class. The test set is "
            "touched once, when everything else is fixed.",
            "fraction",
            better="higher",
            examples="test_examples",
        ),
        Measure(
            "test_loss",
            "Test loss",
            "Mean cross-entropy over the test examples, in nats.",
            "nats",
            better="lower",
        ),
        Measure(
            "test_examples",
            "Test examples",
            "Number of the examples that the network is tested on.",
            "examples",
        ),
        Measure(
            "train_accuracy",
            "Train accuracy",
            "Share of the training examples whose largest output is the right class, by the "
            "finished network in evaluation mode.",
            "fraction",
            better="higher",
            examples="train_examples",
        ),
        Measure(
            "train_loss",
            "Train loss",
            "Mean cross-entropy over the training examples, by the finished network, in nats.",
            "nats",
            better="lower",
        ),
        Measure(
            "train_examples",
            "Train examples",
            "Number of the training examples that train accuracy and loss are taken over; a sample "
            "where the study asks for one.",
            "examples",
        ),
    ),
)

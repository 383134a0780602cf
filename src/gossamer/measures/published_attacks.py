"""What the published studies call inference accuracy, and the floor under it.

Members are the examples trained on, non-members the test set; thresholds are the best ones on the
very examples they judge. The number that came of an error in the published code is taken of the
networks of studies alone that ask for it, as those do whose published figures it stands beside.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from gossamer.measures.accuracy import ACCURACY
from gossamer.measures.measure import Measure, Measurement, Subject, Taken

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _probabilities(subject: Subject) -> "list[tuple[NDArray[Any], NDArray[Any]]]":
    """Return the probabilities and labels of the training and of the test examples."""
    import torch

    from gossamer.measures.functional.accuracy import answers

    return [
        (
            torch.from_numpy(answers(subject.network, part.inputs)).double().softmax(dim=1).numpy(),
            part.labels.cpu().numpy(),
        )
        for part in (subject.train, subject.test)
    ]


def _take(subject: Subject) -> Taken:
    from gossamer.leakage.published import best_threshold_attack

    inside, outside = _probabilities(subject)
    accuracies = subject.of(ACCURACY).numbers
    gap = accuracies["train_accuracy"] - accuracies["test_accuracy"]
    return Taken(
        {
            "gap_attack_accuracy": 0.5 + gap / 2,
            "best_threshold_attack_accuracy": best_threshold_attack(
                *inside, *outside
            ).balanced_accuracy,
        }
    )


def _take_one_hot(subject: Subject) -> Taken:
    from gossamer.leakage.published import published_one_hot_attack

    inside, outside = _probabilities(subject)
    return Taken({"one_hot_attack_accuracy": published_one_hot_attack(*inside, *outside)})


_accuracy = partial(
    Measure,
    unit="fraction",
    empty="the study measures no leakage",
    examples="test_examples",
    condition="leakage",
)
OPTIMISTIC_ATTACKS = Measurement(
    "optimistic attacks",
    take=_take,
    needs=(ACCURACY,),
    leakage=True,
    measures=(
        _accuracy(
            "gap_attack_accuracy",
            "Gap attack accuracy (floor)",
            "Accuracy of accusing whatever is classified correctly: 1/2 + (train - test "
            "accuracy)/2.",
            better="lower",
        ),
        _accuracy(
            "best_threshold_attack_accuracy",
            "Attack accuracy as meant (optimistic)",
            "Balanced accuracy of one threshold on the probability of the true class, members the "
            "training set, non-members the test set. The threshold is chosen on the very scores "
            "that it judges, so the number flatters the attacker.",
            better="lower",
        ),
    ),
)

ONE_HOT_ATTACK = Measurement(
    "one-hot attack",
    take=_take_one_hot,
    leakage=True,
    optional=True,
    measures=(
        _accuracy(
            "one_hot_attack_accuracy",
            "Attack accuracy as the published code computes it (defective)",
            "A number that the published code's indexing error produces; it measures no attack and "
            "stands here only so that the published figure can be traced to the error.",
        ),
    ),
)

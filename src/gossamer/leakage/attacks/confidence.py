"""The confidence attack, with a threshold for each class."""

import numpy as np

from gossamer.leakage.attacks.attack import OUTPUT, Attack
from gossamer.leakage.attacks.class_thresholds import by_class
from gossamer.leakage.design import Scores
from gossamer.leakage.output_statistics import Statistics


def confidence_scores(statistics: Statistics) -> Scores:
    """Accuse what has a high probability of its true class; for thresholds of each class.

    References
    ----------
    Song and Mittal (2021), "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security.
    """
    return statistics.margin.astype(np.float64)


ATTACK = Attack(
    name="confidence",
    label="Confidence, by class",
    phrase="confidence attack by class",
    source="Song and Mittal 2021",
    requirement=OUTPUT,
    meaning="Accuses examples of a high probability of their true class, by a threshold for each "
    "class.",
    unit="nats",
    references="none",
    score=by_class(confidence_scores),
    threshold=0.0,
    thresholds_of_classes=True,
)

"""The modified entropy attack, with a threshold for each class."""

import numpy as np

from gossamer.leakage.attacks.attack import OUTPUT, Attack
from gossamer.leakage.attacks.class_thresholds import by_class
from gossamer.leakage.design import Scores
from gossamer.leakage.output_statistics import Statistics


def modified_entropy_scores(statistics: Statistics) -> Scores:
    """Accuse what is predicted surely *and* rightly; for thresholds of each class.

    References
    ----------
    Song and Mittal (2021), "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security.
    """
    return -statistics.modified_entropy.astype(np.float64)


ATTACK = Attack(
    name="modified_entropy",
    label="Modified entropy, by class",
    phrase="modified entropy attack by class",
    source="Song and Mittal 2021",
    requirement=OUTPUT,
    meaning="Accuses what is predicted surely and rightly, by a threshold for each class.",
    unit="nats",
    references="none",
    score=by_class(modified_entropy_scores),
    threshold=0.0,
    thresholds_of_classes=True,
)

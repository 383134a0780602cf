"""The entropy attack, with a threshold for each class."""

import numpy as np

from gossamer.leakage.attacks.attack import OUTPUT, Attack
from gossamer.leakage.attacks.class_thresholds import by_class
from gossamer.leakage.design import Scores
from gossamer.leakage.output_statistics import Statistics


def entropy_scores(statistics: Statistics) -> Scores:
    """Accuse what is predicted with low entropy, right or wrong; for thresholds of each class.

    References
    ----------
    Salem et al. (2019), "ML-Leaks", NDSS; Song and Mittal (2021), "Systematic evaluation of
    privacy risks of machine learning models", USENIX Security.
    """
    return -statistics.entropy.astype(np.float64)


ATTACK = Attack(
    name="entropy",
    label="Entropy, by class",
    phrase="entropy attack by class",
    source="Song and Mittal 2021",
    requirement=OUTPUT,
    meaning="Accuses what is predicted surely, right or wrong, by a threshold for each class.",
    unit="nats",
    references="none",
    score=by_class(entropy_scores),
    threshold=0.0,
    thresholds_of_classes=True,
)

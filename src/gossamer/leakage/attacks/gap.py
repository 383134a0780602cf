"""The gap attack: accuse whatever is classified correctly."""

import numpy as np

from gossamer.leakage.attacks.attack import Attack, chosen
from gossamer.leakage.design import Scores
from gossamer.leakage.output_statistics import Statistics


def gap_scores(statistics: Statistics) -> Scores:
    """Accuse whatever the target classifies correctly: the floor of every attack.

    Its balanced accuracy is one half plus half the gap between training and other accuracy.

    References
    ----------
    Yeom et al. (2018), "Privacy risk in machine learning: analyzing the connection to
    overfitting", IEEE CSF.
    """
    return statistics.correct.astype(np.float64)


ATTACK = Attack(
    name="gap",
    label="Gap (accuse what is right)",
    phrase="gap attack",
    source="Yeom et al. 2018",
    requirement="the target's decision",
    meaning="Accuses whatever the network classifies correctly: the floor of every attack.",
    unit="yes or no",
    references="none",
    score=lambda case, targets: chosen(gap_scores(case.statistics), targets),
    threshold=0.5,
    decides=True,
)

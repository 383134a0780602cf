"""The loss attack: accuse what has a low loss."""

import numpy as np

from gossamer.leakage.attacks.attack import OUTPUT, Attack, chosen
from gossamer.leakage.design import Scores
from gossamer.leakage.output_statistics import Statistics


def loss_scores(statistics: Statistics) -> Scores:
    """Accuse what has a low loss, by one threshold for all examples.

    References
    ----------
    Yeom et al. (2018), "Privacy risk in machine learning: analyzing the connection to
    overfitting", IEEE CSF.
    """
    # The margin is a rising function of the log-probability and does not round to 0 near p = 1.
    return statistics.margin.astype(np.float64)


ATTACK = Attack(
    name="loss",
    label="Loss",
    phrase="loss attack",
    source="Yeom et al. 2018",
    requirement=OUTPUT,
    meaning="Accuses examples of a low loss, by one threshold for all of them.",
    unit="nats",
    references="none",
    score=lambda case, targets: chosen(loss_scores(case.statistics), targets),
)

"""Attacks that need no references: one number of the target's own output, and a threshold."""

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage.design import Members, Scores
from gossamer.leakage.output_statistics import Labels, Statistics
from gossamer.leakage.ranking import rank, transferred_best


def gap_scores(statistics: Statistics) -> Scores:
    """Accuse whatever the target classifies correctly: the floor of every attack.

    Its balanced accuracy is one half plus half the gap between training and other accuracy.

    References
    ----------
    Yeom et al. (2018), "Privacy risk in machine learning: analyzing the connection to
    overfitting", IEEE CSF.
    """
    return statistics.correct.astype(np.float64)


def loss_scores(statistics: Statistics) -> Scores:
    """Accuse what has a low loss, by one threshold for all examples.

    References
    ----------
    Yeom et al. (2018), "Privacy risk in machine learning: analyzing the connection to
    overfitting", IEEE CSF.
    """
    # The margin is a rising function of the log-probability and does not round to 0 near p = 1.
    return statistics.margin.astype(np.float64)


def confidence_scores(statistics: Statistics) -> Scores:
    """Accuse what has a high probability of its true class; for thresholds of each class.

    References
    ----------
    Song and Mittal (2021), "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security.
    """
    return statistics.margin.astype(np.float64)


def entropy_scores(statistics: Statistics) -> Scores:
    """Accuse what is predicted with low entropy, right or wrong; for thresholds of each class.

    References
    ----------
    Salem et al. (2019), "ML-Leaks", NDSS; Song and Mittal (2021), "Systematic evaluation of
    privacy risks of machine learning models", USENIX Security.
    """
    return -statistics.entropy.astype(np.float64)


def modified_entropy_scores(statistics: Statistics) -> Scores:
    """Accuse what is predicted surely *and* rightly; for thresholds of each class.

    References
    ----------
    Song and Mittal (2021), "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security.
    """
    return -statistics.modified_entropy.astype(np.float64)


def measured_from_class_threshold(
    scores: Scores, members: Members, labels: Labels, allowed: NDArray[np.bool_]
) -> Scores:
    """Return how far scores lie above the threshold of their class, fixed on other rows.

    Parameters
    ----------
    scores, members
        ``[rows, examples]``; NaN marks examples that are not of a row.
    labels
        ``[examples]``.
    allowed
        ``[rows, rows]``: whether the second row may tell the thresholds of the first.

    Returns
    -------
    array
        ``[rows, examples]``; 0 is the threshold, for every class.

    References
    ----------
    Song and Mittal (2021), "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security: thresholds of each class, learnt on shadow models.
    """
    shifted = np.empty_like(scores)
    for label in np.unique(labels):
        these = np.flatnonzero(labels == label)
        part = scores[:, these]
        ranked = [rank(row, inside) for row, inside in zip(part, members[:, these], strict=True)]
        shifted[:, these] = part - transferred_best(ranked, allowed)[:, None]
    return shifted

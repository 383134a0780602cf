"""BASE: the target's probability of an example against what models give it on average."""

from collections.abc import Sequence

import numpy as np

from gossamer.leakage.attacks.attack import WITH_AND_WITHOUT, Attack
from gossamer.leakage.design import Design, Scores
from gossamer.leakage.output_statistics import Statistics
from gossamer.leakage.references import gather

FEWEST_REFERENCES = 1

_LEAST_MEAN = 1e-12
"""Mean probabilities below this are read as it; sums of 64-bit numbers know no better."""


def base_scores(
    statistics: Statistics, design: Design, targets: Sequence[int] | None = None
) -> Scores:
    """Score by the loss that the references have on average, minus the target's.

    That is log p - log mean p, the mean over references of either side taken equally. The
    Bayes-optimal attack under a model of independent examples.

    Parameters
    ----------
    statistics
        Of all models.
    design
        Who trained on what.
    targets
        Models to attack; None means all.

    Returns
    -------
    array
        In nats, ``[targets, examples]``; NaN without a reference on either side.

    References
    ----------
    Lassila, Ostman, Ngo and Graell i Amat (2025), "Practical Bayes-optimal membership inference
    attacks", NeurIPS.
    """
    log_probability = statistics.log_probability
    references = gather(np.exp(log_probability), design)
    models = range(design.models) if targets is None else targets
    scores = np.empty((len(models), statistics.examples))
    for place, target in enumerate(models):
        inside = references.side(target, inside=True)
        outside = references.side(target, inside=False)
        mean = references.centre + (inside.mean + outside.mean) / 2
        ratio = log_probability[target] - np.log(np.maximum(mean, _LEAST_MEAN))
        enough = np.minimum(inside.count, outside.count) >= FEWEST_REFERENCES
        scores[place] = np.where(enough, ratio, np.nan)
    return scores


ATTACK = Attack(
    name="base",
    label="BASE",
    phrase="BASE",
    source="Lassila et al. 2025",
    requirement=WITH_AND_WITHOUT,
    meaning="Accuses examples that the network finds likelier than networks trained with it and "
    "without it do on average.",
    unit="nats",
    references="in and out",
    score=lambda case, targets: base_scores(case.tempered, case.design, targets),
    fewest_references=FEWEST_REFERENCES,
    tempered=True,
)

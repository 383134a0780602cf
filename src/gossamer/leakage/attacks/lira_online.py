"""LiRA, online: is the target's margin that of models with the example, or of those without it."""

from collections.abc import Sequence

import numpy as np

from gossamer.leakage.attacks.attack import WITH_AND_WITHOUT, Attack
from gossamer.leakage.attacks.likelihood_ratio import (
    FEWEST_REFERENCES,
    enough,
    log_density,
    variance,
    variants,
)
from gossamer.leakage.design import Scores
from gossamer.leakage.references import References


def lira_online(
    references: References, *, pooled: bool, targets: Sequence[int] | None = None
) -> Scores:
    """Score by the log likelihood ratio of two Gaussians, for models with and without the example.

    Parameters
    ----------
    references
        Margins gathered over all models.
    pooled
        One variance a side for all examples, from residuals around each example's own mean, with
        N (m - 1) degrees of freedom; else each example's own.
    targets
        Models to attack; None means all.

    Returns
    -------
    array
        Log likelihood ratios in nats, ``[targets, examples]``; NaN with fewer than two
        references on a side.

    References
    ----------
    Carlini, Chien, Nasr, Song, Terzis and Tramer (2022), "Membership inference attacks from first
    principles", IEEE S&P.
    """
    models = range(references.design.models) if targets is None else targets
    scores = np.empty((len(models), references.centred.shape[1]))
    for place, target in enumerate(models):
        inside = references.side(target, inside=True)
        outside = references.side(target, inside=False)
        margin = references.targets[target]
        ratio = log_density(margin, inside, variance(inside, pooled=pooled))
        ratio -= log_density(margin, outside, variance(outside, pooled=pooled))
        scores[place] = np.where(enough(inside, outside), ratio, np.nan)
    return scores


ATTACK = Attack(
    name="lira_online",
    label="LiRA, online",
    phrase="LiRA online",
    source="Carlini et al. 2022",
    requirement=WITH_AND_WITHOUT,
    meaning="Likelihood-ratio attack: an example's margin is compared with those of networks "
    "trained with it and without it.",
    unit="nats",
    references="in and out",
    score=lambda case, targets: lira_online(case.margins, pooled=case.pooled, targets=targets),
    fewest_references=FEWEST_REFERENCES,
)
VARIANTS = variants(
    ATTACK,
    lambda pooled: lambda case, targets: lira_online(case.margins, pooled=pooled, targets=targets),
)

"""LiRA, offline: is the target's margin improbably high for models without the example."""

from collections.abc import Sequence

import numpy as np

from gossamer.leakage.attacks.attack import WITHOUT, Attack
from gossamer.leakage.attacks.likelihood_ratio import (
    FEWEST_REFERENCES,
    enough,
    variance,
    variants,
)
from gossamer.leakage.design import Scores
from gossamer.leakage.references import References


def lira_offline(
    references: References, *, pooled: bool, targets: Sequence[int] | None = None
) -> Scores:
    """Score by how improbably high the margin is for models that did not train on the example.

    The attacker needs no model that did. The published score is the Gaussian's distribution
    function; here it is the standard deviations themselves, which rank alike and do not round
    to 1.

    Parameters
    ----------
    references, pooled, targets
        As for `lira_online`.

    Returns
    -------
    array
        Standard deviations above the mean, ``[targets, examples]``; NaN with fewer than two
        references on a side (of both, so that every attack judges the same examples).

    References
    ----------
    Carlini, Chien, Nasr, Song, Terzis and Tramer (2022), "Membership inference attacks from first
    principles", IEEE S&P, section VI.
    """
    models = range(references.design.models) if targets is None else targets
    scores = np.empty((len(models), references.centred.shape[1]))
    for place, target in enumerate(models):
        inside = references.side(target, inside=True)
        outside = references.side(target, inside=False)
        distance = references.targets[target] - outside.mean
        distance /= np.sqrt(variance(outside, pooled=pooled))
        scores[place] = np.where(enough(inside, outside), distance, np.nan)
    return scores


ATTACK = Attack(
    name="lira_offline",
    label="LiRA, offline",
    phrase="LiRA offline",
    source="Carlini et al. 2022",
    requirement=WITHOUT,
    meaning="Likelihood-ratio attack: an example's margin is compared with those of networks "
    "trained without it.",
    unit="standard deviations",
    references="out",
    score=lambda case, targets: lira_offline(case.margins, pooled=case.pooled, targets=targets),
    fewest_references=FEWEST_REFERENCES,
)
VARIANTS = variants(
    ATTACK,
    lambda pooled: lambda case, targets: lira_offline(case.margins, pooled=pooled, targets=targets),
)

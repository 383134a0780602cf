"""RMIA: how many other examples an example beats by its probability ratio."""

from collections.abc import Sequence

import numpy as np

from gossamer.leakage.attacks.attack import WITH_AND_WITHOUT, Attack
from gossamer.leakage.attacks.base import FEWEST_REFERENCES, base_scores
from gossamer.leakage.design import Design, Scores
from gossamer.leakage.output_statistics import Statistics

GAMMA = 2.0
"""How many times over an example must beat another (Zarifzadeh et al. 2024 use 2)."""


def rmia_scores(
    statistics: Statistics, design: Design, targets: Sequence[int] | None = None
) -> Scores:
    """Score by the share of other examples whose probability ratio is beaten `GAMMA` times over.

    The population is all examples of the audit, whoever trained on them, as an attacker does not
    know who did. On one target this ranks examples as `base_scores` does, up to ties, and puts
    targets on a common scale.

    Parameters
    ----------
    statistics, design, targets
        As for `base_scores`.

    Returns
    -------
    array
        Shares, ``[targets, examples]``; NaN without a reference on either side.

    References
    ----------
    Zarifzadeh, Liu and Shokri (2024), "Low-cost high-power membership inference attacks", ICML.
    """
    ratios = base_scores(statistics, design, targets)
    for row in ratios:
        there = ~np.isnan(row)
        population = np.sort(row[there])
        beaten = np.searchsorted(population, row[there] - np.log(GAMMA), "right")
        row[there] = beaten / max(len(population), 1)
    return ratios


ATTACK = Attack(
    name="rmia",
    label="RMIA",
    phrase="RMIA",
    source="Zarifzadeh et al. 2024",
    requirement=WITH_AND_WITHOUT,
    meaning="Takes the network's probability of an example over the mean of other networks, and "
    "accuses examples whose ratio is twice that of many others.",
    unit="share of the examples",
    references="in and out",
    score=lambda case, targets: rmia_scores(case.tempered, case.design, targets),
    fewest_references=FEWEST_REFERENCES,
    tempered=True,
)

"""LiRA: is the target's margin of an example that of models which trained on it, or of others."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage.design import Scores
from gossamer.leakage.references import References, Side

FEWEST_REFERENCES = 2
"""A variance needs two a side."""

POOLED_BELOW = 64
"""With fewer models an example's own variance is too noisy (Carlini et al. 2022, figure 10)."""

_LEAST_SHARE = 1e-3
"""An example's own variance is at least this share of the pooled one: references that happen to
agree prove nothing."""

_LEAST_VARIANCE = 1e-12
"""In square nats; only models that all agree exactly on everything get here."""

Variance = float | NDArray[np.float64]


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
        ratio = _log_density(margin, inside, _variance(inside, pooled=pooled))
        ratio -= _log_density(margin, outside, _variance(outside, pooled=pooled))
        scores[place] = np.where(_enough(inside, outside), ratio, np.nan)
    return scores


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
        distance /= np.sqrt(_variance(outside, pooled=pooled))
        scores[place] = np.where(_enough(inside, outside), distance, np.nan)
    return scores


def _enough(inside: Side, outside: Side) -> NDArray[np.bool_]:
    enough: NDArray[np.bool_] = np.minimum(inside.count, outside.count) >= FEWEST_REFERENCES
    return enough


def _variance(side: Side, *, pooled: bool) -> Variance:
    shared = max(side.pooled_variance, _LEAST_VARIANCE)
    return shared if pooled else np.maximum(side.variance, _LEAST_SHARE * shared)


def _log_density(
    margin: NDArray[np.float64], side: Side, variance: Variance
) -> NDArray[np.float64]:
    """Log density of a Gaussian without its constant, ``[examples]``."""
    distance = margin - side.mean
    density: NDArray[np.float64] = -0.5 * (distance * distance / variance + np.log(variance))
    return density

"""What LiRA's attacks share: Gaussians of the margins of models with and without an example."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage.attacks.attack import Attack, Score
from gossamer.leakage.references import Side

FEWEST_REFERENCES = 2
"""A variance needs two a side."""

_LEAST_SHARE = 1e-3
"""An example's own variance is at least this share of the pooled one: references that happen to
agree prove nothing."""

_LEAST_VARIANCE = 1e-12
"""In square nats; only models that all agree exactly on everything get here."""

Variance = float | NDArray[np.float64]


def enough(inside: Side, outside: Side) -> NDArray[np.bool_]:
    """Whether both sides have references, ``[examples]``: all of LiRA's attacks judge the same."""
    both: NDArray[np.bool_] = np.minimum(inside.count, outside.count) >= FEWEST_REFERENCES
    return both


def variance(side: Side, *, pooled: bool) -> Variance:
    """Return the variance around each example's mean: one of all, or each one's, ``[examples]``."""
    shared = max(side.pooled_variance, _LEAST_VARIANCE)
    return shared if pooled else np.maximum(side.variance, _LEAST_SHARE * shared)


def log_density(margin: NDArray[np.float64], side: Side, variance: Variance) -> NDArray[np.float64]:
    """Log density of a Gaussian without its constant, ``[examples]``."""
    distance = margin - side.mean
    density: NDArray[np.float64] = -0.5 * (distance * distance / variance + np.log(variance))
    return density


def variants(attack: Attack, score: Callable[[bool], Score]) -> tuple[Attack, ...]:
    """Return an attack with its variance pooled, and with one of each example's own."""
    return tuple(
        replace(
            attack,
            name=f"{attack.name}_{'pooled' if pooled else 'per_example'}",
            label=f"{attack.label}, {words}",
            phrase=f"{attack.phrase}, {words}",
            score=score(pooled),
            usual=False,
        )
        for pooled, words in ((True, "pooled variance"), (False, "variance per example"))
    )

"""Both versions in hand, such as dense and pruned: LiRA in two dimensions."""

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage.attacks.attack import Attack, chosen
from gossamer.leakage.attacks.likelihood_ratio import FEWEST_REFERENCES
from gossamer.leakage.design import Scores
from gossamer.leakage.references import References, Side

_RIDGE = 1e-9
"""Of the mean variance, added to each: two equal versions have a singular covariance."""

_LEAST_VARIANCE = 1e-12


def joint_scores(first: References, second: References) -> Scores:
    """Return log likelihood ratios of two bivariate Gaussians in nats, ``[models, examples]``.

    NaN with fewer than two references on a side.
    """
    design = first.design
    products = first.centred * second.centred
    inside = np.where(design.members, products, 0.0).sum(axis=0)
    crosses = (products.sum(axis=0) - inside, inside)
    scores = np.empty(first.centred.shape)
    for target in range(design.models):
        margins = np.stack([first.centred[target], second.centred[target]])
        densities = []
        for side in (False, True):
            one, other = first.side(target, inside=side), second.side(target, inside=side)
            cross = crosses[side].copy()
            for member, product in zip(
                design.left_out(design.members, target),
                design.left_out(products, target),
                strict=True,
            ):
                cross -= product * (member == side)
            cross -= one.count * one.mean * other.mean
            density = _joint_density(margins, one, other, cross)
            densities.append(np.where(one.count >= FEWEST_REFERENCES, density, np.nan))
        scores[target] = densities[1] - densities[0]
    return scores


def _joint_density(
    margins: NDArray[np.float64], one: Side, other: Side, cross: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log density of a bivariate Gaussian of pooled covariance, without its constant."""
    freedom = max(float(np.maximum(one.count - 1, 0).sum()), 1.0)
    shared = float(cross[one.count > 1].sum()) / freedom
    covariance = np.array([[one.pooled_variance, shared], [shared, other.pooled_variance]])
    covariance += np.eye(2) * (_RIDGE * np.trace(covariance) / 2 + _LEAST_VARIANCE)
    distances = margins - np.stack([one.mean, other.mean])
    squared = np.einsum("in,ij,jn->n", distances, np.linalg.inv(covariance), distances)
    density: NDArray[np.float64] = -0.5 * (squared + np.linalg.slogdet(covariance)[1])
    return density


ATTACK = Attack(
    name="joint",
    label="Both versions, LiRA",
    phrase="attacker with both versions",
    source="Carlini et al. 2022, in two dimensions",
    requirement="the outputs of both versions, and models of both kinds with and without each "
    "example",
    meaning="Likelihood-ratio attack on the outputs of two versions of a network together, such as "
    "the unpruned and the pruned one.",
    unit="nats",
    references="in and out",
    score=lambda case, targets: chosen(joint_scores(case.first_margins, case.margins), targets),
    fewest_references=FEWEST_REFERENCES,
    versions=2,
    usual=False,
)

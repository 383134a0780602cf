"""Two releases of the same models, such as dense and sparse: what an attacker makes of both.

All three functions take the statistics of both releases, model by model: row m of the second was
made from row m of the first, or at least trained on the same examples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gossamer.core.errors import InputError
from gossamer.leakage.attacks import ATTACKS
from gossamer.leakage.design import Design, Scores, find_design, reference_counts, without_mate
from gossamer.leakage.evaluation import RATES, Face, Split, evaluate, find_split, settled_rates
from gossamer.leakage.given_arrays import checked_members
from gossamer.leakage.likelihood_ratio import FEWEST_REFERENCES, lira_online
from gossamer.leakage.output_statistics import Statistics
from gossamer.leakage.references import References, Side, gather
from gossamer.leakage.uncertainty import CONFIDENCE, Resampler
from gossamer.records.leakage import AttackResult, Estimate, LeakageChange

JOINT = Face(
    "joint",
    "Both releases, LiRA",
    "Carlini et al. 2022, in two dimensions",
    "the outputs of both releases, and models of both kinds with and without each example",
)
FOREIGN = Face(
    "foreign",
    "Shadows of the other release, LiRA",
    "Carlini et al. 2022",
    "the target's output, and models of the other kind with and without each example",
)

_RIDGE = 1e-9
"""Of the mean variance, added to each: two equal releases have a singular covariance."""

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class PairedChange:
    """How leakage changes between two releases, as a whole and example by example."""

    summary: LeakageChange
    examples: NDArray[np.float32]
    """Change of each example's separation, mean over pairs, ``[examples]``: the margin of the mate
    that trained on it minus that of the mate that did not, in standard deviations. NaN for
    examples that no pair parts."""


def joint_attack(
    first: Statistics,
    second: Statistics,
    members: ArrayLike,
    pairs: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> AttackResult:
    """Attack with both releases in hand, by the likelihood ratio of two bivariate Gaussians.

    Parameters
    ----------
    first, second
        Statistics of either release, of the same models and examples.
    members
        ``[models, examples]``, the same for both.
    pairs
        As for `gossamer.leakage.auditing.audit`.
    seed
        Of resampling.

    Returns
    -------
    AttackResult
        Covariances are pooled over examples, around each example's own means.

    Raises
    ------
    InputError
        If the releases do not match, or some example has fewer than two references a side.

    References
    ----------
    Carlini et al. (2022), "Membership inference attacks from first principles", IEEE S&P, for one
    release.
    """
    design, split, resampler = _checked(first, second, members, pairs, seed)
    scores = joint_scores(gather(first.margin, design), gather(second.margin, design))
    return evaluate(JOINT, scores, design, split, resampler)


def foreign_attack(
    shadows: Statistics,
    targets: Statistics,
    members: ArrayLike,
    pairs: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> AttackResult:
    """Attack one release with references of another: the attacker does not know what was done.

    Thresholds are fixed on the shadows, too, which the attacker takes to be like the target; the
    realised false-positive rate shows how wrong that is.

    Parameters
    ----------
    shadows
        Statistics of the release that the attacker can train, such as the dense one.
    targets
        Statistics of the release under attack.
    members, pairs, seed
        As for `joint_attack`.

    Returns
    -------
    AttackResult

    Raises
    ------
    InputError
        As for `joint_attack`.

    References
    ----------
    Carlini et al. (2022), "Membership inference attacks from first principles", IEEE S&P, section
    VII, on mismatched shadow models.
    """
    design, split, resampler = _checked(shadows, targets, members, pairs, seed)
    references = gather(shadows.margin, design)
    scores = lira_online(references.facing(targets.margin), pooled=True)
    learnt_on = lira_online(references, pooled=True)
    return evaluate(FOREIGN, scores, design, split, resampler, learnt_on=learnt_on)


def paired_change(
    first: Statistics,
    second: Statistics,
    members: ArrayLike,
    pairs: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> PairedChange:
    """Measure how leakage changes from a first release to a second, pair by pair.

    Rates are those of LiRA (online, pooled variance) with references of their own kind. Examples
    are followed by their separation: the margin of the mate that trained on an example minus that
    of its mate, in units of the pooled standard deviation of a margin around its example's mean.
    Unlike scores of an attack, separations of different pairs share nothing.

    Parameters
    ----------
    first, second, members, pairs, seed
        As for `joint_attack`; models must come in pairs.

    Returns
    -------
    PairedChange
        Second minus first, with intervals over pairs.

    Raises
    ------
    InputError
        As for `joint_attack`; or if models do not come in pairs.
    """
    design, split, resampler = _checked(first, second, members, pairs, seed)
    if design.kind != "paired":
        raise InputError(
            "pairs: the models do not come in pairs trained on complementary examples, expected "
            "such pairs to measure a change of each example."
        )
    gathered = [gather(part.margin, design) for part in (first, second)]
    scores = [lira_online(references, pooled=True) for references in gathered]
    evidence = _separation(gathered[1]) - _separation(gathered[0])
    there = ~np.isnan(evidence).any(axis=0)
    rising, falling = _moving(evidence[:, there])
    change = _changes(scores, design, split, resampler)
    pairs_resampled = Resampler(np.arange(len(evidence)), paired=True, seed=seed)
    summary = LeakageChange(
        units=len(evidence),
        auc=change["auc"],
        balanced_accuracy=change["balanced_accuracy"],
        tpr_at=tuple((rate, change[f"tpr@{rate}"]) for rate in RATES),
        evidence=pairs_resampled.estimate(evidence[:, there].mean(axis=1)),
        examples_rising=rising,
        examples_falling=falling,
    )
    return PairedChange(summary, evidence.mean(axis=0).astype(np.float32))


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


def _checked(
    first: Statistics,
    second: Statistics,
    members: ArrayLike,
    pairs: ArrayLike | None,
    seed: int,
) -> tuple[Design, Split, Resampler]:
    if first.margin.shape != second.margin.shape:
        raise InputError(
            f"releases: the first has {first.margin.shape} models and examples and the second "
            f"{second.margin.shape}, expected the same."
        )
    inside = checked_members(members, first.models, first.examples)
    for model in without_mate(inside, pairs):
        raise InputError(
            f"members: model {model} has no mate among the others, which come in pairs trained on "
            "complementary examples, expected all models to; leave it out of both releases."
        )
    design = find_design(inside, pairs, seed)
    for target in range(design.models):
        counts = reference_counts(design, target)
        fewest = int(min(count[design.informative].min(initial=design.models) for count in counts))
        if fewest < FEWEST_REFERENCES:
            raise InputError(
                f"releases: against model {target} some example has {fewest} references on one "
                f"side, expected at least {FEWEST_REFERENCES}, as three pairs of models give."
            )
    resampler = Resampler(design.units, paired=design.kind == "paired", seed=seed, mutual=True)
    return design, find_split(design, seed), resampler


def _changes(
    scores: list[Scores], design: Design, split: Split, resampler: Resampler
) -> dict[str, Estimate]:
    face = ATTACKS["lira_online"].face
    before, after = (evaluate(face, part, design, split, resampler).per_model for part in scores)

    def estimate(changes: NDArray[np.float64]) -> Estimate:
        return resampler.estimate(changes, -1.0, 1.0)

    found = {
        name: estimate(
            np.array(
                [b.measures[name] - a.measures[name] for a, b in zip(before, after, strict=True)]
            )
        )
        for name in ("auc", "balanced_accuracy", *(f"tpr@{rate}" for rate in RATES))
    }
    for rate in RATES:
        first, second = (settled_rates(part, design, split, rate) for part in scores)
        value = found[f"tpr@{rate}"].value
        found[f"tpr@{rate}"] = estimate(second - first).model_copy(update={"value": value})
    return found


def _separation(references: References) -> NDArray[np.float64]:
    """Margin of the mate that trained on an example minus that of the other, ``[pairs, examples]``.

    In standard deviations; NaN for an example that neither or both trained on. Pairs of the same
    split count as one, with their mean.
    """
    design = references.design
    signed = np.where(design.members, references.centred, -references.centred)
    splits = [np.flatnonzero(design.units == unit) for unit in range(int(design.units.max()) + 1)]
    apart = np.stack([2 * design.members[both].sum(axis=0) == len(both) for both in splits])
    found = np.stack([2 * signed[both].mean(axis=0) for both in splits]) / references.deviation
    return np.where(apart, found, np.nan)


def _moving(evidence: NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """Shares of examples whose own interval over pairs lies above, and below, no change."""
    count = len(evidence)
    if count < 2:
        return None, None
    mean = evidence.mean(axis=0)
    error = evidence.std(axis=0, ddof=1) / np.sqrt(count)
    reach = float(special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return float((mean > reach).mean()), float((mean < -reach).mean())

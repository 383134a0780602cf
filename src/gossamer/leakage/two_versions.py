"""Two versions of the same models, such as dense and sparse: what an attacker makes of both.

Both functions take the statistics of both versions, model by model: row m of the second was
made from row m of the first, or at least trained on the same examples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gossamer.core.errors import InputError
from gossamer.leakage.attacks import ATTACKS, Case
from gossamer.leakage.attacks.likelihood_ratio import FEWEST_REFERENCES
from gossamer.leakage.attacks.lira_online import lira_online
from gossamer.leakage.design import Design, Scores, find_design, reference_counts, without_mate
from gossamer.leakage.evaluation import RATES, evaluate, settled_rates
from gossamer.leakage.given_arrays import checked_members
from gossamer.leakage.output_statistics import Statistics
from gossamer.leakage.references import References, gather
from gossamer.leakage.threshold_split import Split, find_split
from gossamer.leakage.uncertainty import CONFIDENCE, Resampler
from gossamer.records.leakage import AttackResult, Estimate, LeakageChange


@dataclass(frozen=True)
class PairedChange:
    """How leakage changes between two versions, as a whole and example by example."""

    summary: LeakageChange
    examples: NDArray[np.float32]
    """Change of each example's separation, mean over pairs, ``[examples]``: the margin of the mate
    that trained on it minus that of the mate that did not, in standard deviations. NaN for
    examples that no pair parts."""


def attack_versions(
    first: Statistics,
    second: Statistics,
    members: ArrayLike,
    pairs: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> dict[str, AttackResult]:
    """Attack the second version of some models with what is known of the first.

    Parameters
    ----------
    first, second
        Statistics of either version, of the same models and examples.
    members
        ``[models, examples]``, the same for both.
    pairs
        As for `gossamer.leakage.auditing.audit`.
    seed
        Of resampling.

    Returns
    -------
    dict
        What each attack on two versions finds, by its name: "joint", which sees the outputs of
        both, and "foreign", which sees those of the second and has references of the first alone.
        The latter learns its thresholds on the first, too, which it takes to be like the second;
        the realised false-positive rate shows how wrong that is.

    Raises
    ------
    InputError
        If the versions do not match, or some example has fewer than two references a side.

    References
    ----------
    Carlini et al. (2022), "Membership inference attacks from first principles", IEEE S&P, for one
    version, and in section VII for mismatched shadow models.
    """
    design, split, resampler = _checked(first, second, members, pairs, seed)
    labels = np.zeros(second.examples, dtype=np.int64)  # which none of these attacks looks at
    case = Case(second, labels, design, split, seed, first)
    found = {}
    for name, attack in ATTACKS.items():
        if attack.versions == 2:
            learnt_on = attack.learnt_on(case, None) if attack.learnt_on else None
            scores = attack.score(case, None)
            found[name] = evaluate(attack, scores, design, split, resampler, learnt_on=learnt_on)
    return found


def paired_change(
    first: Statistics,
    second: Statistics,
    members: ArrayLike,
    pairs: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> PairedChange:
    """Measure how leakage changes from a first version to a second, pair by pair.

    Rates are those of LiRA (online, pooled variance) with references of their own kind. Examples
    are followed by their separation: the margin of the mate that trained on an example minus that
    of its mate, in units of the pooled standard deviation of a margin around its example's mean.
    Unlike scores of an attack, separations of different pairs share nothing.

    Parameters
    ----------
    first, second, members, pairs, seed
        As for `attack_versions`; models must come in pairs.

    Returns
    -------
    PairedChange
        Second minus first, with intervals over pairs.

    Raises
    ------
    InputError
        As for `attack_versions`; or if models do not come in pairs.
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


def _checked(
    first: Statistics,
    second: Statistics,
    members: ArrayLike,
    pairs: ArrayLike | None,
    seed: int,
) -> tuple[Design, Split, Resampler]:
    if first.margin.shape != second.margin.shape:
        raise InputError(
            f"versions: the first has {first.margin.shape} models and examples and the second "
            f"{second.margin.shape}, expected the same."
        )
    inside = checked_members(members, first.models, first.examples)
    for model in without_mate(inside, pairs):
        raise InputError(
            f"members: model {model} has no mate among the others, which come in pairs trained on "
            "complementary examples, expected all models to; leave it out of both versions."
        )
    design = find_design(inside, pairs, seed)
    for target in range(design.models):
        counts = reference_counts(design, target)
        fewest = int(min(count[design.informative].min(initial=design.models) for count in counts))
        if fewest < FEWEST_REFERENCES:
            raise InputError(
                f"versions: against model {target} some example has {fewest} references on one "
                f"side, expected at least {FEWEST_REFERENCES}, as three pairs of models give."
            )
    resampler = Resampler(design.units, paired=design.kind == "paired", seed=seed, mutual=True)
    return design, find_split(design, seed), resampler


def _changes(
    scores: list[Scores], design: Design, split: Split, resampler: Resampler
) -> dict[str, Estimate]:
    lira = ATTACKS["lira_online"]
    before, after = (evaluate(lira, part, design, split, resampler).per_model for part in scores)

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

"""From scores to the numbers of an attack: rates at thresholds that never saw what they judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage.attacks.attack import Attack
from gossamer.leakage.design import Design, Scores
from gossamer.leakage.ranking import (
    Floats,
    Ranked,
    accused,
    auc,
    best_of,
    curve,
    precision,
    rank,
    transferred_best,
    transferred_tail,
)
from gossamer.leakage.threshold_split import Split
from gossamer.leakage.uncertainty import (
    CONFIDENCE,
    Resampler,
    auc_estimate,
    balanced_estimate,
    rate_estimate,
)
from gossamer.records.leakage import (
    AttackResult,
    Estimate,
    Precision,
    RateAt,
    RatePoint,
    TargetNumbers,
)
from gossamer.stats.intervals import simultaneous_confidence

RATES = (0.01, 0.001)
"""False-positive rates asked of every attack."""

PRIORS = (0.01, 0.1, 0.5)
CURVE_POINTS = 200
_ROUNDING = 1e-12
"""Rates that differ by less are the same."""

_AROUND = 2.0
"""Times a false-positive rate, up and down, over which the slope of the ROC curve is taken."""

_NOISE = "thresholds of each class are noise at a rare rate: no interval"
_UNRESOLVED = "threshold read off the same scores of one split: no interval"


def fixed_rates(
    scores: Scores, design: Design, split: Split, threshold: float | None
) -> tuple[Floats, Floats]:
    """Return TPR and FPR, ``[models]`` each, at a given threshold or at transferred ones."""
    rows = _ranked_rows(scores, design, split)
    thresholds = _thresholds(rows, split, threshold)
    counts = _Counts.at(rows, thresholds, design.models)
    return counts.tpr, counts.fpr


def settled_rates(scores: Scores, design: Design, split: Split, fpr: float) -> Floats:
    """Return each model's TPR at a transferred threshold, less what the threshold's error did.

    ``[models]``; see `_Tail`. Their mean is that of the rates themselves.
    """
    rows = _ranked_rows(scores, design, split)
    return _Tail.at(rows, rows, split, design.models, fpr).settled


def evaluate(
    attack: Attack,
    scores: Scores,
    design: Design,
    split: Split,
    resampler: Resampler,
    *,
    learnt_on: Scores | None = None,
    compared: int = 1,
) -> AttackResult:
    """Turn the scores of an attack into what is reported of it.

    Parameters
    ----------
    attack
        Where it does not itself say who is accused, its threshold is the one of highest balanced
        accuracy on the rows that may fix it.
    scores
        ``[models, examples]``; NaN for examples that the attack cannot judge. Some members and
        some others must be left of each model.
    design, split, resampler
        Who trained on what, who fixes whose thresholds, and how intervals are found.
    learnt_on
        Scores to fix thresholds on, if not these.
    compared
        Attacks that the strongest is chosen of: true-positive rates get an interval, too, that
        holds for all of them together.

    Returns
    -------
    AttackResult
    """
    if attack.in_sample:
        return _evaluate_in_sample(attack, scores, design, resampler)
    targets = [rank(row, inside) for row, inside in zip(scores, design.members, strict=True)]
    rows = targets if split.folds is None else _ranked_rows(scores, design, split)
    teachers = rows if learnt_on is None else _ranked_rows(learnt_on, design, split)
    counts = _Counts.at(rows, _thresholds(teachers, split, attack.threshold), design.models)
    at = {rate: _Tail.at(rows, teachers, split, design.models, rate) for rate in RATES}
    asked = np.array(RATES)
    read = np.stack([curve(target, asked) for target in targets])
    areas = np.array([auc(target) for target in targets])
    balanced = _balanced(counts, design, resampler)
    rates = [
        _rate_at(rate, at[rate], column, design, resampler, compared)
        for rate, column in zip(RATES, read.T, strict=True)
    ]
    return AttackResult(
        **_named(attack),
        balanced_accuracy=balanced,
        advantage=_advantage(balanced),
        auc=_area(scores, areas, design, resampler),
        tpr_at=tuple(map(_without_interval, rates) if attack.thresholds_of_classes else rates),
        roc=_mean_curve(targets, resampler),
        per_model=tuple(_numbers(model, areas, counts, at, read) for model in range(design.models)),
    )


def _evaluate_in_sample(
    attack: Attack, scores: Scores, design: Design, resampler: Resampler
) -> AttackResult:
    """Report the best threshold on the very scores that it judges: the published baseline."""
    targets = [rank(row, inside) for row, inside in zip(scores, design.members, strict=True)]
    best = np.array([best_of(target).balanced_accuracy for target in targets])
    areas = np.array([auc(target) for target in targets])
    balanced = (
        Estimate(value=float(best.mean()), method=_UNRESOLVED)
        if design.one_membership
        else resampler.estimate(best, 0.0, 1.0)
    )
    return AttackResult(
        **_named(attack),
        optimistic=True,
        balanced_accuracy=balanced,
        advantage=_advantage(balanced),
        auc=_area(scores, areas, design, resampler),
        tpr_at=(),
        roc=_mean_curve(targets, resampler),
        per_model=tuple(
            TargetNumbers(
                model=model, measures={"auc": float(area), "balanced_accuracy": float(accuracy)}
            )
            for model, (area, accuracy) in enumerate(zip(areas, best, strict=True))
        ),
    )


def _named(attack: Attack) -> dict[str, Any]:
    named = {name: getattr(attack, name) for name in ("name", "label", "source", "requirement")}
    return {**named, "rules_out": not (attack.decides or attack.thresholds_of_classes)}


@dataclass(frozen=True)
class _Counts:
    """Who was accused of each model, ``[models]`` each."""

    caught: NDArray[np.int64]
    members: NDArray[np.int64]
    wrongly: NDArray[np.int64]
    others: NDArray[np.int64]

    @staticmethod
    def at(rows: Sequence[Ranked], thresholds: Floats, models: int) -> "_Counts":
        found = np.array(
            [
                [
                    accused(row.inside, threshold),
                    len(row.inside),
                    accused(row.outside, threshold),
                    len(row.outside),
                ]
                for row, threshold in zip(rows, thresholds, strict=True)
            ]
        )
        return _Counts(*found.reshape(-1, models, 4).sum(axis=0).T)

    @property
    def tpr(self) -> Floats:
        return self.caught / self.members

    @property
    def fpr(self) -> Floats:
        return self.wrongly / self.others


@dataclass(frozen=True)
class _Tail:
    """Who was accused at a rare false-positive rate, and how far an error of the threshold matters.

    The thresholds of all targets are estimated from much the same non-members, so that their error
    moves all true-positive rates together and is not seen in how these differ from each other. But
    it is seen in the false-positive rates of those that fixed it: had each model's own
    non-members set the threshold, its true-positive rate would differ by the slope of the ROC curve
    times what its false-positive rate exceeds the mean. Rates moved by that much, which is the
    regression of quantile estimates (Bahadur), vary as the mean does.

    References
    ----------
    Bahadur (1966), "A note on quantiles in large samples", Annals of Mathematical Statistics 37;
    Hsieh and Turnbull (1996), "Nonparametric and semiparametric estimation of the receiver
    operating characteristic curve", Annals of Statistics 24, for the variance of both rates.
    """

    counts: "_Counts"
    taught: Floats
    """False-positive rates of the rows that fix thresholds, by model; ``[models]``."""
    slope: float
    """Of the mean TPR, with respect to the false-positive rate that thresholds are fixed at."""

    @staticmethod
    def at(
        rows: Sequence[Ranked], teachers: Sequence[Ranked], split: Split, models: int, rate: float
    ) -> "_Tail":
        def counted(asked: float) -> tuple[_Counts, Floats]:
            thresholds = transferred_tail(teachers, split.allowed, asked)
            found = _Counts.at(rows, thresholds, models)
            same = teachers is rows
            return found, (found if same else _Counts.at(teachers, thresholds, models)).fpr

        counts, taught = counted(rate)
        # The highest of n non-members is no rarer than one in n.
        scale = max(rate, 1 / _least_taught(teachers, split))
        low, high = (counted(min(part, 1.0))[0].tpr.mean()
                     for part in (scale / _AROUND, scale * _AROUND))  # fmt: skip
        return _Tail(counts, taught, float(high - low) / (scale * (_AROUND - 1 / _AROUND)))

    @property
    def settled(self) -> Floats:
        """True-positive rates, ``[models]``, that vary as their mean does."""
        moved: Floats = self.counts.tpr - self.slope * (self.taught - self.taught.mean())
        return moved

    @property
    def threshold_variance(self) -> float:
        """What the threshold of one model adds to the variance of its true-positive rate."""
        others = int(self.counts.others.min())
        rate = max(float(self.taught.mean()), 1 / others)
        return self.slope**2 * rate * (1 - rate) / others


def _least_taught(teachers: Sequence[Ranked], split: Split) -> int:
    """Return how many non-members fix the threshold of a row, at the least."""
    sizes = np.array([len(row.outside) for row in teachers])
    return max(1, int((split.allowed @ sizes).min()))


def _ranked_rows(scores: Scores, design: Design, split: Split) -> list[Ranked]:
    pairs = zip(split.rows(scores), split.members(design.members), strict=True)
    return [rank(row, inside) for row, inside in pairs]


def _thresholds(rows: Sequence[Ranked], split: Split, threshold: float | None) -> Floats:
    if threshold is not None:
        return np.full(len(rows), threshold)
    return transferred_best(rows, split.allowed)


def _area(scores: Scores, areas: Floats, design: Design, resampler: Resampler) -> Estimate:
    if design.one_membership:
        return auc_estimate(scores, design.members[0])
    return resampler.estimate(areas, 0.0, 1.0)


def _balanced(counts: _Counts, design: Design, resampler: Resampler) -> Estimate:
    members, others = int(counts.members.min()), int(counts.others.min())
    over_examples = balanced_estimate(
        float(counts.tpr.mean()), members, float(counts.fpr.mean()), others
    )
    if design.one_membership:
        return over_examples
    accuracies = (1 + counts.tpr - counts.fpr) / 2
    return _unless_alike(accuracies, resampler.estimate(accuracies, 0.0, 1.0), over_examples)


def _unless_alike(values: Floats, found: Estimate, over_examples: Estimate) -> Estimate:
    """Return an interval over models; over the examples of one where the values of all agree.

    That they agree does not mean that nothing varies: none of them finding anybody among a
    thousand members says that the rate is small, not that it is 0.
    """
    if found.low is None or found.high is None or np.ptp(values) > _ROUNDING:
        return found
    low, high = over_examples.low, over_examples.high
    method = f"{over_examples.method} of one model, as all models agree"
    return found.model_copy(update={"low": low, "high": high, "method": method})


def _advantage(balanced: Estimate) -> Estimate:
    low = None if balanced.low is None else 2 * balanced.low - 1
    high = None if balanced.high is None else 2 * balanced.high - 1
    return Estimate(value=2 * balanced.value - 1, low=low, high=high, method=balanced.method)


def _rate_at(
    rate: float,
    tail: _Tail,
    read: Floats,
    design: Design,
    resampler: Resampler,
    compared: int,
) -> RateAt:
    counts = tail.counts
    members = int(counts.members.min())
    value = float(counts.tpr.mean())

    def estimate(confidence: float) -> Estimate:
        if design.one_membership:
            return rate_estimate(value, members, tail.threshold_variance, confidence)
        moved = resampler.estimate(tail.settled, 0.0, 1.0, confidence)
        return _unless_alike(
            counts.tpr,
            moved.model_copy(update={"value": value}),
            rate_estimate(value, members, confidence=confidence),
        )

    tpr = estimate(CONFIDENCE)
    if design.one_membership:
        on_curve = Estimate(value=float(read.mean()), method=_UNRESOLVED)
    else:
        on_curve = _unless_alike(
            read,
            resampler.estimate(read, 0.0, 1.0),
            rate_estimate(float(read.mean()), members),
        )
    realised = float(counts.fpr.mean())
    together = estimate(simultaneous_confidence(compared, CONFIDENCE)) if compared > 1 else None
    return RateAt(
        fpr=rate,
        realised_fpr=realised,
        tpr=tpr,
        together=together,
        curve_tpr=on_curve,
        precision=tuple(
            Precision(prior=prior, value=precision(tpr.value, realised, prior)) for prior in PRIORS
        ),
    )


def _without_interval(found: RateAt) -> RateAt:
    """Take a rate's intervals away, as those of thresholds of each class hold too seldom."""
    bare = Estimate(value=found.tpr.value, method=_NOISE)
    return found.model_copy(update={"tpr": bare, "together": None})


def _mean_curve(targets: Sequence[Ranked], resampler: Resampler) -> tuple[RatePoint, ...]:
    """Average the targets' ROC curves at equal FPR."""
    finest = max(len(target.outside) for target in targets)
    rates = np.unique(np.geomspace(1 / finest, 1, CURVE_POINTS))
    found = np.stack([curve(target, rates) for target in targets])
    low, high = resampler.bands(found, 0.0, 1.0)
    nothing = [None] * len(rates)
    return tuple(
        RatePoint(fpr=float(fpr), tpr=float(tpr), low=below, high=above)
        for fpr, tpr, below, above in zip(
            rates,
            found.mean(axis=0),
            nothing if low is None else low.tolist(),
            nothing if high is None else high.tolist(),
            strict=True,
        )
    )


def _numbers(
    model: int, areas: Floats, counts: _Counts, at: dict[float, _Tail], read: Floats
) -> TargetNumbers:
    measures = {
        "auc": float(areas[model]),
        "balanced_accuracy": float((1 + counts.tpr[model] - counts.fpr[model]) / 2),
    }
    for place, rate in enumerate(RATES):
        measures[f"tpr@{rate}"] = float(at[rate].counts.tpr[model])
        measures[f"fpr@{rate}"] = float(at[rate].counts.fpr[model])
        measures[f"curve_tpr@{rate}"] = float(read[model, place])
    return TargetNumbers(model=model, measures=measures)

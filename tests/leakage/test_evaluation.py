"""Intervals at transferred thresholds, held against what repeating the whole audit finds."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from gossamer.leakage.attacks.loss import ATTACK
from gossamer.leakage.design import find_design
from gossamer.leakage.evaluation import evaluate, settled_rates
from gossamer.leakage.threshold_split import find_split
from gossamer.leakage.uncertainty import Resampler
from gossamer.records.leakage import AttackResult

Members = NDArray[np.bool_]
PairedMembers = Callable[..., Members]


def attacked(scores: NDArray[np.float64], members: Members, seed: int = 0) -> AttackResult:
    design = find_design(members)
    resampler = Resampler(design.units, paired=design.kind == "paired", seed=seed)
    return evaluate(ATTACK, scores, design, find_split(design, seed), resampler)


def coverage(audits: list[AttackResult], truth: tuple[float, ...] | None = None) -> list[float]:
    """Share of intervals of the TPR at 1% and 0.1% FPR that hold the truth, or else the mean."""
    found = []
    for place in range(2):
        rates = [audit.tpr_at[place].tpr for audit in audits]
        centre = float(np.mean([rate.value for rate in rates])) if truth is None else truth[place]
        inside = [
            rate.low <= centre <= rate.high
            for rate in rates
            if rate.low is not None and rate.high is not None
        ]
        assert len(inside) == len(rates)
        found.append(float(np.mean(inside)))
    return found


def test_intervals_over_pairs_count_the_error_of_the_threshold(
    paired_members: PairedMembers,
) -> None:
    # All thresholds are estimated from much the same others. Intervals that look at how
    # true-positive rates differ between models cover about 66% of the time here.
    hardness = 2 * np.random.default_rng(99).normal(size=1000)
    audits = []
    for seed in range(150):
        members = paired_members(16, 1000, seed)
        noise = np.random.default_rng(1000 + seed).normal(size=members.shape)
        audits.append(attacked(hardness + 1.5 * members + noise, members, seed))
    common, rare = coverage(audits)
    assert 0.89 <= common <= 1.0
    assert 0.89 <= rare <= 1.0


def test_the_interval_of_one_model_counts_the_error_of_its_threshold() -> None:
    truth = tuple(float(stats.norm.sf(stats.norm.isf(rate) - 1.5)) for rate in (0.01, 0.001))
    audits = []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        members = generator.random((1, 10_000)) < 0.5
        audits.append(attacked(generator.normal(size=members.shape) + 1.5 * members, members, seed))
    common, rare = coverage(audits, truth)
    assert 0.9 <= common <= 0.99
    assert 0.86 <= rare <= 0.99


def test_models_of_one_split_do_not_find_what_is_not_there() -> None:
    # What one split happens to part, all its models agree on: counted as independent models,
    # intervals of the AUC would hold 0.5 in a quarter of such audits.
    held = []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        members = np.tile(generator.random(800) < 0.5, (8, 1))
        scores = 2 * generator.normal(size=800) + generator.normal(size=members.shape)
        area = attacked(scores, members, seed).auc
        assert area.method == "DeLong over examples"
        assert area.low is not None
        assert area.high is not None
        held.append(area.low <= 0.5 <= area.high)
    assert 0.9 <= np.mean(held) <= 0.99


def test_pairs_of_one_split_have_no_interval(paired_members: PairedMembers) -> None:
    members = np.tile(paired_members(2, 400), (4, 1))
    scores = np.random.default_rng(0).normal(size=members.shape) + members
    found = attacked(scores, members)
    for estimate in (found.auc, found.balanced_accuracy, *(at.tpr for at in found.tpr_at)):
        assert (estimate.low, estimate.high) == (None, None)
        assert estimate.method == "all models share one split: no interval"


def test_models_that_agree_have_an_interval_over_examples(paired_members: PairedMembers) -> None:
    members = paired_members(16, 400)
    # Members score lower: nobody is found at a rare rate, by any model.
    scores = np.random.default_rng(0).random(members.shape) - 2.0 * members
    found = attacked(scores, members)
    fewest = int(members.sum(axis=1).min())
    for rate in found.tpr_at:
        assert (rate.tpr.value, rate.tpr.low) == (0.0, 0.0)
        assert rate.tpr.high == pytest.approx(1 - 0.025 ** (1 / fewest))
        assert "as all models agree" in rate.tpr.method
        assert rate.curve_tpr.high == rate.tpr.high
    perfect = attacked(members.astype(np.float64), members)
    assert perfect.balanced_accuracy.value == 1.0
    assert perfect.balanced_accuracy.low is not None
    assert 0.95 < perfect.balanced_accuracy.low < 1.0


def test_settling_rates_moves_them_around_their_mean(paired_members: PairedMembers) -> None:
    members = paired_members(8, 3000)
    scores = np.random.default_rng(0).normal(size=members.shape) + members
    design = find_design(members)
    rates = settled_rates(scores, design, find_split(design, 0), 0.01)
    found = attacked(scores, members)
    plain = np.array([target.measures["tpr@0.01"] for target in found.per_model])
    wrongly = np.array([target.measures["fpr@0.01"] for target in found.per_model])
    assert rates.mean() == pytest.approx(plain.mean(), abs=1e-12)
    # By the slope of the ROC curve of two Gaussians a standard deviation apart, about 4.7.
    slopes = (plain - rates) / (wrongly - wrongly.mean())
    assert np.ptp(slopes) < 1e-6
    edge = stats.norm.isf(0.01)
    slope = stats.norm.pdf(edge - 1) / stats.norm.pdf(edge)
    assert slopes[0] == pytest.approx(slope, rel=0.25)

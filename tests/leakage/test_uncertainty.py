import math

import numpy as np
import pytest
from scipy import stats

from gossamer.leakage.attacks.lira_online import lira_online
from gossamer.leakage.design import find_design
from gossamer.leakage.ranking import auc, rank
from gossamer.leakage.references import gather
from gossamer.leakage.uncertainty import (
    Resampler,
    auc_estimate,
    balanced_estimate,
    clopper_pearson,
    rate_estimate,
)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (10, 10), (3, 10), (23, 1000), (1, 1)])
def test_clopper_pearson_is_the_one_of_scipy(count: int, total: int) -> None:
    reference = stats.binomtest(count, total).proportion_ci(method="exact")
    assert clopper_pearson(count, total) == pytest.approx((reference.low, reference.high))


def test_rates_of_one_model_have_intervals_over_examples() -> None:
    found = rate_estimate(0.023, 1000)
    assert (found.value, found.low, found.high) == (0.023, *clopper_pearson(23, 1000))
    both = balanced_estimate(0.6, 100, 0.4, 100)
    assert both.value == pytest.approx(0.6)
    assert both.low is not None
    assert both.high is not None
    # Wider than if only one of the two rates varied.
    low, high = clopper_pearson(60, 100)
    assert both.low < (1 + low - 0.4) / 2
    assert both.high > (1 + high - 0.4) / 2


@pytest.mark.parametrize("sizes", [(10, 10), (60, 60), (50, 160)])
@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.7, 0.4), (0.97, 0.6), (0.2, 0.05)])
def test_balanced_accuracies_of_one_model_are_covered_as_often_as_is_said(
    sizes: tuple[int, int], rates: tuple[float, float]
) -> None:
    truth, covered = (1 + rates[0] - rates[1]) / 2, 0.0
    for caught in range(sizes[0] + 1):
        for wrongly in range(sizes[1] + 1):
            found = balanced_estimate(caught / sizes[0], sizes[0], wrongly / sizes[1], sizes[1])
            assert found.low is not None
            assert found.high is not None
            likely = stats.binom.pmf(caught, sizes[0], rates[0]) * stats.binom.pmf(
                wrongly, sizes[1], rates[1]
            )
            covered += likely * (found.low <= truth <= found.high)
    assert covered >= 0.95
    # Exact intervals of few examples hold more often than they say.
    assert covered <= 0.98 or min(sizes) < 50


def test_the_error_of_a_threshold_counts_as_fewer_examples() -> None:
    plain = rate_estimate(0.2, 1000)
    # As much again as the binomial variance: an interval as of half the examples.
    widened = rate_estimate(0.2, 1000, 201 / 1002 * 801 / 1002 / 1000)
    assert (widened.low, widened.high) == pytest.approx(clopper_pearson(100, 500))
    assert (plain.low, plain.high) == pytest.approx(clopper_pearson(200, 1000))
    assert "threshold's own error" in widened.method


def test_the_interval_of_an_area_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    members = np.arange(200) < 100
    covered = 0
    for _ in range(500):
        found = auc_estimate((generator.normal(size=200) + members)[None], members)
        assert found.low is not None
        assert found.high is not None
        covered += found.low < truth < found.high
    assert 0.92 < covered / 500 < 0.98


@pytest.mark.parametrize("units", [3, 8, 20])
def test_intervals_over_pairs_cover_the_mean_as_often_as_they_say(units: int) -> None:
    generator = np.random.default_rng(units)
    resampler = Resampler(np.repeat(np.arange(units), 2), paired=True, seed=0)
    covered = 0
    for _ in range(400):
        # Mates share their half: what they share is all that varies.
        found = resampler.estimate(np.repeat(generator.normal(size=units), 2))
        assert found.low is not None
        assert found.high is not None
        covered += found.low < 0 < found.high
    assert 0.92 < covered / 400 < 0.985


@pytest.mark.parametrize(("models", "gain"), [(6, 0.0), (8, 0.0), (16, 0.0), (16, 1.0)])
def test_intervals_of_attacks_with_references_cover_as_often_as_they_say(
    models: int, gain: float
) -> None:
    # The targets are each other's references. Intervals that ignore it cover 82 to 90% of the time.
    generator = np.random.default_rng(models)
    hardness = 2 * generator.normal(size=150)
    units = np.repeat(np.arange(models // 2), 2)
    means, intervals, ignoring = [], [], []
    for turn in range(400):
        halves = generator.random((models // 2, 150)) < 0.5
        members = np.stack([halves, ~halves], axis=1).reshape(models, -1)
        margins = hardness + gain * members + generator.normal(size=members.shape)
        scores = lira_online(gather(margins, find_design(members)), pooled=True)
        pairs = zip(scores, members, strict=True)
        areas = np.array([auc(rank(row, inside)) for row, inside in pairs])
        means.append(areas.mean())
        found = Resampler(units, paired=True, seed=turn, mutual=True).estimate(areas)
        intervals.append((found.low, found.high))
        found = Resampler(units, paired=True, seed=turn).estimate(areas)
        ignoring.append((found.low, found.high))

    def covered(ends: list[tuple[float | None, float | None]]) -> float:
        low, high = np.array(ends, dtype=np.float64).T
        return float(((low < np.mean(means)) & (np.mean(means) < high)).mean())

    assert 0.92 <= covered(intervals) <= 0.995
    assert covered(ignoring) < 0.93


def test_two_units_that_are_each_others_references_have_no_interval() -> None:
    both = Resampler(np.array([0, 0, 1, 1]), paired=True, seed=0, mutual=True)
    found = both.estimate(np.array([0.6, 0.7, 0.6, 0.7]))
    assert (found.low, found.high) == (None, None)
    assert found.method == "two pairs, each the other's reference: no interval"


def test_references_that_learnt_nothing_leave_no_interval() -> None:
    units, values = np.arange(10), np.linspace(0.5, 0.7, 10)
    apart = Resampler(units, paired=False, seed=0, misled=True)
    assert apart.estimate(values) == Resampler(units, paired=False, seed=0).estimate(values)
    found = Resampler(units, paired=False, seed=0, mutual=True, misled=True).estimate(values)
    assert (found.low, found.high) == (None, None)
    assert found.method == "some references learnt nothing: no interval"


def test_the_method_is_named() -> None:
    several = np.arange(10)
    assert Resampler(several, paired=False, seed=0).method == "bootstrap over 10 models"
    assert "Student t over 3 pairs" in Resampler(np.arange(3), paired=True, seed=0).method
    one = Resampler(np.zeros(2, dtype=int), paired=True, seed=0)
    found = one.estimate(np.array([0.2, 0.4]))
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high, found.method) == (None, None, "one pair: no interval")


def test_models_of_one_split_are_one_unit() -> None:
    shared = Resampler(np.zeros(8, dtype=int), paired=False, seed=0)
    found = shared.estimate(np.linspace(0.4, 0.6, 8))
    assert (found.low, found.high) == (None, None)
    assert found.method == "all models share one split: no interval"
    assert Resampler(np.repeat(np.arange(3), 4), paired=True, seed=0).method.startswith(
        "Student t over 3 splits"
    )


def test_intervals_stay_within_what_is_possible() -> None:
    found = Resampler(np.arange(3), paired=False, seed=0).estimate(np.array([0, 0, 0.1]), 0, 1)
    assert found.low == 0.0


def test_bands_are_the_intervals_of_each_number() -> None:
    values = np.random.default_rng(0).random((9, 4))
    resampler = Resampler(np.arange(9), paired=False, seed=0)
    low, high = resampler.bands(values, 0, 1)
    assert low is not None
    assert high is not None
    for place in range(4):
        single = resampler.estimate(values[:, place], 0, 1)
        assert (single.low, single.high) == pytest.approx((low[place], high[place]))

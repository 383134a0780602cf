import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from gossamer.core.errors import InputError
from gossamer.stats import intervals
from gossamer.stats.intervals import (
    binomial_half_width,
    mean_interval,
    rounding_deviation,
    simultaneous_confidence,
    two_groups,
)

NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(NUMBERS, min_size=2, max_size=7), st.floats(0.5, 0.999))
def test_interval_of_few_values_is_the_one_of_scipy(values: list[float], confidence: float) -> None:
    interval = mean_interval(values, confidence)
    assert interval.mean == pytest.approx(np.mean(values), rel=1e-12, abs=1e-9)
    error = float(stats.sem(values))
    reach = error * float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    assert interval.half_width == pytest.approx(reach, rel=1e-7, abs=1e-9)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= interval.mean <= interval.high


def test_two_values_have_the_cauchy_interval() -> None:
    interval = mean_interval([0.0, 2.0], confidence=0.95)
    # With one degree of freedom the quantile is tan(pi (p - 1/2)), and the standard error 1.
    assert interval.half_width == pytest.approx(math.tan(math.pi * 0.475), rel=1e-9)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 4))
    intervals = [mean_interval(list(row), 0.9) for row in draws]
    covered = sum(i.low < 0 < i.high for i in intervals if i.low is not None and i.high is not None)
    assert abs(covered / 2000 - 0.9) < 4 * math.sqrt(0.09 / 2000)


def hall(t: float, skewness: float, count: int) -> float:
    """Hall's transformation, as his paper has it."""
    root, g = math.sqrt(count), skewness
    return t + g * t**2 / (3 * root) + g**2 * t**3 / (27 * count) + g / (6 * root)


@given(st.lists(st.floats(-3, 3), min_size=8, max_size=30), st.floats(0.8, 0.999))
def test_ends_are_the_wider_of_students_and_halls_where_values_are_skewed(
    values: list[float], confidence: float
) -> None:
    values = [value**3 for value in values]
    assume(np.std(values) > 1e-3)
    interval = mean_interval(values, confidence)
    assert interval.low is not None
    assert interval.high is not None
    error, count = float(stats.sem(values)), len(values)
    reach = float(stats.t.ppf((1 + confidence) / 2, count - 1))
    below, above = (interval.mean - interval.low) / error, (interval.high - interval.mean) / error
    skewed = float(stats.skew(values))
    if abs(skewed) > 1e-9:  # of 0, scipy takes the score of another number
        score = stats.skewtest(values).statistic
        assert intervals._skewness_score(skewed, len(values)) == pytest.approx(score)
    if stats.skewtest(values).pvalue >= 0.05:
        assert (below, above) == pytest.approx((reach, reach), rel=1e-6)
        return
    assert min(below, above) >= reach * (1 - 1e-6)
    skewness = float(stats.skew(values, bias=False))
    for t, quantile in ((below, reach), (-above, -reach)):
        if abs(t) > reach * (1 + 1e-6):
            assert hall(t, skewness, count) == pytest.approx(quantile, rel=1e-5)


@pytest.mark.parametrize(
    ("draw", "mean", "student", "covered"),
    [
        (np.random.Generator.exponential, 1.0, 0.919, 0.935),
        (np.random.Generator.standard_normal, 0.0, 0.95, 0.95),
    ],
)
def test_skewed_values_are_covered_more_often(
    draw: Any, mean: float, student: float, covered: float
) -> None:
    draws = draw(np.random.default_rng(5), size=(4000, 20))
    intervals = [mean_interval(row.tolist()) for row in draws]
    found = np.mean([i.low < mean < i.high for i in intervals if i.low and i.high])
    assert found > covered - 3 * math.sqrt(0.05 * 0.95 / 4000)
    reach = stats.sem(draws, axis=1) * stats.t.ppf(0.975, 19)
    plain = np.mean(np.abs(draws.mean(axis=1) - mean) < reach)
    assert abs(plain - student) < 4 * math.sqrt(0.05 * 0.95 / 4000)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=20), st.integers(1, 3))
def test_collapsed_networks_are_seen_among_the_others(values: list[float], collapsed: int) -> None:
    groups = [*values, *(-40.0 + 0.1 * number for number in range(collapsed))]
    assert two_groups(groups) == collapsed
    assert two_groups([-one for one in groups]) == collapsed
    assert two_groups(groups[-7:]) is None  # of so few nothing can be said


def test_normal_values_are_seldom_taken_for_two_groups() -> None:
    rows = np.random.default_rng(6).normal(size=(8000, 8))
    assert sum(two_groups(row.tolist()) is not None for row in rows) / 8000 < 0.012


def test_rounded_values_that_differ_by_a_step_are_no_groups() -> None:
    values = [0.5] * 9 + [0.501]
    assert two_groups(values) == 1
    assert two_groups(values, rounding_deviation(0.001)) is None


def test_one_value_has_no_interval() -> None:
    interval = mean_interval([0.25])
    assert (interval.mean, interval.low, interval.high, interval.count) == (0.25, None, None, 1)
    assert interval.half_width is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    interval = mean_interval([0.1, 0.1, 0.1])
    assert interval.mean == pytest.approx(0.1, rel=1e-15)
    assert interval.half_width == pytest.approx(0, abs=1e-16)


def test_simultaneous_intervals_all_hold_as_often_as_they_say() -> None:
    draws = np.random.default_rng(0).normal(size=(1000, 6, 4))
    confidence = simultaneous_confidence(6, 0.9)
    held = sum(
        all(i.low < 0 < i.high for i in found if i.low is not None and i.high is not None)
        for found in ([mean_interval(list(row), confidence) for row in study] for study in draws)
    )
    assert held / 1000 > 0.9 - 4 * math.sqrt(0.09 / 1000)


def test_simultaneous_confidence_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least one interval"):
        simultaneous_confidence(0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_have_no_mean_are_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="finite numbers"):
        mean_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_that_is_no_fraction_is_refused(confidence: float) -> None:
    with pytest.raises(InputError, match="confidence"):
        mean_interval([1.0, 2.0], confidence)


def test_the_interval_of_differences_agrees_with_the_paired_t_test() -> None:
    first, second = [0.92, 0.95, 0.93, 0.94], [0.90, 0.91, 0.93, 0.92]
    ours = mean_interval([a - b for a, b in zip(first, second, strict=True)])
    theirs = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_rounding_has_the_deviation_of_uniform_errors() -> None:
    steps = np.random.default_rng(2).uniform(-0.5, 0.5, size=(200_000, 3))
    for terms in (1, 2, 3):
        found = steps[:, :terms].sum(axis=1).std()
        assert rounding_deviation(1.0, terms) == pytest.approx(found, rel=0.01)


def test_equal_values_have_the_interval_of_their_rounding() -> None:
    plain = mean_interval([0.9, 0.9, 0.9], least_deviation=0.3)
    assert plain.half_width == pytest.approx(stats.t.ppf(0.975, 2) * 0.3 / math.sqrt(3))
    wide = [0.1, 0.5, 0.9]
    assert mean_interval(wide, least_deviation=0.3) == mean_interval(wide)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_binomial_half_width_is_that_of_scipy(count: int, share: float, confidence: float) -> None:
    hits = round(share * count)
    found = stats.binomtest(hits, count).proportion_ci(confidence, method="wilson")
    half = (found.high - found.low) / 2
    assert binomial_half_width(hits / count, count, confidence) == pytest.approx(half, rel=1e-6)

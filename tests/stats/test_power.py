import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from gossamer.core.errors import InputError
from gossamer.stats.intervals import mean_interval, mutual_widening
from gossamer.stats.power import (
    MOST_UNITS,
    distance_to_threshold,
    power_at_each_threshold,
    smallest_detectable_difference,
    units_needed,
)
from gossamer.stats.verdicts import Says, comparison_verdict

CONFIDENCES = st.floats(0.8, 0.999)
POWERS = st.floats(0.5, 0.95)
UNITS = st.integers(2, 60)


def test_widening_of_units_that_are_each_others_references_is_that_of_their_number() -> None:
    needed = units_needed(1.0, 0.5, mutual=True)
    assert needed is not None
    for units, enough in ((needed - 1, False), (needed, True)):
        widened = mutual_widening(units)
        assert (smallest_detectable_difference(widened, units) <= 0.5) == enough
    # What was widened for 4 units would ask for half as many again.
    frozen = units_needed(mutual_widening(4), 0.5)
    assert frozen is not None
    assert frozen > 1.4 * needed


@given(UNITS, CONFIDENCES, POWERS)
def test_detectable_difference_has_the_power_by_the_noncentral_t(
    units: int, confidence: float, power: float
) -> None:
    shift = smallest_detectable_difference(2.0, units, confidence, power) * math.sqrt(units) / 2
    critical = stats.t.ppf((1 + confidence) / 2, units - 1)
    assert stats.nct.sf(critical, units - 1, shift) == pytest.approx(power, abs=1e-4)


def test_two_units_by_integrating_over_their_spread() -> None:
    # With one degree of freedom the standard deviation is a half-normal |z|, and the mean is
    # normal: the interval excludes zero if mean > critical * |z|.
    critical = math.tan(math.pi * 0.475)
    spreads, weights = np.polynomial.legendre.leggauss(400)
    spreads, weights = 4 * (spreads + 1), 4 * weights

    def power(shift: float) -> float:
        density = 2 * stats.norm.pdf(spreads)
        return float((weights * density * stats.norm.sf(critical * spreads - shift)).sum())

    shift = optimize.brentq(lambda x: power(x) - 0.8, 0, 100)
    assert smallest_detectable_difference(1.0, 2) == pytest.approx(shift / math.sqrt(2), rel=1e-5)


def test_many_units_approach_the_normal_formula() -> None:
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 3 / math.sqrt(100_000)
    found = smallest_detectable_difference(3.0, 100_000)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("units", "confidence"), [(4, 0.95), (4, 0.995), (16, 0.99)])
def test_simulated_studies_see_it_four_times_out_of_five(units: int, confidence: float) -> None:
    difference = smallest_detectable_difference(0.01, units, confidence)
    draws = np.random.default_rng(3).normal(difference, 0.01, size=(4000, units))
    means = [mean_interval(row.tolist(), confidence) for row in draws]
    seen = sum(one.low > 0 for one in means if one.low is not None) / 4000
    assert abs(seen - 0.8) < 4 * math.sqrt(0.16 / 4000)


@given(st.floats(0.01, 2), st.floats(0.05, 5), CONFIDENCES)
def test_units_needed_are_the_fewest(deviation: float, distance: float, confidence: float) -> None:
    needed = units_needed(deviation, distance, confidence)
    enough = [
        n
        for n in (*range(2, 40), MOST_UNITS)
        if smallest_detectable_difference(deviation, n, confidence) <= distance
    ]
    if needed is None:
        assert not enough
    elif needed < 40:
        assert needed == enough[0]
    else:
        assert enough == [MOST_UNITS]
        assert smallest_detectable_difference(deviation, needed, confidence) <= distance
        assert smallest_detectable_difference(deviation, needed - 1, confidence) > distance


def test_no_spread_needs_two_units_and_no_distance_needs_too_many() -> None:
    assert smallest_detectable_difference(0.0, 5) == 0.0
    assert units_needed(0.0, 0.1) == 2
    assert units_needed(1.0, 0.0) is None
    assert units_needed(1.0, 0.05, most=1000) is None


@pytest.mark.parametrize(
    ("deviation", "units", "confidence", "power"),
    [
        (1.0, 1, 0.95, 0.8),
        (-1.0, 4, 0.95, 0.8),
        (math.nan, 4, 0.95, 0.8),
        (1.0, 4, 1.0, 0.8),
        (1.0, 4, 0.95, 0.0),
    ],
)
def test_numbers_out_of_range_are_refused(
    deviation: float, units: int, confidence: float, power: float
) -> None:
    with pytest.raises(InputError, match="power needs"):
        smallest_detectable_difference(deviation, units, confidence, power)


@given(st.sampled_from(get_args(Says)), st.floats(0.1, 2), st.floats(-4, 4))
def test_an_interval_narrower_than_the_distance_decides(
    says: Says, margin: float, mean: float
) -> None:
    distance = distance_to_threshold(says, margin, mean)
    assert distance >= 0
    if distance > 1e-6:
        reach = distance * (1 - 1e-9)
        interval = mean_interval([mean, mean])
        narrow = type(interval)(mean, mean - reach, mean + reach, 4)
        assert comparison_verdict(says, margin, narrow) != "undecided"
        reach = distance * (1 + 1e-9)
        wide = type(interval)(mean, mean - reach, mean + reach, 4)
        assert comparison_verdict(says, margin, wide) == "undecided"


@pytest.mark.parametrize(("says", "mean"), [("on-par", 0.0), ("higher", 1.0), ("not-lower", 0.0)])
def test_simulated_claims_are_decided_four_times_out_of_five(says: Says, mean: float) -> None:
    # The margin is as far from the mean as the power statement says it must be.
    power = power_at_each_threshold(says)
    distance = smallest_detectable_difference(1.0, 12, power=power)
    margin = mean - distance if says == "higher" else distance
    draws = np.random.default_rng(4).normal(mean, 1.0, size=(4000, 12))
    decided = [
        comparison_verdict(says, margin, mean_interval(row.tolist())) == "supported"
        for row in draws
    ]
    assert abs(np.mean(decided) - 0.8) < 4 * math.sqrt(0.16 / 4000)

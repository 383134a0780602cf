import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.stats.intervals import Interval, bounded, mean_interval, simultaneous_confidence
from gossamer.stats.verdicts import (
    Over,
    Says,
    Verdict,
    claim_verdict,
    comparison_verdict,
)

SAYS = st.sampled_from(get_args(Says))
ENDS = st.floats(-10, 10)
MARGINS = st.floats(0, 5)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, high = sorted((draw(ENDS), draw(ENDS)))
    return Interval((low + high) / 2, low, high, 4)


def holds(says: Says, margin: float, difference: float) -> bool:
    """Whether a claim is true of a known difference."""
    return {
        "higher": difference > margin,
        "lower": difference < -margin,
        "not-lower": difference > -margin,
        "not-higher": difference < margin,
        "on-par": -margin < difference < margin,
    }[says]


def thresholds(says: Says, margin: float) -> set[float]:
    """Return where the truth of a claim turns."""
    if says == "on-par":
        return {-margin, margin}
    return {margin} if says in ("higher", "not-higher") else {-margin}


@given(SAYS, MARGINS, intervals())
def test_verdict_is_the_truth_of_every_difference_of_the_interval(
    says: Says, margin: float, interval: Interval
) -> None:
    assert interval.low is not None
    assert interval.high is not None
    inside = [*np.linspace(interval.low, interval.high, 21).tolist(), interval.low, interval.high]
    verdict = comparison_verdict(says, margin, interval)
    if verdict == "undecided":
        assert any(interval.low <= one <= interval.high for one in thresholds(says, margin))
    else:
        assert {holds(says, margin, one) for one in inside} == {verdict == "supported"}


@given(SAYS, MARGINS, ENDS, st.floats(0, 5), st.floats(0, 1))
def test_a_narrower_interval_within_never_turns_a_verdict(
    says: Says, margin: float, mean: float, reach: float, share: float
) -> None:
    wide = comparison_verdict(says, margin, Interval(mean, mean - reach, mean + reach, 4))
    closer = share * reach
    narrow = comparison_verdict(says, margin, Interval(mean, mean - closer, mean + closer, 40))
    assert wide in (narrow, "undecided")


@given(SAYS, MARGINS, ENDS)
def test_without_error_the_verdict_is_the_truth(says: Says, margin: float, mean: float) -> None:
    if min(abs(mean - one) for one in thresholds(says, margin)) > 1e-6:
        verdict = comparison_verdict(says, margin, Interval(mean, mean - 1e-9, mean + 1e-9, 4))
        assert verdict == ("supported" if holds(says, margin, mean) else "refuted")


@given(MARGINS, intervals())
def test_higher_is_refuted_where_not_higher_is_supported(margin: float, interval: Interval) -> None:
    higher = comparison_verdict("higher", margin, interval)
    negation = comparison_verdict("not-higher", margin, interval)
    assert {higher, negation} in ({"supported", "refuted"}, {"undecided"})


def test_more_seeds_do_not_turn_a_small_effect_from_supported_to_refuted() -> None:
    # A true rise of 0.3 with a margin that matters of 0.5: supported by no number of seeds.
    generator = np.random.default_rng(5)
    draws = generator.normal(0.3, 0.4, size=(200, 400))
    found = [
        [comparison_verdict("higher", 0.5, mean_interval(row[:n].tolist())) for n in (4, 20, 400)]
        for row in draws
    ]
    supported, refuted = ([row.count(one) for row in zip(*found, strict=True)]
                          for one in ("supported", "refuted"))  # fmt: skip
    assert max(supported) < 0.05 * 200
    assert refuted[0] < refuted[1] < refuted[2] == 200


@given(SAYS, MARGINS, intervals())
def test_opposite_claim_of_the_opposite_difference_is_the_same(
    says: Says, margin: float, interval: Interval
) -> None:
    assert interval.low is not None
    assert interval.high is not None
    opposites: dict[Says, Says] = {
        "higher": "lower",
        "lower": "higher",
        "not-lower": "not-higher",
        "not-higher": "not-lower",
        "on-par": "on-par",
    }
    turned = Interval(-interval.mean, -interval.high, -interval.low, interval.count)
    assert comparison_verdict(opposites[says], margin, turned) == comparison_verdict(
        says, margin, interval
    )


@pytest.mark.parametrize(
    ("says", "low", "high", "verdict"),
    [
        ("higher", 0.6, 0.9, "supported"),
        ("higher", 0.1, 0.6, "undecided"),  # higher, but perhaps by less than what matters
        ("higher", 0.1, 0.4, "refuted"),  # higher, but by less than what matters
        ("higher", 0.5, 0.9, "undecided"),
        ("higher", -0.9, -0.6, "refuted"),
        ("higher", -0.1, 0.6, "undecided"),
        ("higher", 0.0, 0.6, "undecided"),
        ("lower", -0.9, -0.6, "supported"),
        ("lower", -0.6, -0.1, "undecided"),
        ("lower", -0.4, -0.1, "refuted"),
        ("lower", -0.6, 0.1, "undecided"),
        ("not-lower", -0.4, 0.2, "supported"),
        ("not-lower", 0.7, 0.9, "supported"),
        ("not-lower", -0.9, -0.6, "refuted"),
        ("not-lower", -0.6, 0.2, "undecided"),
        ("not-higher", -0.2, 0.4, "supported"),
        ("not-higher", 0.6, 0.9, "refuted"),
        ("not-higher", 0.4, 0.6, "undecided"),
        ("on-par", -0.4, 0.4, "supported"),
        ("on-par", 0.6, 0.8, "refuted"),
        ("on-par", -0.8, -0.6, "refuted"),
        ("on-par", -0.6, 0.4, "undecided"),
        ("on-par", -0.6, 0.6, "undecided"),
    ],
)
def test_verdicts_at_a_margin_of_a_half(
    says: Says, low: float, high: float, verdict: Verdict
) -> None:
    assert comparison_verdict(says, 0.5, Interval((low + high) / 2, low, high, 4)) == verdict


@given(SAYS)
def test_one_seed_decides_nothing(says: Says) -> None:
    assert comparison_verdict(says, 0.5, mean_interval([0.9])) == "undecided"


def test_equal_differences_decide_by_their_value() -> None:
    nothing = mean_interval([0.0, 0.0, 0.0])
    assert comparison_verdict("on-par", 0.5, nothing) == "supported"
    assert comparison_verdict("higher", 0.5, nothing) == "refuted"
    assert comparison_verdict("higher", 0.5, mean_interval([0.75, 0.75])) == "supported"
    assert comparison_verdict("not-lower", 0.5, mean_interval([-0.75, -0.75])) == "refuted"


@pytest.mark.parametrize("margin", [-0.1, math.nan])
def test_margin_below_zero_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="margin of a claim must be at least 0"):
        comparison_verdict("higher", margin, Interval(0, -1, 1, 3))


VERDICTS = st.lists(st.sampled_from(get_args(Verdict)), min_size=1, max_size=5)


@given(VERDICTS)
def test_each_and_any_are_each_others_negation(verdicts: list[Verdict]) -> None:
    negation: dict[Verdict, Verdict] = {
        "supported": "refuted",
        "refuted": "supported",
        "undecided": "undecided",
    }
    negated = [negation[one] for one in verdicts]
    assert claim_verdict("each", verdicts) == negation[claim_verdict("any", negated)]


@given(VERDICTS)
def test_each_is_supported_by_all_and_refuted_by_one(verdicts: list[Verdict]) -> None:
    expected = "refuted" if "refuted" in verdicts else "undecided"
    if set(verdicts) == {"supported"}:
        expected = "supported"
    assert claim_verdict("each", verdicts) == expected


@given(st.sampled_from(get_args(Over)))
def test_nothing_decides_nothing(over: Over) -> None:
    assert claim_verdict(over, []) == "undecided"


def error_rate(says: Says, over: Over, truth: list[float], wrong: Verdict, margin: float) -> float:
    """Share of 2,000 studies of 4 seeds that come to a wrong verdict; levels share a baseline."""
    generator = np.random.default_rng(7)
    confidence = simultaneous_confidence(len(truth))
    found = 0
    for _ in range(2000):
        shared = generator.normal(size=4)
        rows = [one + generator.normal(size=4) - shared for one in truth]
        verdicts = [
            comparison_verdict(says, margin, mean_interval(row.tolist(), confidence))
            for row in rows
        ]
        found += claim_verdict(over, verdicts) == wrong
    return found / 2000


@pytest.mark.parametrize(
    ("says", "over", "truth", "wrong"),
    [
        ("higher", "any", [1.0] * 5, "supported"),
        ("higher", "each", [1.0] * 5, "refuted"),
        ("not-lower", "each", [-1.0] * 5, "refuted"),
        ("not-lower", "any", [-1.0] * 5, "supported"),
        ("on-par", "each", [1.0] * 5, "refuted"),
        ("lower", "any", [-1.0] * 5, "supported"),
    ],
)
def test_wrong_verdicts_are_as_rare_as_they_should_be(
    says: Says, over: Over, truth: list[float], wrong: Verdict
) -> None:
    rate = error_rate(says, over, truth, wrong, margin=1.0)
    assert rate < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 2000)


def test_verdicts_are_reached_where_the_difference_is_large() -> None:
    assert error_rate("higher", "each", [30.0] * 5, "supported", margin=1.0) > 0.95


@given(intervals(), st.floats(10, 20))
def test_bounds_beyond_the_interval_change_nothing(interval: Interval, most: float) -> None:
    assert bounded(interval, most) == interval


def test_interval_is_cut_to_what_is_possible() -> None:
    assert bounded(Interval(0.5, -3.0, 4.0, 2), 1.0) == Interval(0.5, -1.0, 1.0, 2)
    assert bounded(Interval(0.5, None, None, 1), 1.0) == Interval(0.5, None, None, 1)

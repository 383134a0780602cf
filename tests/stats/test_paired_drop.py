"""Bounds of a drop on paired examples: against brute force, the closed form, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.stats.paired_drop import (
    Pairs,
    drop_bound,
    drop_interval,
    drop_p_value,
    examples_needed,
    mean_drop_bound,
)


def tango(n: int, lost: int, won: int, drop: float) -> float:
    """Tango's statistic by maximising the likelihood on a grid, not by its formula."""
    shares = np.linspace(1e-12, (1 - drop) / 2, 20_001)  # of won; lost is that and the drop
    log = lost * np.log(shares + drop) + won * np.log(shares)
    log += (n - lost - won) * np.log1p(-2 * shares - drop + 1e-15)
    best = shares[log.argmax()]
    return float((lost - won - n * drop) / math.sqrt(n * (2 * best + drop * (1 - drop))))


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 2), (2, 3)])
def test_the_p_value_is_the_summed_probability_of_outcomes_at_least_as_good(
    lost: int, won: int
) -> None:
    n, drop = 12, 0.3
    outcomes = [(b, c) for b, c in itertools.product(range(n + 1), repeat=2) if b + c <= n]
    statistics = {one: tango(n, *one, drop) for one in outcomes}
    observed = statistics[lost, won]
    better = [one for one in outcomes if statistics[one] <= observed + 1e-3]
    largest = 0.0
    for differ in np.linspace(drop + 1e-9, 1, 400):
        p, q = (differ + drop) / 2, (differ - drop) / 2
        total = sum(
            math.factorial(n)
            / (math.factorial(b) * math.factorial(c) * math.factorial(n - b - c))
            * p**b * q**c * (1 - p - q) ** (n - b - c)
            for b, c in better
        )  # fmt: skip
        largest = max(largest, total)
    found = drop_p_value(Pairs(n, lost, won), drop)
    # Only likely shares of differing examples are looked at, for which 0.001 is added.
    assert found <= largest + 0.001 + 1e-3
    assert found >= 0.5 * largest


def test_without_a_difference_the_bound_is_the_rule_of_three() -> None:
    exact = 1 - 0.05 ** (1 / 1000)
    assert exact <= drop_bound(Pairs(1000, 0, 0)) < 1.02 * exact


def test_of_many_examples_the_bound_is_the_normal_one() -> None:
    pairs = Pairs(50_000, 1_100, 1_000)
    normal = pairs.drop + 1.645 * math.sqrt((pairs.changed - pairs.drop**2) / 50_000)
    assert drop_bound(pairs) == pytest.approx(normal, rel=0.03)


def test_the_bound_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = 20_000
    for n, p_lost, p_won in [(200, 0.03, 0.02), (300, 0.012, 0.0)]:
        counts = rng.multinomial(n, [p_lost, p_won, 1 - p_lost - p_won], draws)
        outcomes, times = np.unique(counts[:, :2], axis=0, return_counts=True)
        drop = p_lost - p_won
        refuted = [drop_p_value(Pairs(n, int(b), int(c)), drop) <= 0.05 for b, c in outcomes]
        assert times[refuted].sum() / draws <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


def test_better_pairs_have_lower_bounds() -> None:
    bounds = [drop_bound(Pairs(800, lost, 6)) for lost in range(0, 20, 4)]
    assert bounds == sorted(bounds)
    assert drop_bound(Pairs(300, 0, 40)) == 0.0


def test_numbers_are_bounded_by_their_mean_and_spread() -> None:
    drops = np.random.default_rng(1).normal(0.1, 1.0, 4000)
    expected = drops.mean() + 1.645 * drops.std(ddof=1) / math.sqrt(4000)
    assert mean_drop_bound(drops.tolist()) == pytest.approx(expected, abs=2e-3)
    assert mean_drop_bound([0.25] * 9) == 0.25


def test_so_many_examples_as_are_needed_do() -> None:
    n = examples_needed(0.005, 0.04)
    half = round(0.02 * n)
    assert drop_bound(Pairs(n, half, half)) == pytest.approx(0.005, rel=0.05)
    assert examples_needed(0.005, 0.0) == 598


def test_impossible_counts_are_refused() -> None:
    for counts in [(3, 2, 2), (0, 0, 0), (5, -1, 0)]:
        with pytest.raises(InputError, match="impossible"):
            Pairs(*counts)
    with pytest.raises(InputError, match="between 0 and 1"):
        drop_p_value(Pairs(5, 1, 0), 0.0)


def test_intervals_of_a_drop_hold_on_both_sides() -> None:
    random = np.random.default_rng(0)
    for n, lost, won in ((200, 0.08, 0.03), (1000, 0.12, 0.02)):
        drawn = random.multinomial(n, [lost, won, 1 - lost - won], 1000)
        ends = np.array([drop_interval(Pairs(n, int(b), int(c))) for b, c, _ in drawn])
        below, above = (ends[:, 1] < lost - won).mean(), (ends[:, 0] > lost - won).mean()
        assert max(below, above) < 0.045  # 2.5% each, three standard errors


@given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 300))
@example(102, 0, 68)  # both roots are one
def test_intervals_turn_with_the_networks(n: int, lost: int, won: int) -> None:
    pairs = Pairs(n + lost + won, lost, won)
    low, high = drop_interval(pairs)
    assert low <= pairs.drop + 1e-6
    assert pairs.drop - 1e-6 <= high
    swapped = drop_interval(Pairs(pairs.examples, won, lost))
    assert swapped == pytest.approx((-high, -low), abs=1e-6)

"""Which candidate is tested how surely, and when that ends."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.shrinking.ordering import Order, early_of

Z = {0.975: 1.959964, 0.95: 1.644854}


def taken(order: Order, passes: list[dict[float, bool]]) -> list[bool]:
    """Return which candidates may be taken, by whether each passes at each confidence."""
    within: list[bool] = []
    for one in passes:
        if order.has_ended(within):
            break
        within.append(one[round(order.sure(within), 6)] and order.is_tested(within))
    return within


@pytest.mark.parametrize("count", [3, 7, 11])
def test_no_order_of_passes_takes_one_more_often_than_by_its_own_half_or_whole(count: int) -> None:
    order = Order(early_of(count), 0.95)
    for outcome in itertools.product(({0.975: False, 0.95: False}, {0.975: True, 0.95: True}),
                                     repeat=count):  # fmt: skip
        found = taken(order, list(outcome))
        early, late = found[: order.early], found[order.early :]
        # Those that are taken are the first of their order, without a gap.
        assert early == sorted(early, reverse=True)
        assert late == sorted(late, reverse=True)
        if order.early:
            assert (len(late) > 0) is (len(found) > order.early)


@given(st.integers(1, 40), st.floats(0.5, 0.999))
def test_the_levels_of_both_orders_are_the_level_asked(count: int, confidence: float) -> None:
    order = Order(early_of(count), confidence)
    failed = [False] + [True] * (count - 1)
    if not order.early:
        assert order.sure([]) == confidence
        return
    assert 2 - order.sure([]) - order.sure(failed) == pytest.approx(1 - confidence)
    assert order.sure([True] * order.early) == confidence


@pytest.mark.parametrize("first_beyond", [0, 1, 3, 4, 7])
def test_networks_beyond_the_budget_are_taken_in_no_more_than_a_twentieth_of_the_searches(
    first_beyond: int,
) -> None:
    # Estimates of eleven candidates on the same examples, in standard errors, correlated by 0.9;
    # those beyond the budget lie exactly on it, which is the worst there is.
    rng, count, order = np.random.default_rng(0), 11, Order(early_of(11), 0.95)
    drops = np.where(np.arange(count) < first_beyond, -2.0, 0.0)
    wrong = 0
    for _ in range(4000):
        common, own = rng.standard_normal(), rng.standard_normal(count)
        estimates = drops + np.sqrt(0.9) * common + np.sqrt(0.1) * own
        passes = [{sure: bool(one < -z) for sure, z in Z.items()} for one in estimates]
        within = taken(order, passes)
        wrong += any(within[first_beyond:])
    assert wrong / 4000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)

"""What validation data says of a candidate."""

import pytest
import torch

from gossamer.shrinking.judging import Budget, drop_interval, judged, mean_bounds
from gossamer.shrinking.task import Task, classification
from gossamer.stats.paired_drop import Pairs, drop_bound


def answers(right: int, count: int) -> torch.Tensor:
    return (torch.arange(count) < right).double()


def squared_error() -> Task:
    return Task(lambda a, b: (a - b).mean(), lambda a, b: a - b, higher_is_better=False, name="mse")


def test_a_drop_is_held_to_the_bound_of_pairs() -> None:
    before, after = answers(2700, 3000), answers(2700, 3000)
    after[:30], after[2700:2730] = 0, 1
    budget = Budget(classification(), before, 0.01, None, 0.95)
    found = judged(budget, after)
    assert (found.drop, found.changed) == (0, 0.02)
    assert found.bound == drop_bound(Pairs(3000, 30, 30))
    assert found.within
    after[30:55] = 0
    assert not judged(budget, after).within


def test_a_bound_may_be_surer_than_that_of_the_budget() -> None:
    before, after = answers(2700, 3000), answers(2700, 3000)
    after[:38], after[2700:2722] = 0, 1
    budget = Budget(classification(), before, 0.01, None, 0.95)
    assert judged(budget, after).within
    strict = judged(budget, after, 0.975)
    assert strict.bound == drop_bound(Pairs(3000, 38, 22), 0.975) > judged(budget, after).bound
    assert not strict.within
    reached = Budget(classification(), before, 1.0, 0.88, 0.95)
    assert judged(reached, answers(2672, 3000)).within
    assert not judged(reached, answers(2672, 3000), 0.975).within


def test_too_few_examples_are_known_beforehand_and_the_estimate_counts() -> None:
    few = Budget(classification(), answers(90, 100), 0.005, None, 0.95)
    assert not few.is_provable
    assert judged(few, answers(90, 100)).within
    assert not judged(few, answers(89, 100)).within
    assert Budget(classification(), answers(1900, 2000), 0.005, None, 0.95).is_provable


def test_an_accuracy_that_must_be_reached_is_held_to_its_own_bound() -> None:
    budget = Budget(classification(), answers(2700, 3000), 0.005, 0.88, 0.95)
    assert judged(budget, answers(2700, 3000)).within  # 90%, surely above 88%
    assert not judged(budget, answers(2650, 3000)).within  # 88.3%, perhaps below


def test_errors_drop_when_they_grow() -> None:
    torch.manual_seed(0)
    before = torch.rand(2000).double()
    budget = Budget(squared_error(), before, 0.05, None, 0.95)
    assert judged(budget, before + 0.01).drop == pytest.approx(0.01)
    assert judged(budget, before + 0.01).within
    assert not judged(budget, before + 0.06).within
    assert judged(budget, before - 0.06).drop < 0


def test_intervals_hold_the_estimate() -> None:
    drops = answers(40, 1000) - 0.02
    for values in (torch.zeros(50).double(), answers(3, 500) - answers(6, 500)):
        found = drop_interval(classification(), values, 0.95)
        assert found.low <= found.value <= found.high
    mean = mean_bounds(squared_error(), drops, 0.95)
    assert mean.low < mean.value < mean.high
    exact = mean_bounds(classification(), answers(0, 20), 0.95)
    assert exact.low == 0
    assert exact.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_what_so_many_examples_show_at_one_level_they_may_not_at_another() -> None:
    few = Budget(classification(), answers(1260, 1400), 0.005, None, 0.95)
    assert few.is_provable
    assert not few.can_show(0.975)
    reached = Budget(classification(), answers(900, 1000), 0.0175, 0.8825, 0.95)
    assert reached.is_provable
    assert not reached.can_show(0.975)

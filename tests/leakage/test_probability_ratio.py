from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.leakage import Statistics, statistics
from gossamer.leakage.attacks.base import base_scores
from gossamer.leakage.attacks.rmia import GAMMA, rmia_scores
from gossamer.leakage.design import find_design

PairedMembers = Callable[..., NDArray[np.bool_]]


def some_statistics(members: NDArray[np.bool_], seed: int = 0) -> Statistics:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, members.shape[1])
    logits = generator.normal(size=(*members.shape, 3))
    logits[:, np.arange(members.shape[1]), labels] += members
    return statistics(logits, labels)


def test_base_compares_with_the_mean_over_references(paired_members: PairedMembers) -> None:
    members = paired_members(6, 25)
    found = some_statistics(members)
    scores = base_scores(found, find_design(members))
    probabilities = np.exp(found.log_probability)
    for target in range(6):
        others = [m for m in range(6) if m not in (target, target ^ 1)]
        # Equally many with and without: the mean of the two sides is the mean of all.
        expected = found.log_probability[target] - np.log(probabilities[others].mean(axis=0))
        np.testing.assert_allclose(scores[target], expected, rtol=1e-9, atol=1e-12)


def test_rmia_counts_the_examples_that_are_beaten(paired_members: PairedMembers) -> None:
    members = paired_members(6, 25)
    found = some_statistics(members)
    design = find_design(members)
    ratios = np.exp(base_scores(found, design))
    scores = rmia_scores(found, design)
    for target in range(6):
        beaten = (ratios[target][:, None] >= GAMMA * ratios[target] * (1 - 1e-12)).mean(axis=1)
        np.testing.assert_allclose(scores[target], beaten, atol=1e-12)


@pytest.mark.parametrize("attack", [base_scores, rmia_scores])
def test_both_find_leakage_with_one_reference_a_side(
    paired_members: PairedMembers, attack: Callable[..., NDArray[np.float64]]
) -> None:
    members = paired_members(4, 3000)
    scores = attack(some_statistics(members), find_design(members))
    assert not np.isnan(scores).any()
    assert scores[members].mean() > scores[~members].mean()
    np.testing.assert_array_equal(
        attack(some_statistics(members), find_design(members), [2]), scores[[2]]
    )


def test_two_models_have_no_references(paired_members: PairedMembers) -> None:
    members = paired_members(2, 20)
    assert np.isnan(base_scores(some_statistics(members), find_design(members))).all()

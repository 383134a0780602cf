from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from gossamer.leakage.attacks import obstacle
from gossamer.leakage.attacks.quantile_regression import ATTACK, _edges, _learn, quantile_scores
from gossamer.leakage.design import find_design
from gossamer.leakage.ranking import auc, rank
from gossamer.leakage.references import gather

PairedMembers = Callable[..., NDArray[np.bool_]]


def mean_area(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> float:
    pairs = zip(scores, members, strict=True)
    return float(np.mean([auc(rank(row, inside)) for row, inside in pairs]))


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_hardness_is_taken_out_and_leakage_left(paired_members: PairedMembers, gain: float) -> None:
    members = paired_members(12, 3000)
    generator = np.random.default_rng(0)
    margins = 5 * generator.normal(size=3000) + gain * members + generator.normal(size=(12, 3000))
    labels = generator.integers(0, 4, 3000)
    scores = quantile_scores(gather(margins, find_design(members)), labels, seed=0)
    found = mean_area(scores, members)
    if gain == 0:
        assert 0.49 <= found <= 0.51
    else:
        # A global threshold on the margin drowns in the hardness of examples.
        assert found > mean_area(margins, members) + 0.1


def test_non_members_lie_around_the_predicted_median(paired_members: PairedMembers) -> None:
    members = paired_members(12, 3000)
    generator = np.random.default_rng(1)
    margins = 5 * generator.normal(size=3000) + members + generator.normal(size=(12, 3000))
    labels = np.zeros(3000, dtype=int)
    scores = quantile_scores(gather(margins, find_design(members)), labels, seed=0)
    outside = scores[~members]
    assert (outside > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert (outside > 1).mean() == pytest.approx(0.05, abs=0.02)


def test_four_units_are_needed(paired_members: PairedMembers) -> None:
    assert (
        obstacle(ATTACK, find_design(paired_members(6, 50)))
        == "it needs 4 pairs of models, and there are 3"
    )
    assert obstacle(ATTACK, find_design(paired_members(8, 50))) is None


def test_the_table_holds_what_trees_predict_from_unsorted_features() -> None:
    generator = np.random.default_rng(2)
    hardness = (3 * generator.normal(size=4000)).astype(np.float32)
    labels = generator.integers(0, 4, 4000) * 7
    margins = hardness + labels / 7 * generator.normal(size=4000)
    trees = HistGradientBoostingRegressor(
        loss="quantile", quantile=0.95, max_iter=20, learning_rate=0.3, max_leaf_nodes=8,
        early_stopping=False, random_state=0,
    ).fit(np.column_stack([hardness, labels]), margins)  # fmt: skip
    edges, classes = _edges(hardness), np.unique(labels)
    table = _learn(np.searchsorted(edges, hardness), labels, margins, classes, 0.95)
    others = (4 * generator.normal(size=1000)).astype(np.float32)
    for place, label in enumerate(classes):
        expected = trees.predict(np.column_stack([others, np.full(1000, label)]))
        np.testing.assert_array_equal(table[np.searchsorted(edges, others), place], expected)

import numpy as np
import pytest

from gossamer.leakage import statistics
from gossamer.leakage.attacks.class_thresholds import measured_from_class_threshold
from gossamer.leakage.attacks.entropy import entropy_scores
from gossamer.leakage.attacks.gap import gap_scores
from gossamer.leakage.attacks.loss import loss_scores
from gossamer.leakage.attacks.modified_entropy import modified_entropy_scores
from gossamer.leakage.ranking import best_threshold


def test_scores_rise_with_what_speaks_for_membership() -> None:
    # Sure and right; unsure and right; sure and wrong.
    found = statistics([[5.0, 0.0], [0.5, 0.0], [0.0, 5.0]], [0, 0, 0])
    assert gap_scores(found).tolist() == [[1.0, 1.0, 0.0]]
    for score in (loss_scores, modified_entropy_scores):
        sure, unsure, wrong = score(found)[0]
        assert sure > unsure > wrong
    sure, unsure, wrong = entropy_scores(found)[0]
    assert sure == pytest.approx(wrong)
    assert sure > unsure


def test_each_class_has_the_best_threshold_of_the_other_rows() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    members = generator.random((2, 400)) < 0.5
    scores = generator.normal(size=(2, 400)) + members + 10 * labels
    allowed = ~np.eye(2, dtype=bool)
    shifted = measured_from_class_threshold(scores, members, labels, allowed)
    for label in (0, 1):
        there = labels == label
        for row in (0, 1):
            best = best_threshold(scores[1 - row, there], members[1 - row, there])
            threshold = scores[row, there][0] - shifted[row, there][0]
            reached = (scores[1 - row, there][members[1 - row, there]] >= threshold).mean()
            reached += (scores[1 - row, there][~members[1 - row, there]] < threshold).mean()
            assert reached / 2 == pytest.approx(best.balanced_accuracy, abs=1e-12)
            np.testing.assert_allclose(scores[row, there] - shifted[row, there], threshold)


def test_nan_stays_and_does_not_count() -> None:
    scores = np.array([[0.0, 1.0, np.nan, np.nan], [np.nan, np.nan, 3.0, 4.0]])
    members = np.tile([False, True], (2, 2))
    allowed = ~np.eye(2, dtype=bool)
    shifted = measured_from_class_threshold(scores, members, np.zeros(4, dtype=int), allowed)
    np.testing.assert_array_equal(np.isnan(shifted), np.isnan(scores))
    assert shifted[0].tolist()[:2] == [-4.0, -3.0]
    assert shifted[1].tolist()[2:] == [2.0, 3.0]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.leakage.published import best_threshold_attack, published_one_hot_attack


def transcribed(
    inside: NDArray[np.float64],
    inside_labels: NDArray[np.int64],
    outside: NDArray[np.float64],
    outside_labels: NDArray[np.int64],
) -> tuple[float, float]:
    """The published computation, literally: one-hot rows as indices, one candidate at a time.

    Returns the figure and the highest "recall".
    """
    one_hot = np.eye(inside.shape[1], dtype=int)
    members = np.array([p[one_hot[y]] for p, y in zip(inside, inside_labels, strict=True)])
    others = np.array([p[one_hot[y]] for p, y in zip(outside, outside_labels, strict=True)])
    highest = highest_recall = 0.0
    for row in np.concatenate([members, others]):
        candidate = np.sort(row)
        recall = np.sum(members >= candidate) / len(members)
        alarms = np.sum(others >= candidate) / len(others)
        highest = max(highest, (1 + recall - alarms) / 2)
        highest_recall = max(highest_recall, recall)
    return highest, highest_recall


def some_outputs(
    seed: int, members: int, others: int, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    inside_labels = generator.integers(0, classes, members)
    outside_labels = generator.integers(0, classes, others)
    inside = generator.dirichlet(np.full(classes, 0.2), members)
    inside = (inside + np.eye(classes)[inside_labels]) / 2
    outside = generator.dirichlet(np.full(classes, 0.2), others)
    # Rounded, so that there are ties.
    return np.round(inside, 2), inside_labels, np.round(outside, 2), outside_labels


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30), st.integers(2, 6))
def test_the_defective_figure_is_that_of_the_published_computation(
    seed: int, members: int, others: int, classes: int
) -> None:
    given_outputs = some_outputs(seed, members, others, classes)
    inside, inside_labels, outside, outside_labels = given_outputs
    inside = inside / inside.sum(axis=1, keepdims=True)
    expected, _ = transcribed(inside, inside_labels, outside, outside_labels)
    found = published_one_hot_attack(inside, inside_labels, outside, outside_labels)
    assert found == pytest.approx(expected, abs=1e-12)


def test_its_recall_exceeds_one() -> None:
    assert transcribed(*some_outputs(0, 200, 200, 10))[1] > 1


def test_what_was_meant_is_no_worse_than_the_gap_here_and_the_defect_is() -> None:
    inside, inside_labels, outside, outside_labels = some_outputs(1, 2000, 2000, 10)
    right = (inside.argmax(axis=1) == inside_labels).mean()
    gap = 0.5 + (right - (outside.argmax(axis=1) == outside_labels).mean()) / 2
    meant = best_threshold_attack(inside, inside_labels, outside, outside_labels)
    defective = published_one_hot_attack(inside, inside_labels, outside, outside_labels)
    assert meant.balanced_accuracy >= gap > defective


@given(st.integers(0, 10_000))
def test_what_was_meant_is_the_best_of_all_thresholds(seed: int) -> None:
    inside, inside_labels, outside, outside_labels = some_outputs(seed, 15, 20, 4)
    found = best_threshold_attack(inside, inside_labels, outside, outside_labels)
    members = inside[np.arange(15), inside_labels]
    others = outside[np.arange(20), outside_labels]
    scan = [((members >= t).mean() + (others < t).mean()) / 2 for t in [*members, *others, np.inf]]
    assert found.balanced_accuracy == pytest.approx(max(scan), abs=1e-12)


def test_one_hot_labels_are_their_classes() -> None:
    inside, inside_labels, outside, outside_labels = some_outputs(2, 30, 40, 4)
    numbers = published_one_hot_attack(inside, inside_labels, outside, outside_labels)
    rows = (np.eye(4)[inside_labels], np.eye(4)[outside_labels])
    assert published_one_hot_attack(inside, rows[0], outside, rows[1]) == numbers


def test_unequal_classes_and_several_models_are_refused() -> None:
    with pytest.raises(InputError, match="3 classes of members and 2 of non-members"):
        published_one_hot_attack(np.eye(3), [0, 1, 2], np.eye(2), [0, 1])
    with pytest.raises(InputError, match="2 models were given"):
        best_threshold_attack(np.zeros((2, 3, 3)), [0, 1, 2], np.eye(3), [0, 1, 2])

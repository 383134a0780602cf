from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.data import complementary_halves, stratified_sample, stratified_split

Labels = NDArray[np.int64]

seeds = st.integers(0, 2**31)


@st.composite
def labels_of(draw: st.DrawFn, fewest: int = 2) -> Labels:
    """Shuffled labels of a few classes of very different sizes; the numbers may have gaps."""
    counts = draw(st.lists(st.integers(fewest, 40), min_size=1, max_size=8))
    labels = np.repeat(np.arange(len(counts)) * draw(st.integers(1, 3)), counts)
    return np.asarray(np.random.default_rng(draw(seeds)).permutation(labels))


def class_counts(labels: Labels, positions: Labels) -> NDArray[np.int64]:
    return np.array([(labels[positions] == number).sum() for number in np.unique(labels)])


def assert_sorted_partition(first: Labels, second: Labels, count: int) -> None:
    assert all(a < b for a, b in pairwise(first.tolist()))
    assert all(a < b for a, b in pairwise(second.tolist()))
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(count))


@given(labels=labels_of(), fraction=st.floats(0.001, 0.999), seed=seeds)
@settings(max_examples=200)
def test_a_split_is_exact_in_total_and_within_one_in_every_class(
    labels: Labels, fraction: float, seed: int
) -> None:
    total = round(fraction * len(labels))
    assume(0 < total < len(labels))
    kept, held_out = stratified_split(labels, fraction, seed)
    assert_sorted_partition(kept, held_out, len(labels))
    assert len(held_out) == total
    everything = class_counts(labels, np.arange(len(labels)))
    held = class_counts(labels, held_out)
    assert (np.abs(held - fraction * everything) < 1).all()

    # Classes with a share below one are served before any other, and those that would be used
    # up after all others: one class goes without only if the total leaves nothing for it.
    floors = np.floor(fraction * everything)
    rounded_up = held > floors
    if (held == 0).any():
        assert not rounded_up[floors > 0].any()
    if (held == everything).any():
        assert rounded_up[floors < everything - 1].all()


@given(labels=labels_of(), fraction=st.floats(0.05, 0.95), seed=seeds)
def test_a_split_is_a_function_of_its_arguments(labels: Labels, fraction: float, seed: int) -> None:
    assume(0 < round(fraction * len(labels)) < len(labels))
    first, second = (stratified_split(labels, fraction, seed) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_seed_and_purpose_change_who_is_held_out() -> None:
    labels = np.arange(200) % 4
    held_out = {
        tuple(stratified_split(labels, 0.25, seed, purpose)[1].tolist())
        for seed in (0, 1)
        for purpose in ("validation", "test")
    }
    assert len(held_out) == 4


def test_every_example_is_as_likely_to_be_held_out_as_its_class_fellows() -> None:
    labels = np.array([0] * 10 + [1] * 20)
    times = np.zeros(30)
    for seed in range(1000):
        times[stratified_split(labels, 0.2, seed)[1]] += 1
    # Binomial: standard deviation 12.6; five of them leave one false alarm in 60,000 runs.
    assert (np.abs(times - 200) < 64).all()


def test_small_cases_by_hand() -> None:
    def held(counts: list[int], fraction: float) -> list[int]:
        labels = np.repeat(np.arange(len(counts)), counts)
        return [*class_counts(labels, stratified_split(labels, fraction, 0)[1])]

    assert held([10, 20], 0.2) == [2, 4]
    assert held([5, 5], 0.3) == [2, 1]  # 1.5 each: the tie goes to the lower class
    assert held([58, 2], 0.1) == [5, 1]  # 5.8 and 0.2: the small class is not left out
    assert held([1000, *[2] * 9], 0.1) == [100, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert held([58, 2], 0.9) == [53, 1]  # 52.2 and 1.8: the small class is not used up


def test_nothing_is_held_out_at_fraction_0() -> None:
    kept, held_out = stratified_split(np.array([0, 1, 1]), 0, seed=0)
    assert kept.tolist() == [0, 1, 2]
    assert held_out.tolist() == []
    assert held_out.dtype == kept.dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "fraction", "sentence"),
    [
        ([0, 0, 1, 1], -0.1, "validation: fraction is -0.1, expected a number from 0 to below 1"),
        ([0, 0, 1, 1], 1.0, "fraction is 1.0, expected"),
        ([0, 0, 1, 1], float("nan"), "fraction is nan, expected"),
        ([0, 0, 5], 0.5, "class 5 has one example, expected at least 2 of each class"),
        ([0, 0, 1, 1], 0.1, "fraction 0.1 of 4 examples leaves one side empty"),
        ([0, 0, 1, 1], 0.9, "fraction 0.9 of 4 examples leaves one side empty"),
        ([], 0.5, "fraction 0.5 of 0 examples leaves one side empty"),
    ],
)
def test_splits_that_cannot_be_are_refused(
    labels: list[int], fraction: float, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        stratified_split(np.array(labels, dtype=np.int64), fraction, seed=0)


@given(labels=labels_of(fewest=1), data=st.data(), seed=seeds)
@settings(max_examples=200)
def test_a_sample_has_the_mixture_of_the_whole(
    labels: Labels, data: st.DataObject, seed: int
) -> None:
    count = data.draw(st.integers(1, len(labels)))
    sample = stratified_sample(labels, count, seed)
    assert len(sample) == count
    assert_sorted_partition(sample, np.setdiff1d(np.arange(len(labels)), sample), len(labels))
    shares = class_counts(labels, np.arange(len(labels))) * count / len(labels)
    assert (np.abs(class_counts(labels, sample) - shares) < 1).all()
    np.testing.assert_array_equal(sample, stratified_sample(labels, count, seed))


def test_a_share_that_is_a_whole_number_stays_it() -> None:
    sizes = [1, 1, 1, 2, 2, 21, 34, 40]
    labels = np.repeat(np.arange(8), sizes)
    assert class_counts(labels, stratified_sample(labels, 96, seed=0))[6] == 32


@pytest.mark.parametrize("count", [0, -1, 4])
def test_samples_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"count is {count}, expected from 1 to the 3 examples"):
        stratified_sample(np.array([0, 1, 1]), count, seed=0)


@given(labels=labels_of(), seed=seeds)
@settings(max_examples=200)
def test_halves_are_complementary_and_alike(labels: Labels, seed: int) -> None:
    first, second = complementary_halves(labels, seed)
    assert_sorted_partition(first, second, len(labels))
    assert len(first) == len(labels) // 2
    difference = class_counts(labels, first) - class_counts(labels, second)
    assert (np.abs(difference) <= 1).all()


def test_halves_depend_on_the_seed_alone() -> None:
    labels = np.arange(40) % 4
    first, again, other = (complementary_halves(labels, seed)[0] for seed in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_halves_of_a_class_of_one_are_refused() -> None:
    with pytest.raises(InputError, match="halves: class 1 has one example"):
        complementary_halves(np.array([0, 0, 1]), seed=0)


def test_what_is_drawn_never_changes() -> None:
    labels = np.arange(20) % 2
    assert stratified_split(labels, 0.2, seed=0)[1].tolist() == [0, 3, 5, 6]
    assert stratified_sample(labels, 4, seed=0).tolist() == [0, 3, 8, 13]
    assert complementary_halves(labels, seed=0)[0].tolist() == [0, 2, 3, 7, 8, 11, 13, 15, 16, 18]

"""Splits of a dataset: who trains on what, with which seed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from gossamer.core.errors import InputError
from gossamer.data import Dataset, stratified_sample
from gossamer.networks import NetworkSpec
from gossamer.recipes import DataSpec, MeasureSpec, Trial
from gossamer.recipes.split import Split, split, train_count
from gossamer.recipes.trial_data import make_trial_data


def dataset(train: int, test: int, classes: int, seed: int = 0) -> Dataset:
    draw = np.random.default_rng(seed)
    labels = [np.sort(draw.integers(0, classes, n)) for n in (train, test)]
    for part in labels:
        part[: 2 * classes] = np.arange(2 * classes) % classes  # two of each at least
    x = [np.arange(n, dtype=np.float32)[:, None] for n in (train, test)]
    return Dataset("drawn", x[0], labels[0], x[1], labels[1], classes=classes, scale=1.0)


datasets = some.builds(
    dataset,
    train=some.integers(20, 120),
    test=some.integers(12, 40),
    classes=some.integers(2, 4),
    seed=some.integers(0, 99),
)
choices = some.fixed_dictionaries(
    {
        "examples": some.none() | some.integers(12, 120),
        "pool": some.sampled_from(["all", "half"]),
        "validation": some.sampled_from([0.0, 0.1, 0.25, 0.5]),
        "validation_from": some.sampled_from(["train", "test"]),
    }
)


def chosen(data: Dataset, seed: int, **options: Any) -> tuple[DataSpec, Split]:
    spec = DataSpec(name="drawn", **options)
    assume(spec.examples is None or spec.examples <= len(data.y_train))
    try:
        return spec, split(spec, data, seed)
    except InputError as error:  # too few of a class for what is asked
        assume("expected at least" not in str(error))
        raise


def shares_differ(part: Any, whole: Any, labels: Any) -> float:
    """Return by how many examples a class of a part differs from its proportional share."""
    share = len(part) / len(whole)
    counted = np.bincount(labels[part], minlength=labels.max() + 1)
    return float(np.abs(counted - share * np.bincount(labels[whole])).max())


@given(datasets, choices, some.integers(0, 9))
def test_every_part_lies_where_it_should_and_none_overlap(
    data: Dataset, options: dict[str, Any], seed: int
) -> None:
    spec, parts = chosen(data, seed, **options)
    everything = np.arange(len(data.y_train))
    for part in (parts.pool, parts.train, parts.validation, parts.test):
        assert (np.diff(part) > 0).all()
    assert np.isin(parts.pool, everything).all()
    assert np.isin(parts.train, parts.pool).all()
    assert len(parts.pool) == (spec.examples or len(everything))
    if spec.validation_from == "train":
        assert not np.intersect1d(parts.validation, parts.train).size
        assert np.isin(parts.validation, parts.pool).all()
        assert np.array_equal(parts.test, np.arange(len(data.y_test)))
    else:
        assert np.array_equal(np.union1d(parts.validation, parts.test), np.arange(len(data.y_test)))
        assert not np.intersect1d(parts.validation, parts.test).size
        held_out = len(parts.validation)
        assert held_out == round(spec.validation * len(data.y_test))
        assert shares_differ(parts.test, np.arange(len(data.y_test)), data.y_test) <= 1
    assert shares_differ(parts.pool, everything, data.y_train) <= 1


@given(datasets, choices, some.integers(0, 9))
def test_the_count_to_train_on_is_known_without_drawing(
    data: Dataset, options: dict[str, Any], seed: int
) -> None:
    spec, parts = chosen(data, seed, **options)
    assert train_count(spec, data, seed) == len(parts.train)


@given(datasets, choices, some.integers(0, 9), some.integers(0, 9))
def test_pool_and_test_part_are_the_same_for_all_seeds(
    data: Dataset, options: dict[str, Any], first: int, second: int
) -> None:
    one, other = (chosen(data, seed, **options)[1] for seed in (first, second))
    assert np.array_equal(one.pool, other.pool)
    assert np.array_equal(one.test, other.test)
    if options["validation_from"] == "test":
        assert np.array_equal(one.validation, other.validation)


@given(datasets, some.none() | some.integers(12, 120), some.integers(0, 4))
def test_the_seeds_of_a_pair_train_on_complementary_halves(
    data: Dataset, examples: int | None, pair: int
) -> None:
    mates = [chosen(data, 2 * pair + n, examples=examples, pool="half")[1] for n in (0, 1)]
    pool = mates[0].pool
    members = np.stack([np.isin(pool, mate.train) for mate in mates])
    assert (members[0] ^ members[1]).all()
    assert members[0].sum() == len(pool) // 2
    for mate in mates:
        assert shares_differ(mate.train, pool, data.y_train) <= 1


def test_pairs_have_halves_of_their_own() -> None:
    data = dataset(100, 20, 3)
    halves = [split(DataSpec(name="drawn", pool="half"), data, seed).train for seed in range(6)]
    assert len({half.tobytes() for half in halves}) == 6


def test_a_trial_of_the_whole_pool_trains_on_it() -> None:
    data = dataset(100, 20, 3)
    parts = split(DataSpec(name="drawn", examples=40), data, 5)
    assert np.array_equal(parts.train, parts.pool)
    assert np.array_equal(parts.pool, stratified_sample(data.y_train, 40, 0))
    assert len(parts.validation) == 0


def test_validation_from_the_training_set_depends_on_the_seed() -> None:
    data = dataset(100, 20, 3)
    spec = DataSpec(name="drawn", validation=0.2)
    first, second = (split(spec, data, seed).validation for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("choose", [split, train_count])
def test_a_pool_larger_than_the_training_set_is_refused(choose: Any) -> None:
    spec = DataSpec(name="drawn", examples=1001)
    with pytest.raises(InputError) as caught:
        choose(spec, dataset(1000, 20, 3), 0)
    assert str(caught.value) == (
        "examples asks for a pool of 1,001, but drawn has 1,000 training examples: ask for fewer, "
        "or leave it out for all of them"
    )


@pytest.mark.parametrize("leakage", [False, True])
def test_parts_hold_the_examples_of_the_split(leakage: bool) -> None:
    data = dataset(60, 30, 3)
    trial = Trial(
        data=DataSpec(
            name="drawn", mean=2.0, std=4.0, pool="half", validation=0.2, validation_from="test"
        ),
        network=NetworkSpec(name="mlp", hidden=(4,)),
        seed=3,
        steps=(),
        measure=MeasureSpec(train_examples=9, leakage=leakage),
    )
    parts, expected = make_trial_data(trial, data, channels_last=False), split(trial.data, data, 3)

    def positions(inputs: Any) -> list[int]:
        return [round(4 * float(value) + 2) for value in inputs.flatten()]

    assert positions(parts.train.inputs) == expected.train.tolist()
    assert parts.train.labels.tolist() == data.y_train[expected.train].tolist()
    assert parts.validation is not None
    assert positions(parts.validation.inputs) == expected.validation.tolist()
    assert parts.validation.labels.tolist() == data.y_test[expected.validation].tolist()
    assert positions(parts.test.inputs) == expected.test.tolist()
    assert len(parts.sample) == 9
    assert set(positions(parts.sample.inputs)) <= set(expected.train.tolist())
    if leakage:
        assert parts.pool is not None
        assert positions(parts.pool.inputs) == expected.pool.tolist()
    else:
        assert parts.pool is None

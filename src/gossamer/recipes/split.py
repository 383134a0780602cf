"""Which examples of a dataset a trial trains on, holds out and is tested on; no torch here."""

from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.data import Dataset, complementary_halves, stratified_sample, stratified_split
from gossamer.data.splits import Positions
from gossamer.recipes.trial import DataSpec

_FIXED = 0
"""The seed of what must be the same for all seeds of a study."""


@dataclass(frozen=True)
class Split:
    """Sorted positions in a dataset's training set and, where it says so, in its test set."""

    pool: Positions
    """What could have been trained on: members and non-members of an attack."""
    train: Positions
    """What is trained on; part of the pool."""
    validation: Positions
    """Held out, in the training set or in the test set as the specification says."""
    test: Positions
    """In the test set: what is measured at the end."""


def split(data: DataSpec, dataset: Dataset, seed: int) -> Split:
    """Choose the parts of a trial; the pool and the test part are the same for all seeds.

    Raises
    ------
    InputError
        If the pool is larger than the training set, or a part would be empty.

    Examples
    --------
    >>> from gossamer.data import load
    >>> halves = [split(DataSpec(name="digits", pool="half"), load("digits"), s) for s in (4, 5)]
    >>> len(np.intersect1d(halves[0].train, halves[1].train))
    0
    >>> bool((np.union1d(halves[0].train, halves[1].train) == halves[0].pool).all())
    True
    """
    labels, size = dataset.y_train, _pool_size(data, dataset)
    pool = np.arange(size)
    if size < len(labels):
        pool = stratified_sample(labels, size, _FIXED)
    train = pool
    if data.pool == "half":
        train = pool[complementary_halves(labels[pool], seed // 2)[seed % 2]]
    if data.validation_from == "test":
        test, held_out = stratified_split(dataset.y_test, data.validation, _FIXED)
        return Split(pool, train, held_out, test)
    kept, held_out = stratified_split(labels[train], data.validation, seed)
    return Split(pool, train[kept], train[held_out], np.arange(len(dataset.y_test)))


def train_count(data: DataSpec, dataset: Dataset, seed: int) -> int:
    """Return how many examples `split` leaves to train on, without drawing them.

    Raises
    ------
    InputError
        If the pool is larger than the training set.

    Examples
    --------
    >>> from gossamer.data import load
    >>> train_count(DataSpec(name="digits", pool="half", validation=0.1), load("digits"), seed=1)
    647
    """
    count = _pool_size(data, dataset)
    if data.pool == "half":
        count = count // 2 if seed % 2 == 0 else count - count // 2
    return count - (round(data.validation * count) if data.validation_from == "train" else 0)


def _pool_size(data: DataSpec, dataset: Dataset) -> int:
    there = len(dataset.y_train)
    size = there if data.examples is None else data.examples
    if size > there:
        raise InputError(
            f"examples asks for a pool of {size:,}, but {dataset.name} has {there:,} training "
            "examples: ask for fewer, or leave it out for all of them"
        )
    return size

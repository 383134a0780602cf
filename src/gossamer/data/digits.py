"""The handwritten digits that scikit-learn carries: 1,797 images of 8 by 8, no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gossamer.core.installing import needing
from gossamer.data.dataset import Dataset
from gossamer.data.splits import stratified_split

TEST_FRACTION = 0.2
"""Share of the examples that are for testing."""
TEST_SEED = 0
"""Seed of the test split, the same for every trial."""


def load_digits() -> Dataset:
    """Load scikit-learn's digits with a fixed stratified test split (`TEST_SEED`).

    Returns
    -------
    Dataset
        Images ``[examples, 1, 8, 8]`` of values from 0 to 16, scale 16; 1,438 examples for
        training and 359 for testing.

    Examples
    --------
    >>> digits = load_digits()
    >>> digits.x_train.shape, digits.x_test.shape
    ((1438, 1, 8, 8), (359, 1, 8, 8))
    """
    table = _read_table()
    images, labels = table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].astype(np.int64)
    train, test = stratified_split(labels, TEST_FRACTION, TEST_SEED, purpose="test")
    return Dataset(
        "digits", images[train], labels[train], images[test], labels[test], classes=10, scale=16.0
    )


def _read_table() -> NDArray[np.uint8]:
    """Return pixels and label of each example, ``[1797, 65]``."""
    package = find_spec("sklearn")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        # Importing scikit-learn takes ten times as long as reading its file, and would be most
        # of the time in which a finished study is planned again.
        if path.is_file():
            with gzip.open(path, "rt") as file:
                return np.loadtxt(file, dtype=np.uint8, delimiter=",")
    return _import_table()


def _import_table() -> NDArray[np.uint8]:
    with needing("studies", "the dataset digits"):
        from sklearn.datasets import load_digits as load

    values, labels = load(return_X_y=True)
    return np.column_stack([values, labels]).astype(np.uint8)

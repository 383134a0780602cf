import numpy as np
import pytest
from sklearn import datasets

from gossamer.data import digits, load_digits


def test_every_example_is_there_once_and_none_in_both_parts() -> None:
    dataset = load_digits()
    images, labels = datasets.load_digits(return_X_y=True)
    expected = np.column_stack([images, labels]).astype(np.uint8)
    train = np.column_stack([dataset.x_train.reshape(-1, 64), dataset.y_train])
    test = np.column_stack([dataset.x_test.reshape(-1, 64), dataset.y_test])
    found = np.concatenate([train, test])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_the_test_part_holds_a_fifth_of_every_class() -> None:
    dataset = load_digits()
    assert len(dataset.x_test) == round(0.2 * 1797)
    test, train = np.bincount(dataset.y_test), np.bincount(dataset.y_train)
    assert (np.abs(test - 0.2 * (train + test)) < 1).all()


def test_values_are_from_0_to_the_scale() -> None:
    dataset = load_digits()
    assert dataset.x_train.dtype == np.uint8
    assert (dataset.x_train.min(), dataset.x_train.max()) == (0, dataset.scale)


def test_the_split_never_changes() -> None:
    assert load_digits().fingerprint == (
        "6e0278be110ae5c16520e168fd1f471034484761c4a05924779f8f398ef43530"
    )


def test_scikit_learn_itself_gives_the_same_if_its_file_is_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = load_digits().fingerprint
    monkeypatch.setattr(digits, "find_spec", lambda _: None)
    assert load_digits().fingerprint == expected

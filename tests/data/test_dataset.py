import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.data import Dataset

X = np.arange(24, dtype=np.float32).reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])


def make(**changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "tiny",
        "x_train": X,
        "y_train": Y,
        "x_test": X[:2],
        "y_test": Y[:2],
        "classes": 3,
        "scale": 1.0,
    }
    return Dataset(**{**fields, **changes})


def changed(array: np.ndarray[Any, Any], position: Any, value: float) -> np.ndarray[Any, Any]:
    array = array.copy()
    array[position] = value
    return array


def test_arrays_become_read_only_but_the_callers_array_does_not() -> None:
    mine = X.copy()
    dataset = make(x_train=mine)
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        assert not array.flags.writeable
        assert array.flags.c_contiguous
    assert mine.flags.writeable


def test_a_dataset_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().scale = 2.0  # type: ignore[misc]


def test_strided_arrays_are_accepted_and_made_contiguous() -> None:
    columns = np.asfortranarray(X)
    assert make(x_train=columns).x_train.flags.c_contiguous
    assert make(x_train=columns).fingerprint == make().fingerprint


def test_input_shape_is_that_of_one_example() -> None:
    assert make().input_shape == (4,)
    images = X.reshape(6, 1, 2, 2)
    assert make(x_train=images, x_test=images[:2]).input_shape == (1, 2, 2)


def test_representation_holds_no_arrays() -> None:
    assert repr(make()) == "Dataset(name='tiny', classes=3, scale=1.0)"


def test_fingerprint_does_not_depend_on_the_name() -> None:
    assert make().fingerprint == make(name="other").fingerprint
    assert re.fullmatch("[0-9a-f]{64}", make().fingerprint)


def test_fingerprint_is_the_same_in_every_process_and_version() -> None:
    # A changed fingerprint forgets every state that was ever computed.
    assert make().fingerprint == (
        "b9112aed53805de3124135abcfb6ce592e4f6ca38d24f12eb5a57dbff420e731"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"x_train": changed(X, (5, 3), 99)},
        {"y_train": changed(Y, 5, 0)},
        {"x_test": X[1:3]},
        {"y_test": np.array([1, 1])},
        {"x_test": X[:3], "y_test": Y[:3]},
        {"scale": 2.0},
        {"classes": 2, "y_train": Y % 2},
        {"x_train": X.astype(np.uint8), "x_test": X[:2].astype(np.uint8)},
        {"x_train": X.reshape(6, 1, 2, 2), "x_test": X[:2].reshape(2, 1, 2, 2)},
        {"x_train": X.reshape(6, 2, 2, 1), "x_test": X[:2].reshape(2, 2, 2, 1)},
    ],
)
def test_fingerprint_depends_on_everything_else(changes: dict[str, Any]) -> None:
    assert make(**changes).fingerprint != make().fingerprint


BAD: list[tuple[dict[str, Any], str]] = [
    ({"scale": 0.0}, "tiny: scale is 0.0, expected a positive number"),
    ({"scale": float("nan")}, "tiny: scale is nan"),
    ({"x_train": X.astype(np.float64)}, "x_train is float64, expected uint8 or float32"),
    ({"x_test": X[:2].astype(np.int32)}, "x_test is int32, expected uint8 or float32"),
    ({"x_train": X[:, 0]}, r"x_train has shape \[6\], expected \[examples, features\]"),
    ({"x_train": X.reshape(6, 2, 2)}, r"x_train has shape \[6, 2, 2\]"),
    ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty .* at least one example"),
    ({"x_test": X[:0], "y_test": Y[:0]}, "x_test is empty"),
    ({"x_train": X[:, :0]}, r"x_train is empty \(shape \[6, 0\]\)"),
    ({"x_train": changed(X, (4, 1), np.nan)}, r"x_train holds nan at position \[4, 1\]"),
    ({"x_test": changed(X[:2], (1, 3), -np.inf)}, r"x_test holds -inf at position \[1, 3\]"),
    ({"y_train": Y.astype(np.int32)}, "y_train is int32, expected int64"),
    ({"y_train": Y[:5]}, r"y_train has shape \[5\], expected \[6\]: one class number"),
    ({"y_train": Y[:, None]}, r"y_train has shape \[6, 1\], expected \[6\]"),
    ({"y_train": changed(Y, 2, -1)}, "y_train holds -1 at position 2, .* start at 0"),
    ({"y_train": changed(Y, 3, 3)}, "y_train holds 3 at position 3, .* from 0 to 2"),
    ({"y_test": np.array([0, 7])}, "y_test holds 7 at position 1, .* from 0 to 2"),
    ({"classes": 1}, "goes with 1 class, expected at least 2"),
    ({"y_train": np.array([0, 1, 0, 1, 0, 1])}, "y_train lacks class 2"),
    ({"y_train": np.array([0, 2, 0, 2, 0, 2])}, "y_train lacks class 1"),
    ({"classes": 10**15}, "y_train lacks class 3"),
    ({"x_test": X[:2, :3]}, r"x_train has shape \[4\] and one of x_test \[3\]"),
    ({"x_test": X[:2].astype(np.uint8)}, "x_train is float32 and x_test uint8"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD)
def test_bad_arrays_are_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        make(**changes)
    assert str(caught.value).startswith("tiny: ")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)

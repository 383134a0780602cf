"""Each form of labels has its right reading, or a sentence whose advice leads to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.core.labels import is_one_hot, read_labels

Labels = NDArray[np.int64]

CLASSES = 5
NUMBERS = arrays_of.arrays(np.int64, st.integers(2, 9), elements=st.integers(0, CLASSES - 1))

FORMS: dict[str, Callable[[Labels], Any]] = {
    "as they are": lambda labels: labels,
    "list": lambda labels: labels.tolist(),
    "column": lambda labels: labels[:, None],
    "further axes of one": lambda labels: labels[:, None, None],
    "lists of one": lambda labels: [[label] for label in labels.tolist()],
    "row": lambda labels: labels[None],
    "a row a model": lambda labels: np.tile(labels, (3, 1)),
    "one-hot": lambda labels: np.eye(CLASSES)[labels],
    "one-hot of bool": lambda labels: np.eye(CLASSES, dtype=bool)[labels],
    "one-hot of float16": lambda labels: np.eye(CLASSES, dtype="f2")[labels],
    "one-hot with an axis of one": lambda labels: np.eye(CLASSES, dtype=int)[labels][:, None],
    "one-hot, column by column": lambda labels: np.asfortranarray(np.eye(CLASSES)[labels]),
    "whole floats": lambda labels: labels.astype(np.float64),
    "big-endian": lambda labels: labels.astype(">i4"),
    "bytes": lambda labels: labels.astype(np.uint8),
    "unsigned": lambda labels: labels.astype(np.uint64),
    "every second": lambda labels: np.repeat(labels, 2)[::2],
    "read-only": lambda labels: np.broadcast_to(labels, labels.shape),
    "tensor": torch.from_numpy,
    "tensor of a column": lambda labels: torch.from_numpy(labels)[:, None],
    "tensor of a gradient": lambda labels: torch.from_numpy(labels).float().requires_grad_(),
    "tensor of bfloat16": lambda labels: torch.from_numpy(labels).bfloat16(),
    "nothing masked": np.ma.array,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@given(labels=NUMBERS)
@settings(max_examples=20)
def test_every_form_of_the_same_labels_is_read_alike(form: str, labels: Labels) -> None:
    found = read_labels("labels", FORMS[form](labels), len(labels), classes=CLASSES, models=3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, labels)


@given(labels=arrays_of.arrays(bool, st.integers(1, 9)))
def test_true_and_false_are_two_classes(labels: NDArray[np.bool_]) -> None:
    for given_labels in (labels, labels[:, None]):
        found = read_labels("labels", given_labels, len(labels), classes=2)
        np.testing.assert_array_equal(found, labels.astype(int))


@given(
    labels=arrays_of.arrays(np.int64, (4,), elements=st.integers(0, 3)),
    models=st.integers(1, 5),
)
def test_as_many_models_and_classes_as_examples_confuse_nothing(
    labels: Labels, models: int
) -> None:
    one_hot = np.eye(4, dtype=int)[labels]
    if models == 4 and (labels == labels[0]).all():
        with pytest.raises(InputError, match="may be one-hot rows of one class or a row for each"):
            read_labels("labels", one_hot, 4, classes=4, models=models)
        return
    found = read_labels("labels", one_hot, 4, classes=4, models=models)
    np.testing.assert_array_equal(found, labels)


@given(labels=NUMBERS, models=st.integers(2, 9))
def test_a_row_for_each_model_is_what_all_agree_on(labels: Labels, models: int) -> None:
    rows = np.tile(labels, (models, 1))
    if models == len(labels) == CLASSES and is_one_hot(rows):
        return  # That may mean something else, and is refused above.
    found = read_labels("labels", rows, len(labels), classes=CLASSES, models=models)
    np.testing.assert_array_equal(found, labels)


L = np.array([0, 2, 1, 1])
REFUSED: dict[str, tuple[Any, str]] = {
    "too few": (L[:3], "the shape is (3,), expected one class number for each of the 4 examples"),
    "a number": (3, "the shape is (), expected one class number for each of the 4 examples"),
    "nothing": ([], "the shape is (0,), expected"),
    "one-hot the other way": (np.eye(3)[L].T, "models do not agree on example 0"),
    "one-hot of too many": (
        np.eye(4)[L],
        "or one-hot rows of as many columns as there are classes, 3.",
    ),
    "several classes": ([[1, 1, 0]] * 4, "or one-hot rows, each zeros and a single 1"),
    "no class": (np.zeros((4, 3)), "or one-hot rows, each zeros and a single 1"),
    "probabilities": (np.full((4, 3), 1 / 3), "pass the true class of each example"),
    "almost one-hot": (np.eye(3)[L] * 0.9, "or one-hot rows"),
    "two columns of numbers": (np.stack([L, L], axis=1), "the shape is (4, 2), expected one"),
    "models that differ": (
        [L, L, [0, 2, 2, 1]],
        "models do not agree on example 2, expected the true class of each example",
    ),
    "text": (["cat", "dog", "cat", "owl"], "the type is <U3, expected whole numbers: the number"),
    "text of numbers": (L.astype(str), "expected whole numbers"),
    "bytes of text": (L.astype("S1"), "expected whole numbers"),
    "none": ([0, None, 1, 1], "the type is object, expected whole numbers"),
    "complex": (L * 1j, "the type is complex128, expected whole numbers"),
    "dates": (L.astype("M8[D]"), "the type is datetime64[D], expected whole numbers"),
    "halves": (L / 2, "example 2 has 0.5, expected whole numbers"),
    "nan": ([0, 1, np.nan, 1], "example 2 has nan, expected whole numbers"),
    "infinite": ([0, 1, 1, np.inf], "example 3 has inf, expected whole numbers"),
    "negative": ([0, 2, -1, 1], "values reach from -1 to 2, expected class numbers from 0 to 2"),
    "large": (np.array([0, 1, 1, 2**64 - 1], np.uint64), "to 18446744073709551615, expected"),
    "true and false": ([True, False, True, True], "are true and false, expected class numbers"),
    "ragged": ([[0], [1, 2], [1], [1]], "labels: cannot be read as an array (lists of different"),
    "masked": (np.ma.array(L, mask=[False, True, False, False]), "labels: some entries are masked"),
    "sparse": (torch.eye(4).to_sparse(), "labels: cannot be read as an array ("),
    "without numbers": (torch.zeros(4, device="meta"), "labels: cannot be read as an array ("),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_label_is_one_sentence(case: str) -> None:
    values, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        read_labels("labels", values, 4, classes=3, models=3)
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_numbers_that_a_type_has_rounded_are_refused() -> None:
    labels = np.array([0, 2051, 3000])
    assert labels.astype("f2").tolist() == [0, 2052, 3000]
    with pytest.raises(InputError, match="from 2048 as float16, which has rounded some"):
        read_labels("labels", labels.astype("f2"), 3, classes=4000)
    found = read_labels("labels", labels.astype("f4"), 3, classes=4000)
    np.testing.assert_array_equal(found, labels)
    found = read_labels("labels", (labels // 2).astype("f2"), 3, classes=4000)
    np.testing.assert_array_equal(found, labels // 2)


def advised(values: Any, examples: int, classes: int, **names: Any) -> Any:
    """Follow the advice of a refusal to the letter: compute what stands behind "pass"."""
    with pytest.raises(InputError) as caught:
        read_labels("labels", values, examples, classes=classes)
    expression = str(caught.value).partition("pass ")[2].removesuffix(".")
    return eval(expression, {"numpy": np, "labels": values, **names})


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, lambda given: given[:, None]])
def test_advice_followed_to_the_letter_gives_the_right_classes(form: Callable[[Any], Any]) -> None:
    labels = np.array([0, 2, 1, 1])
    from_one = advised(form(labels + 1), 4, 3)
    np.testing.assert_array_equal(read_labels("labels", from_one, 4, classes=3), labels)
    names = ["owl", "cat", "dog"]
    numbered = advised(form(np.array(names)[labels]), 4, 3, names=names)
    np.testing.assert_array_equal(read_labels("labels", numbered, 4, classes=3), labels)
    two = np.array([0, 1, 1, 0])
    signs = advised(form(2 * two - 1), 4, 2)
    np.testing.assert_array_equal(read_labels("labels", signs, 4, classes=2), two)


@given(
    rows=arrays_of.arrays(
        np.int64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(-1, 2)
    )
)
def test_one_hot_is_a_single_one_among_zeros(rows: NDArray[np.int64]) -> None:
    expected = rows.shape[1] > 1 and all(
        sorted(row) == [0] * (len(row) - 1) + [1] for row in rows.tolist()
    )
    assert is_one_hot(rows) == expected

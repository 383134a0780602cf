from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from gossamer.core.errors import InputError
from gossamer.runtime.array_files import read_archive_array
from gossamer.runtime.true_labels import read_true_labels, wilson_interval

LABELS = np.array([2, 0, 1, 1])


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(*counts), tuple(expected), atol=1e-12)


@pytest.mark.parametrize(
    "written",
    [
        LABELS, LABELS[:, None], LABELS.astype(np.uint8), LABELS.astype(">i4"),
        LABELS.astype(float), LABELS.astype(np.float16)[:, None, None],
        np.eye(3, dtype=int)[LABELS],
    ],
)  # fmt: skip
def test_class_numbers_are_read_in_any_type(written: NDArray[np.number], tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", written)
    assert read_true_labels(tmp_path / "y.npy", 4, 3).tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (LABELS[:3], "y.npy: labels: the shape is (3,), expected one class number for each of"),
        (LABELS + 1, "y.npy: labels: values reach from 1 to 3"),
        (LABELS + 1, "pass numpy.subtract(labels, 1)"),
        (LABELS + 0.5, "example 0 has 2.5"),
        (LABELS.astype(str), "the type is <U21"),
        (np.arange(12.0).reshape(4, 3), "the shape is (4, 3)"),
    ],
)
def test_other_labels_are_refused(
    written: NDArray[np.generic], complaint: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "y.npy", written)
    with pytest.raises(InputError) as caught:
        read_true_labels(tmp_path / "y.npy", 4, 3)
    assert complaint in str(caught.value)
    assert "argmax" not in str(caught.value)  # the largest of scores is no true class


def test_an_array_of_an_archive_is_named_or_the_only_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", anything=LABELS)
    np.savez_compressed(tmp_path / "two.npz", x=LABELS * 2, y=LABELS)
    for path in ("one.npz", "one.npz:anything", "two.npz:y"):
        assert read_archive_array(tmp_path / path, "").tolist() == LABELS.tolist()


IMAGES = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
"""Of the size of one-hot rows, but none."""


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": IMAGES, "y": LABELS},
        {"y_train": np.arange(9), "images": IMAGES, "truth": np.eye(3)[LABELS]},
        {"weights": LABELS + 0.25, "ids": np.arange(4), "y": LABELS.astype(float)},
        {"names": np.array(["a", "b", "c", "a"]), "y": LABELS[:, None]},
        {"anything": np.array([{}], object), "y": LABELS},
    ],
)
def test_the_only_array_that_can_be_true_classes_is_taken(
    arrays: dict[str, NDArray[np.generic]], tmp_path: Path
) -> None:
    for held in (arrays, dict(reversed(arrays.items()))):  # whatever comes first in the file
        np.savez(tmp_path / "t.npz", **held)  # type: ignore[arg-type]
        assert read_true_labels(tmp_path / "t.npz", 4, 3).tolist() == LABELS.tolist()


def test_what_cannot_be_told_apart_is_refused_with_the_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=IMAGES, fine=LABELS, coarse=LABELS // 2)
    with pytest.raises(InputError) as caught:
        read_true_labels(tmp_path / "t.npz", 4, 3)
    assert str(caught.value) == (
        f"{tmp_path}/t.npz: holds several arrays (fine, coarse), expected the true class of each "
        f"of the 4 examples; name the one that is meant, such as {tmp_path}/t.npz:fine."
    )
    assert read_true_labels(tmp_path / "t.npz:coarse", 4, 3).tolist() == (LABELS // 2).tolist()


def test_an_archive_without_true_classes_says_how_to_hear_why(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=IMAGES, y=LABELS + 1)
    with pytest.raises(InputError) as caught:
        read_true_labels(tmp_path / "t.npz", 4, 3)
    assert "t.npz: holds several arrays (x, y), none of which can be meant, expected" in str(
        caught.value
    )
    with pytest.raises(InputError, match="reach from 1 to 3"):
        read_true_labels(tmp_path / "t.npz:y", 4, 3)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("name", "arrays", "spoil", "complaint"),
    [
        ("a.npz", {"x": LABELS, "y": LABELS}, None, "a.npz: holds several arrays (x, y), expected"),
        ("a.npz", {"x": LABELS, "y": LABELS}, None, "a.npz:x."),
        ("a.npz:x_tset", {"x_test": LABELS, "y": LABELS}, None, "holds no x_tset (x_test, y)"),
        ("a.npz:x_tset", {"x_test": LABELS, "y": LABELS}, None, "a.npz:x_test."),
        ("a.npz", {}, None, "a.npz: holds no array"),
        ("b.npz", {"x": LABELS}, None, "b.npz: is not there"),
        ("a.npz", {"x": LABELS}, damaged, "a.npz: is damaged"),
        ("a.npz", {"x": np.array([{}], object)}, None, "holds Python objects (pickle)"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(
    name: str,
    arrays: dict[str, NDArray[np.generic]],
    spoil: Callable[[Path], None] | None,
    complaint: str,
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    if spoil is not None:
        spoil(tmp_path / "a.npz")
    with pytest.raises(InputError) as caught:
        read_archive_array(tmp_path / name, "expected labels")
    assert complaint in str(caught.value)

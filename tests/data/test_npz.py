import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.data import load_npz

X = np.linspace(0, 1, 24).astype(np.float32).reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])
ARRAYS: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2]}


def save(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.npz"
    np.savez_compressed(path, **{**ARRAYS, **changes})
    return path


def changed(array: np.ndarray[Any, Any], position: Any, value: float) -> np.ndarray[Any, Any]:
    array = array.copy()
    array[position] = value
    return array


def test_features_of_float32_come_back_as_saved(tmp_path: Path) -> None:
    dataset = load_npz(save(tmp_path))
    np.testing.assert_array_equal(dataset.x_train, X)
    np.testing.assert_array_equal(dataset.y_test, Y[:2])
    assert (dataset.name, dataset.classes, dataset.scale) == ("mine.npz", 3, 1.0)


def test_pixels_are_divided_by_255(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    dataset = load_npz(str(save(tmp_path, x_train=x, x_test=x[:2])))
    assert dataset.x_train.dtype == np.uint8
    assert dataset.scale == 255.0


@pytest.mark.parametrize(
    ("shape", "stored"),
    [((6, 4), (4,)), ((6, 2, 2), (1, 2, 2)), ((6, 3, 5, 5), (3, 5, 5)), ((6, 1, 1, 1), (1, 1, 1))],
)
def test_each_shape_gives_features_or_channels(
    shape: tuple[int, ...], stored: tuple[int, ...], tmp_path: Path
) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    dataset = load_npz(save(tmp_path, x_train=x, x_test=x[:2]))
    assert dataset.input_shape == stored
    np.testing.assert_array_equal(dataset.x_train.ravel(), x.ravel())


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ">f4", "int8", "int16", "int32", "int64", "uint32"]
)
def test_numbers_of_other_types_become_float32(dtype: str, tmp_path: Path) -> None:
    x = np.arange(24).reshape(6, 4).astype(dtype)
    dataset = load_npz(save(tmp_path, x_train=x, x_test=x[:2]))
    assert dataset.x_train.dtype == np.float32
    assert dataset.scale == 1.0
    np.testing.assert_array_equal(dataset.x_train, np.arange(24).reshape(6, 4))


def test_booleans_are_features_too(tmp_path: Path) -> None:
    x = np.eye(6, 4, dtype=bool)
    dataset = load_npz(save(tmp_path, x_train=x, x_test=x[:2]))
    np.testing.assert_array_equal(dataset.x_train, np.eye(6, 4))


def test_float64_is_rounded_to_the_nearest_float32(tmp_path: Path) -> None:
    x = X.astype(np.float64) + 1e-12
    np.testing.assert_array_equal(load_npz(save(tmp_path, x_train=x)).x_train, x.astype(np.float32))


def test_whole_numbers_are_taken_up_to_2_to_the_24(tmp_path: Path) -> None:
    x = changed(np.ones((6, 4), np.int64), (0, 0), 2**24)
    assert load_npz(save(tmp_path, x_train=x)).x_train[0, 0] == 2.0**24


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32", "float64"])
def test_labels_of_any_number_type_become_int64(dtype: str, tmp_path: Path) -> None:
    dataset = load_npz(save(tmp_path, y_train=Y.astype(dtype)))
    assert dataset.y_train.dtype == np.int64
    np.testing.assert_array_equal(dataset.y_train, Y)


def test_columns_first_and_uncompressed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **{**ARRAYS, "x_train": np.asfortranarray(X)})
    np.testing.assert_array_equal(load_npz(path).x_train, X)


@pytest.mark.parametrize(
    "labels", [Y[:, None], np.eye(3)[Y], np.eye(3, dtype=np.uint8)[Y][:, None], Y[:, None, None]]
)
def test_labels_of_other_shapes_are_their_classes(labels: Any, tmp_path: Path) -> None:
    dataset = load_npz(save(tmp_path, y_train=labels, y_test=labels[:2]))
    assert dataset.fingerprint == load_npz(save(tmp_path)).fingerprint


def test_further_arrays_do_not_disturb(tmp_path: Path) -> None:
    assert load_npz(save(tmp_path, notes=np.array(["a", "b"]))).classes == 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"x_train": X.astype(object)}, r"x_train holds Python objects \(pickle\)"),
    ({"x_train": X[:, 0]}, r"x_train has shape \[6\], expected \[examples, features\]"),
    ({"x_train": X.reshape(6, 1, 1, 2, 2)}, r"x_train has shape \[6, 1, 1, 2, 2\]"),
    ({"x_train": np.float32(3)}, r"x_train has shape \[\]"),
    (
        {"x_train": np.zeros((6, 8, 6, 3))},
        "may be images of 8 channels and 6 x 3 pixels, or of 8 x 6 pixels and 3 channels; say",
    ),
    ({"layout": "NHWC"}, "layout is 'NHWC', expected channels_first or channels_last"),
    ({"layout": b"\xff"}, "layout is '\ufffd', expected channels_first or channels_last"),
    ({"layout": 3}, r"layout has shape \[\] of int64, expected one text"),
    ({"layout": np.array(["a", "b"])}, r"layout has shape \[2\] of <U1, expected one text"),
    ({"x_train": X.astype(complex)}, "x_train is complex128, expected uint8 or floating"),
    ({"x_train": X.astype(str)}, "x_train is <U32, expected uint8 or floating"),
    ({"x_train": changed(X, (4, 1), np.nan)}, r"x_train holds nan at position \[4, 1\]"),
    ({"x_test": changed(X[:2], (1, 0), np.inf)}, r"x_test holds inf at position \[1, 0\]"),
    (
        {"x_train": changed(X.astype(np.float64), (2, 2), 1e39)},
        r"x_train holds 1e\+39 at position \[2, 2\], which float32 cannot hold",
    ),
    (
        {"x_train": changed(np.ones((6, 4), np.int64), (5, 0), 2**24 + 1)},
        r"x_train holds 16777217 at position \[5, 0\], which float32 cannot hold",
    ),
    (
        {"x_train": changed(np.ones((6, 4), np.int64), (5, 0), -(2**63))},
        r"holds -9223372036854775808 at position \[5, 0\]",
    ),
    ({"y_train": Y.astype(object)}, "y_train holds Python objects"),
    ({"y_train": Y.astype(str)}, "y_train is <U21, expected whole numbers: number the classes"),
    ({"y_train": np.stack([Y, Y], axis=1)}, r"y_train has shape \[6, 2\], expected \[6\]"),
    ({"y_train": 3}, r"y_train has shape \[\], expected \[6\]"),
    ({"y_train": changed(Y.astype(float), 3, 1.5)}, r"y_train holds 1.5 at position \[3\]"),
    ({"y_train": changed(Y.astype(float), 3, np.nan)}, r"y_train holds nan at position \[3\]"),
    ({"y_train": changed(Y.astype(np.uint64), 3, 2**64 - 1)}, r"holds 18446744073709551615 at"),
    ({"y_train": changed(Y, 3, -1)}, "y_train holds -1 at position 3"),
    ({"y_train": -1 - Y}, "y_train holds -1 at position 0"),
    ({"y_train": Y[:5]}, r"y_train has shape \[5\], expected \[6\]"),
    ({"y_train": Y * 0}, "goes with 1 class, expected at least 2"),
    ({"y_train": Y * 2}, "y_train lacks class 1"),
    ({"y_test": np.array([0, 3])}, "y_test holds 3 at position 1, .* from 0 to 2"),
    ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty"),
    ({"x_test": X[:0], "y_test": Y[:0]}, "x_test is empty"),
    ({"x_test": X[:2, :3]}, r"x_train has shape \[4\] and one of x_test \[3\]"),
    ({"x_test": X[:2].astype(np.uint8)}, "x_train is float32 and x_test uint8"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD)
def test_bad_arrays_are_refused_in_one_sentence(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        load_npz(save(tmp_path, **changes))
    assert "mine.npz: " in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    with pytest.raises(InputError, match="pickle"):
        load_npz(save(tmp_path, x_train=np.array([Trap()] * 6, dtype=object)))
    assert not (tmp_path / "sprung").exists()


def test_missing_arrays_are_named_beside_those_present(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=X, labels=Y)
    with pytest.raises(InputError, match=r"lacks y_train, x_test, y_test.*holds x_train, labels\."):
        load_npz(path)


def test_an_archive_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    zipfile.ZipFile(path, "w").close()
    with pytest.raises(InputError, match=r"lacks x_train.*it holds nothing"):
        load_npz(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.npz", tmp_path):
        with pytest.raises(InputError, match=r"no such file, expected an \.npz file"):
            load_npz(path)


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -30, -200])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"is damaged or no \.npz file.*write it again"):
        load_npz(path)


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(InputError, match=r"is damaged or no \.npz file"):
        load_npz(path)


def entry(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "x_train has no readable .npy header"),
        (b"no header", "x_train has no readable .npy header"),
        (entry(X).replace(b"NUMPY\x01", b"NUMPY\x03"), "x_train has no readable .npy header"),
        (entry(X).replace(b"(6, 4)", b"(6, 4("), "x_train has no readable .npy header"),
        (entry(X)[:-4], r"x_train holds 92 bytes, expected 96 for its shape \[6, 4\]"),
        (entry(X) + b"x", "x_train holds 97 bytes, expected 96"),
        (entry(X).replace(b"(6, 4), }    ", b"(6, 4444444)}"), "x_train holds 96 bytes, expected"),
    ],
)
def test_a_damaged_entry_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", content)
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", entry(ARRAYS[key]))
    with pytest.raises(InputError, match=sentence):
        load_npz(path)


def fingerprint_or_refusal(path: Path) -> str:
    try:
        return load_npz(path).fingerprint
    except InputError as error:
        return str(error)


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=150)
def test_any_changed_byte_gives_the_same_data_or_a_sentence(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save(tmp_path_factory.mktemp("npz"))
    whole = load_npz(path).fingerprint
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    found = fingerprint_or_refusal(path)
    assert found == whole or "mine.npz: " in found


@pytest.mark.parametrize("shape", [(4, 7), (4, 8, 6)])
@pytest.mark.parametrize("inside", [True, False])
def test_a_layout_of_examples_without_channels_is_refused(
    shape: tuple[int, ...], inside: bool, tmp_path: Path
) -> None:
    x, y = np.zeros(shape, np.float32), np.array([0, 1, 1, 0])
    more: dict[str, Any] = {"layout": "channels_last"} if inside else {}
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y, **more)
    with pytest.raises(InputError, match="without an axis of channels, but layout is 'channels_l"):
        load_npz(tmp_path / "mine.npz", None if inside else "channels_last")

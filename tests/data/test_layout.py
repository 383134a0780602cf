"""Images whose channel axis their shape leaves open are refused, and read as somebody says."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.data import Dataset, load, load_npz
from gossamer.data.layout import Layout, is_clear, speaks_for

Shape = tuple[int, int, int]
SIDES = st.integers(1, 40)
LABELS: dict[str, Any] = {"y_train": [0, 1, 0, 1], "y_test": [0, 1]}


def save(folder: Path, shape: Shape, **more: Any) -> Path:
    images = np.arange(6 * np.prod(shape)).reshape(6, *shape).astype(np.uint8)
    path = folder / "mine.npz"
    np.savez(path, x_train=images[:4], x_test=images[4:], **LABELS, **more)
    return path


CLEAR = [
    (1, 28, 28), (3, 32, 32), (3, 32, 48), (4, 64, 48), (2, 9, 5), (1, 8, 6), (3, 224, 224),
    (10, 28, 28), (64, 8, 8), (13, 64, 48), (512, 7, 7), (1, 1, 1),
]  # fmt: skip
OPEN = [
    (8, 6, 3), (8, 8, 4), (8, 8, 3), (3, 32, 3), (4, 4, 4), (28, 28, 1), (32, 32, 3), (64, 48, 4),
    (28, 28, 28), (8, 8, 64), (64, 48, 13), (1, 8, 1), (8, 1, 1), (1, 1, 8), (3, 3, 32), (4, 32, 2),
    (16, 12, 14), (16, 4, 4), (2, 2, 2), (20, 10, 30),
]  # fmt: skip


@pytest.mark.parametrize("shape", CLEAR)
def test_clear_shapes_have_their_channels_first(shape: Shape, tmp_path: Path) -> None:
    path = save(tmp_path, shape)
    found = load_npz(path)
    assert found.input_shape == shape
    with np.load(path) as file:
        arrays = {key: file[key] for key in (*LABELS, "x_train", "x_test")}
    assert found.fingerprint == Dataset("x", **arrays, classes=2, scale=255.0).fingerprint
    said = load_npz(save(tmp_path, shape, layout="channels_first"))
    assert said.fingerprint == found.fingerprint


@pytest.mark.parametrize("shape", OPEN)
def test_open_shapes_are_refused_with_both_readings(shape: Shape, tmp_path: Path) -> None:
    a, b, c = shape
    with pytest.raises(InputError) as caught:
        load_npz(save(tmp_path, shape))
    sentence = str(caught.value)
    assert f"x_train has shape [4, {a}, {b}, {c}], which may be" in sentence
    assert f"images of {a} channels and {b} x {c} pixels" in sentence
    assert f"of {a} x {b} pixels and {c} channels" in sentence
    for word in get_args(Layout):
        assert f'layout="{word}"' in sentence


@pytest.mark.parametrize("shape", [*OPEN, *CLEAR])
@pytest.mark.parametrize("word", ["channels_first", b"channels_first", ["channels_first"]])
def test_a_file_may_say_that_channels_are_first(shape: Shape, word: Any, tmp_path: Path) -> None:
    found = load_npz(save(tmp_path, shape, layout=word))
    assert found.input_shape == shape
    with np.load(tmp_path / "mine.npz") as file:
        np.testing.assert_array_equal(found.x_train, file["x_train"])


@pytest.mark.parametrize("shape", [*OPEN, *CLEAR])
def test_a_file_may_say_that_channels_are_last(shape: Shape, tmp_path: Path) -> None:
    path = save(tmp_path, shape, layout="channels_last")
    found = load(str(path))
    with np.load(path) as file:
        moved = {key: np.moveaxis(file[key], -1, 1) for key in ("x_train", "x_test")}
    np.testing.assert_array_equal(found.x_train, moved["x_train"])
    np.savez(path, **moved, **LABELS, layout="channels_first")
    assert load_npz(path).fingerprint == found.fingerprint


def test_the_caller_decides_before_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, (8, 6, 3), layout="channels_first")
    assert load_npz(path, layout="channels_last").input_shape == (3, 8, 6)
    assert load_npz(path).input_shape == (8, 6, 3)
    with pytest.raises(InputError, match="layout is 'last', expected channels_first or"):
        load_npz(path, layout="last")  # type: ignore[arg-type]


@given(SIDES, SIDES, SIDES)
def test_both_readings_are_never_clear(a: int, b: int, c: int) -> None:
    # Channels last of (a, b, c) are channels first of (c, a, b).
    as_last = speaks_for(c, a, b) and not speaks_for(a, b, c)
    assert not (is_clear(a, b, c) and as_last)


@given(st.integers(1, 4), SIDES, SIDES)
def test_pictures_with_channels_last_are_never_taken_for_others(
    channels: int, height: int, width: int
) -> None:
    if (height, width, channels) != (1, 1, 1):
        assert not is_clear(height, width, channels)


@given(st.integers(1, 4), st.integers(5, 400), st.integers(5, 400))
def test_pictures_with_channels_first_need_no_word(channels: int, height: int, width: int) -> None:
    assert is_clear(channels, height, width)


@given(st.integers(5, 400), st.integers(5, 40))
def test_square_maps_with_channels_first_need_no_word(channels: int, side: int) -> None:
    assert is_clear(channels, side, side) == (channels != side)

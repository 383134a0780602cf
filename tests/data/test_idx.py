import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gossamer.core.errors import InputError
from gossamer.data import load, load_idx_folder, read_idx

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.arange(30, dtype=np.uint8) % 10

plain: Callable[[bytes], bytes] = bytes
packings = pytest.mark.parametrize("pack", [plain, gzip.compress], ids=["plain", "gzip"])


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write_folder(folder: Path, ending: str = "-ubyte") -> Path:
    folder.mkdir(exist_ok=True)
    images = np.arange(30 * 4, dtype=np.uint8).reshape(30, 2, 2)
    for stem, count in (("train", 30), ("t10k", 10)):
        (folder / f"{stem}-images-idx3{ending}").write_bytes(idx_bytes(images[:count]))
        (folder / f"{stem}-labels-idx1{ending}").write_bytes(idx_bytes(LABELS[:count]))
    return folder


@packings
@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)))
@settings(max_examples=30)
def test_images_come_back_as_written(
    array: np.ndarray[Any, Any],
    pack: Callable[[bytes], bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("idx") / "images"
    path.write_bytes(pack(idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(path, kind="images"), array)


@packings
def test_labels_come_back_as_written(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "misleading.gz"
    path.write_bytes(pack(idx_bytes(LABELS)))
    np.testing.assert_array_equal(read_idx(str(path), kind="labels"), LABELS)


def header(*shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


# Without a time: tests are named after it, and every process must give them the same names.
TWICE = gzip.compress(idx_bytes(IMAGES), mtime=0)

BAD_CONTENT: list[tuple[bytes, str]] = [
    (b"", "is empty, expected an IDX file of images"),
    (b"\0", "ends after 1 bytes, expected a header of 16 bytes"),
    (header(2, 3, 4)[:7], "ends after 7 bytes, expected a header of 16 bytes"),
    (idx_bytes(LABELS), "starts with the bytes 00 00 08 01, expected 00 00 08 03 for images"),
    (idx_bytes(LABELS), r"in 3 dimensions\); it holds labels, as if files were swapped\."),
    (idx_bytes(IMAGES.reshape(6, 4)), r"; it holds unsigned bytes in 2 dimensions\."),
    (struct.pack(">HBB3I", 0, 0x0D, 3, 1, 1, 1), "starts with the bytes 00 00 0d 03"),
    (struct.pack(">HBBI", 0, 0x0D, 1, 1), r"; it holds floats in 1 dimension\."),
    (b"PK\x03\x04 and so on and on", "starts with the bytes 50 4b 03 04"),
    (b"PK\x03\x04 and so on and on", r"; it is a zip archive: unpack it\."),
    (b"<html>not found</html>", r"; it is a web page: fetch the file itself\."),
    (gzip.compress(TWICE, mtime=0), r"; it was compressed twice: unpack it"),
    (b"something else", r"in 3 dimensions\)\."),
    (idx_bytes(IMAGES)[:-1], r"holds 23 bytes of data, expected 24 .* \[2, 3, 4\]"),
    (header(2, 3, 4), "holds 0 bytes of data, expected 24"),
    (idx_bytes(IMAGES) + b"x", "holds more bytes of data, expected 24"),
    (header(0, 28, 28), r"declares the shape \[0, 28, 28\], expected between 1"),
    (header(2**32 - 1, 2**32 - 1, 2**32 - 1) + b"x", r"declares the shape \[4294967295"),
    (header(2**31, 2, 2) + b"x", "holds 1 bytes of data, expected 8589934592"),
]


@packings
@pytest.mark.parametrize(("content", "sentence"), BAD_CONTENT)
def test_damaged_files_are_refused_in_one_sentence(
    content: bytes, sentence: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "images-file"
    path.write_bytes(pack(content))
    with pytest.raises(InputError, match=sentence) as caught:
        read_idx(path, kind="images")
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b",
        b"\x1f\x8b and then nothing of the kind",
        gzip.compress(idx_bytes(IMAGES))[:-9],
        gzip.compress(idx_bytes(IMAGES))[:-8] + b"\0" * 8,
        gzip.compress(idx_bytes(IMAGES))[:10] + b"\xff" * 20,
        gzip.compress(idx_bytes(IMAGES)) + b"garbage",
    ],
    ids=["magic alone", "no gzip", "cut short", "wrong checksum", "broken stream", "garbage"],
)
def test_damaged_gzip_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"the gzip data are damaged .* fetch it again"):
        read_idx(path, kind="images")


def refusal(path: Path, kind: Literal["images", "labels"]) -> str | None:
    try:
        read_idx(path, kind=kind)
    except InputError as error:
        return str(error)
    return None


@given(position=st.integers(0, 39), value=st.integers(0, 255), kind=st.sampled_from("il"))
@packings
@settings(max_examples=60)
def test_any_changed_byte_gives_an_array_or_a_sentence(
    position: int,
    value: int,
    kind: str,
    pack: Callable[[bytes], bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = bytearray(pack(idx_bytes(IMAGES)))
    content[position % len(content)] = value
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    expected: Literal["images", "labels"] = "images" if kind == "i" else "labels"
    assert (refusal(path, expected) or f"{path}: ").startswith(f"{path}: ")


@packings
def test_a_hostile_header_costs_no_memory(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(pack(header(2**31, 2, 2) + bytes(1000)))
    tracemalloc.start()
    with pytest.raises(InputError, match="holds 1000 bytes"):
        read_idx(path, kind="images")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_decompression_stops_at_what_the_header_declares(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(header(1, 2, 2) + bytes(200_000_000), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(InputError, match="holds more bytes of data, expected 4"):
        read_idx(path, kind="images")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="no such file, expected an IDX file of labels"):
            read_idx(path, kind="labels")


def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels").write_bytes(idx_bytes(LABELS))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"labels: cannot be read \(Permission denied\)"):
        read_idx(tmp_path / "labels", kind="labels")


@pytest.mark.parametrize("ending", ["-ubyte", "-ubyte.gz"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_a_folder_is_loaded_in_every_usual_spelling(
    ending: str, separator: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path)
    expected = load_idx_folder(folder, "tiny").fingerprint
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", f"{separator}idx")[:-6] + ending))
    dataset = load_idx_folder(str(folder), "tiny")
    assert dataset.fingerprint == expected
    assert dataset.x_train.shape == (30, 1, 2, 2)
    assert dataset.x_test.shape == (10, 1, 2, 2)
    assert (dataset.name, dataset.classes, dataset.scale) == ("tiny", 10, 255.0)
    np.testing.assert_array_equal(dataset.y_train, LABELS)


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "t10k-images-idx3-ubyte").unlink()
    sentence = "lacks train-labels-idx1-ubyte, t10k-images-idx3-ubyte .* four IDX files of tiny"
    with pytest.raises(InputError, match=sentence):
        load_idx_folder(folder, "tiny")


def test_counts_that_differ_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:29]))
    with pytest.raises(InputError, match="train-labels-idx1-ubyte: holds 29 labels, expected 30"):
        load_idx_folder(folder, "tiny")


def test_a_label_out_of_range_is_refused_with_its_position(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    labels = LABELS[:10].copy()
    labels[[4, 7]] = 11, 255
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    sentence = "t10k-labels-idx1-ubyte: holds 11 at position 4, expected labels from 0 to 9"
    with pytest.raises(InputError, match=sentence):
        load_idx_folder(folder, "tiny")


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)]
)
def test_the_published_datasets_are_what_they_are_known_to_be(
    name: str, mean: float, std: float
) -> None:
    root = os.environ.get("GOSSAMER_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"GOSSAMER_DATA names no folder that holds {name}/")
    dataset = load(name)
    assert dataset.x_train.shape == (60_000, 1, 28, 28)
    assert dataset.x_test.shape == (10_000, 1, 28, 28)
    first = dataset.x_train.mean(dtype=np.float64) / 255
    second = np.square(dataset.x_train, dtype=np.uint16).mean(dtype=np.float64) / 255**2
    assert first == pytest.approx(mean, abs=5e-5)
    assert np.sqrt(second - first**2) == pytest.approx(std, abs=5e-5)
    if name == "fashion-mnist":
        assert (np.bincount(dataset.y_train) == 6000).all()
        assert (np.bincount(dataset.y_test) == 1000).all()
    else:
        counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert np.bincount(dataset.y_train).tolist() == counts

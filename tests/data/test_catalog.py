import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.data import Dataset, catalog, cifar, load, names


def write_idx(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def write_folder(folder: Path, pixel: int) -> Path:
    folder.mkdir(parents=True)
    for stem in ("train", "t10k"):
        images = np.full((10, 2, 2), pixel, np.uint8)
        write_idx(folder / f"{stem}-images-idx3-ubyte", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", np.arange(10, dtype=np.uint8))
    return folder


def write_cifar10_folder(folder: Path) -> Path:
    """Six batches of one record of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    records = np.zeros((10, 3073), np.uint8)
    records[:, 0] = np.arange(10)
    for part in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"):
        (folder / f"{part}.bin").write_bytes(records.tobytes())
    (folder / "test_batch.bin").write_bytes(records.tobytes())
    return folder


def pixel_of(dataset: Dataset) -> int:
    return int(dataset.x_train[0, 0, 0, 0])


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what is downloaded instead of downloading it; its pixels are 1."""
    monkeypatch.delenv("GOSSAMER_DATA", raising=False)
    folder = write_folder(tmp_path / "downloaded", pixel=1)
    names: list[str] = []

    def download(name: str) -> Path:
        names.append(name)
        return folder

    monkeypatch.setattr(catalog, "download", download)
    return names


def test_digits_need_no_folder(downloads: list[str], tmp_path: Path) -> None:
    assert load("digits", tmp_path / "nowhere").name == "digits"
    assert downloads == []


def test_without_a_root_the_dataset_is_downloaded(downloads: list[str]) -> None:
    dataset = load("fashion-mnist")
    assert (dataset.name, pixel_of(dataset)) == ("fashion-mnist", 1)
    assert downloads == ["fashion-mnist"]


def test_what_is_in_the_root_is_not_downloaded(downloads: list[str], tmp_path: Path) -> None:
    write_folder(tmp_path / "root" / "mnist", pixel=2)
    assert pixel_of(load("mnist", tmp_path / "root")) == 2
    assert pixel_of(load("mnist", str(tmp_path / "root"))) == 2
    assert downloads == []


def test_the_environment_names_the_root_and_the_argument_goes_before_it(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "argument" / "mnist", pixel=2)
    write_folder(tmp_path / "environment" / "mnist", pixel=3)
    monkeypatch.setenv("GOSSAMER_DATA", str(tmp_path / "environment"))
    assert pixel_of(load("mnist")) == 3
    assert pixel_of(load("mnist", tmp_path / "argument")) == 2
    monkeypatch.setenv("GOSSAMER_DATA", "")
    assert pixel_of(load("mnist")) == 1


@pytest.mark.parametrize("empty_folder", [True, False])
def test_a_root_with_nothing_of_the_dataset_leads_to_a_download(
    empty_folder: bool, downloads: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if empty_folder:
        (root / "mnist").mkdir()
    assert pixel_of(load("mnist", root)) == 1
    assert downloads == ["mnist"]


def test_an_incomplete_folder_is_refused_and_nothing_is_downloaded(
    downloads: list[str], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "root" / "mnist", pixel=2)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="mnist: lacks t10k-labels-idx1-ubyte"):
        load("mnist", tmp_path / "root")
    assert downloads == []


def test_a_folder_of_other_files_is_refused(downloads: list[str], tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "notes.txt").write_text("no data")
    with pytest.raises(InputError, match="expected the four IDX files of mnist"):
        load("mnist", tmp_path)
    assert downloads == []


def test_a_file_in_the_place_of_the_folder_is_refused(downloads: list[str], tmp_path: Path) -> None:
    (tmp_path / "mnist").write_text("no folder")
    with pytest.raises(InputError, match="expected the four IDX files of mnist"):
        load("mnist", tmp_path)
    assert downloads == []


def test_a_root_that_does_not_exist_is_refused(downloads: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"typo: no such folder, .*--data or GOSSAMER_DATA"):
        load("mnist", tmp_path / "typo")
    assert downloads == []


def test_a_path_to_an_npz_file_is_loaded(tmp_path: Path) -> None:
    x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert load(str(tmp_path / "mine.npz")).name == "mine.npz"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fashion_mnist", r"expected digits, mnist, .*, cifar10 or .*; did you mean fashion-mn"),
        ("cifar-10", r"cifar-10: no such dataset, .* did you mean cifar10\?"),
        ("MNIST", r"MNIST: no such dataset, .* did you mean mnist\?"),
        ("imagenet-22k", r"imagenet-22k: no such dataset, expected .* ends in \.npz\.$"),
        ("data.csv", r"data\.csv: no such dataset, .* a path that ends in \.npz"),
        ("", "no such dataset"),
        ("missing.npz", r"missing\.npz: no such file"),
    ],
)
def test_unknown_names_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load(name)


def test_the_built_in_names_are_those_that_can_be_loaded(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "_RECORDS", 10)
    write_cifar10_folder(tmp_path / "downloaded")
    assert [load(name).name for name in names()] == list(names())
    assert downloads == ["mnist", "fashion-mnist", "cifar10"]


def test_part_of_cifar10_is_refused_and_nothing_is_downloaded(
    downloads: list[str], tmp_path: Path
) -> None:
    folder = write_cifar10_folder(tmp_path / "cifar10")
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(InputError, match=r"cifar10: lacks data_batch_4\.bin"):
        load("cifar10", tmp_path)
    assert downloads == []


def test_loading_imports_neither_torch_nor_what_it_does_not_need() -> None:
    program = (
        "import sys, gossamer.data; gossamer.data.load('digits').fingerprint; "
        "print(sorted({'torch', 'sklearn', 'pooch', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.strip() == "[]"

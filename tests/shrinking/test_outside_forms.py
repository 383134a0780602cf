"""Data of other tools: folders of images, and datasets of Hugging Face with and without it."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.shrinking.data import read_data

image = pytest.importorskip("PIL.Image")

COLOURS = {"red": 0, "green": 1, "blue": 2}


def pixels(seed: int, size: tuple[int, ...] = (6, 5, 3)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, count in (("train", 10), ("val", 2), ("test", 3)):
        for name, label in COLOURS.items():
            place = tmp_path / "images" / part / name
            place.mkdir(parents=True)
            for number in range(count):
                seed = 1000 * label + 100 * ("train", "val", "test").index(part) + number
                image.fromarray(pixels(seed)).save(place / f"{number}.png")
    return tmp_path / "images"


def test_a_folder_of_images_is_read_with_its_names(folder: Path) -> None:
    data = read_data(str(folder))
    assert data.class_names == ("blue", "green", "red")
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 6, 9)
    assert data.validation_is_held_out
    inputs, targets = data.test.whole()
    assert targets.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    expected = np.moveaxis(pixels(2200), -1, 0) / np.float32(255)
    np.testing.assert_array_equal(inputs[0].numpy(), expected)
    assert data.preprocessing is not None
    assert (data.name, data.preprocessing.scale) == ("images", 255.0)
    shutil.rmtree(folder / "val")
    assert not read_data(folder).validation_is_held_out


def test_grey_images_have_one_channel(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        image.open(path).convert("L").save(path)
    assert read_data(folder).train.whole()[0].shape == (30, 1, 6, 5)


def emptied(folder: Path) -> None:
    for path in (folder / "test" / "red").iterdir():
        path.unlink()


def with_one_class(folder: Path) -> None:
    for part in folder.iterdir():
        shutil.rmtree(part / "red")
        shutil.rmtree(part / "green")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: shutil.rmtree(f / "train"), "holds no folder train"),
        (lambda f: shutil.rmtree(f / "test"), "there is no test"),
        (lambda f: shutil.rmtree(f / "test/red"), "classes of test are others .*red"),
        (lambda f: (f / "valid").mkdir(), "holds validation and valid|holds valid and val"),
        (lambda f: (f / "train/red/0.png").write_bytes(b"no image"), "cannot be read as an image"),
        (
            lambda f: (f / "train/red/3.png").write_bytes(
                (f / "train/red/3.png").read_bytes()[:60]
            ),
            "3.png: cannot be read as an image",
        ),
        (
            lambda f: image.fromarray(pixels(0, (7, 5, 3))).save(f / "test/blue/9.png"),
            "9.png: is 5 x 7 of 3 channels, but .* is 5 x 6",
        ),
        (
            lambda f: image.fromarray(np.zeros((6, 5), np.uint16)).save(f / "train/blue/00.png"),
            "pixels of mode I",
        ),
        (emptied, "holds no images"),
        (with_one_class, "holds 1 folders of classes"),
    ],
)
def test_folders_that_cannot_be_used(folder: Path, spoil: Any, told: str) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=told) as raised:
        read_data(folder)
    assert "\n" not in str(raised.value)


class Columns:
    """What of a dataset of Hugging Face is used."""

    def __init__(self, columns: dict[str, list[Any]], names: list[str] | None = None) -> None:
        self.columns = columns
        self.column_names = list(columns)
        label = SimpleNamespace(names=names) if names else SimpleNamespace()
        self.features = dict.fromkeys(columns, label)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: values[index] for name, values in self.columns.items()}


def split_of(start: int, count: int) -> dict[str, list[Any]]:
    pictures = [image.fromarray(pixels(start + i)) for i in range(count)]
    return {"image": pictures, "label": [i % 2 for i in range(count)]}


def test_columns_of_pictures_become_tensors_of_pixels() -> None:
    given = {
        "train": Columns(split_of(0, 12), ["cat", "dog"]),
        "validation": Columns(split_of(50, 4), ["cat", "dog"]),
        "test": Columns(split_of(90, 4), ["cat", "dog"]),
    }
    data = read_data(given)
    assert data.class_names == ("cat", "dog")
    inputs, targets = data.train.whole()
    np.testing.assert_array_equal(
        inputs[3].numpy(), np.moveaxis(pixels(3), -1, 0) / np.float32(255)
    )
    assert targets.tolist() == [0, 1] * 6
    assert data.preprocessing is not None


def test_several_columns_are_arguments_by_name() -> None:
    tokens = {"input_ids": [[1, 2], [3, 4]] * 5, "attention_mask": [[1, 1], [1, 0]] * 5}
    given = {part: Columns({**tokens, "labels": [0, 1] * 5}) for part in ("train", "test", "valid")}
    inputs, targets = read_data(given).validation.whole()
    assert list(inputs) == ["input_ids", "attention_mask"]
    assert inputs["input_ids"].dtype == torch.int64
    assert inputs["attention_mask"][1].tolist() == [1, 0]
    assert targets.tolist() == [0, 1] * 5


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"text": ["a", "b"], "label": [0, 1]}, "'text' holds text, expected numbers: tokenise"),
        (
            {"x": [[1.0], [2.0]], "y": [0, 1]},
            "columns are x and y, expected inputs and one of label",
        ),
        ({"x": [[1], [2, 3]], "label": [0, 1]}, "'x' holds rows of different lengths"),
        ({"label": [0, 1]}, "columns are label, expected inputs"),
    ],
)
def test_columns_that_cannot_be_used(columns: dict[str, list[Any]], told: str) -> None:
    with pytest.raises(InputError, match=f"train: .*{told}"):
        read_data({"train": Columns(columns), "test": Columns(columns)})


@pytest.mark.filterwarnings("ignore")  # of packages that are not this one
def test_a_dataset_of_hugging_face_itself() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    made = datasets.DatasetDict(
        {
            part: datasets.Dataset.from_dict(split_of(100 * i, 10), features=features)
            for i, part in enumerate(("train", "validation", "test"))
        }
    )
    data = read_data(made)
    assert data.class_names == ("cat", "dog")
    expected = np.moveaxis(pixels(2), -1, 0) / np.float32(255)
    np.testing.assert_array_equal(data.train.whole()[0][2].numpy(), expected)
    assert data.notes == ()

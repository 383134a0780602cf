"""Files of statistics: what is written comes back, and damage is one sentence."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from safetensors.numpy import save_file

from gossamer.core.errors import StoreError
from gossamer.leakage import Statistics, statistics
from gossamer.recipes.statistics_files import is_verified, read_statistics, write_statistics


def found(examples: int, seed: int = 0) -> Statistics:
    draw = np.random.default_rng(seed)
    return statistics(draw.normal(size=(examples, 3)), draw.integers(0, 3, examples))


@given(some.integers(1, 60), some.integers(0, 9))
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, examples: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("statistics") / "new" / "one.safetensors"
    written = found(examples, seed)
    write_statistics(path, written)
    again = read_statistics(path)
    assert vars(again).keys() == vars(written).keys()
    for name, value in vars(written).items():
        assert np.array_equal(vars(again)[name], value)
        assert vars(again)[name].shape == (1, examples)


def test_an_example_takes_16_bytes(tmp_path: Path) -> None:
    sizes = []
    for examples in (1000, 2000):
        write_statistics(tmp_path / "one.safetensors", found(examples))
        sizes.append((tmp_path / "one.safetensors").stat().st_size)
    assert abs(sizes[1] - sizes[0] - 16 * 1000) < 100  # lengths in the header have more digits
    assert [path.name for path in tmp_path.iterdir()] == ["one.safetensors"]


def damaged(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(whole[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"no statistics at all")
    else:
        numbers = {name: value[0] for name, value in vars(found(5)).items()}
        if how == "of other names":
            numbers["odds"] = numbers.pop("margin")
        if how == "not finite":
            numbers["margin"][2] = np.nan
        if how == "of other lengths":
            numbers["lead"] = numbers["lead"][:4]
        save_file(numbers, path)


@pytest.mark.parametrize(
    "how",
    ["missing", "cut", "empty", "text", "of other names", "not finite", "of other lengths"],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, how: str) -> None:
    path = tmp_path / "one.safetensors"
    write_statistics(path, found(5))
    damaged(path, how)
    with pytest.raises(StoreError) as caught:
        read_statistics(path)
    assert str(caught.value).startswith(f"the statistics {path} cannot be read (")
    ending = "): run the same command again, which sets it aside and makes it again"
    assert str(caught.value).endswith(ending)


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    write_statistics(path, found(3))
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(StoreError, match="cannot be read"):
            read_statistics(path)


def test_statistics_under_the_name_of_others_are_noticed(tmp_path: Path) -> None:
    write_statistics(tmp_path / "one.safetensors", found(5))
    (tmp_path / "one.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(StoreError, match=r"it was written as one\.safetensors"):
        read_statistics(tmp_path / "other.safetensors")


def test_statistics_from_before_checksums_are_read_and_told_apart(tmp_path: Path) -> None:
    path, numbers = tmp_path / "one.safetensors", found(5)
    write_statistics(path, numbers)
    assert is_verified(path)
    save_file({name: value[0] for name, value in vars(numbers).items()}, path)
    assert np.array_equal(read_statistics(path).margin, numbers.margin)
    assert not is_verified(path)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(StoreError, match="cannot be written"):
        write_statistics(tmp_path / "taken" / "one.safetensors", found(5))

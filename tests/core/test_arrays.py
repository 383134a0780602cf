import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gossamer.core.arrays import Header, entries, opened, read_header, read_numbers, readable
from gossamer.core.errors import InputError

NUMBERS = np.arange(12, dtype=">i2").reshape(3, 4)


def test_headers_and_numbers_are_those_that_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, first=NUMBERS, second=np.asfortranarray(NUMBERS.T))
    with opened(path) as archive:
        held = entries(archive)
        assert list(held) == ["first", "second"]
        header = read_header(path, archive, "first", held["first"])
        assert header == Header((3, 4), np.dtype(">i2"))
        assert header.size == 24
        np.testing.assert_array_equal(read_numbers(archive, held["first"]), NUMBERS)
        np.testing.assert_array_equal(read_numbers(archive, held["second"]), NUMBERS.T)


def test_what_is_no_archive_is_said_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_text("model,example\n")
    damaged = pytest.raises(InputError, match=r"is damaged or no \.npz file .* write it again\.")
    with damaged, opened(path):
        pass
    missing = pytest.raises(InputError, match=r"cannot be read \(no such file or directory\)")
    with missing, opened(tmp_path / "none.npz"):
        pass


@pytest.mark.parametrize("error", [MemoryError, lambda: OverflowError("a\nb"), EOFError])
def test_whatever_damaged_bytes_raise_becomes_one_line(
    error: Callable[[], Exception], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught, readable(tmp_path / "mine.npz"):
        raise error()
    assert "\n" not in str(caught.value)
    assert "is damaged or no .npz file (" in str(caught.value)


def test_numbers_that_do_not_match_their_checksum_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, first=NUMBERS)
    content = path.read_bytes()
    path.write_bytes(content.replace(NUMBERS.tobytes(), (NUMBERS + 1).tobytes()))
    with pytest.raises(InputError, match="Bad CRC-32"), opened(path) as archive:
        read_numbers(archive, entries(archive)["first"])


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, first=NUMBERS)
    with zipfile.ZipFile(path) as whole:
        stored = whole.read("first.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.npy", stored[:-2])
    short = pytest.raises(InputError, match=r"first holds 22 bytes, expected 24 .* \[3, 4\] of >i2")
    with short, opened(path) as archive:
        read_header(path, archive, "first", entries(archive)["first"])

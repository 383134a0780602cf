import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from gossamer.core.errors import InputError
from gossamer.core.files import as_path, remove_abandoned, replacing, unwritable


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_if_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_if_the_block_raises_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "numbers.txt"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_the_old_file_stays_if_the_disk_fills_up_on_syncing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "numbers.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "device"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(OSError, match="no regular file"), replacing(path) as temporary:
            temporary.write_bytes(b"new")
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["device"]


def test_a_link_stays_and_permissions_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    with replacing(tmp_path / "link") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize("path", [None, 3, b"", "", "a\0b"])
def test_what_can_be_no_path_is_refused_in_one_sentence(path: object) -> None:
    with pytest.raises(InputError, match="expected the path of a file"):
        as_path(path)


def test_paths_are_taken_as_text_and_as_paths(tmp_path: Path) -> None:
    assert as_path(str(tmp_path)) == as_path(tmp_path) == tmp_path


def test_only_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f".page.html.{gone.pid}.tmp", f".page.html.{os.getpid()}.tmp", ".other.tmp", "a.1.tmp"]
    for name in names:
        (tmp_path / name).touch()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])
    remove_abandoned(tmp_path / "nowhere")


def test_a_name_that_is_too_long_says_nothing_of_the_folder(tmp_path: Path) -> None:
    assert unwritable(tmp_path, OSError(errno.ENAMETOOLONG, "File name too long")) is None

import functools
import gzip
import hashlib
import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest

from gossamer.core.errors import InputError
from gossamer.data import cifar, download
from gossamer.data.download import ARCHIVES, Archive, fetch

CONTENTS = {"one.gz": gzip.compress(b"one", mtime=0), "two.gz": gzip.compress(b"two", mtime=0)}
SHA256 = {file: hashlib.sha256(content).hexdigest() for file, content in CONTENTS.items()}


class Handler(http.server.SimpleHTTPRequestHandler):
    requested: list[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        self.requested.append(self.path)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(level)


@pytest.fixture
def requested() -> list[str]:
    return []


@pytest.fixture
def archive(tmp_path: Path, requested: list[str]) -> Iterator[Archive]:
    """Two files, served from this machine."""
    published = tmp_path / "published"
    published.mkdir()
    for file, content in CONTENTS.items():
        (published / file).write_bytes(content)
    handler = type("Recorder", (Handler,), {"requested": requested})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(published))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Archive(f"http://127.0.0.1:{server.server_port}/", SHA256)
        server.shutdown()
        thread.join()


def test_files_are_fetched_once(archive: Archive, requested: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "tiny"
    fetch("tiny", archive, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
    assert requested == ["/one.gz", "/two.gz"]
    fetch("tiny", archive, folder)
    assert requested == ["/one.gz", "/two.gz"]


def test_a_damaged_file_in_the_cache_is_fetched_again(
    archive: Archive, requested: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    fetch("tiny", archive, folder)
    (folder / "two.gz").write_bytes(b"damaged")
    fetch("tiny", archive, folder)
    assert (folder / "two.gz").read_bytes() == CONTENTS["two.gz"]
    assert requested == ["/one.gz", "/two.gz", "/two.gz"]


def test_another_file_than_the_published_one_is_refused_and_removed(
    archive: Archive, tmp_path: Path
) -> None:
    (tmp_path / "published" / "two.gz").write_bytes(b"something else")
    folder = tmp_path / "cache"
    sentence = rf"two\.gz: the downloaded file is not the published one, .* {SHA256['two.gz']}"
    with pytest.raises(InputError, match=sentence):
        fetch("tiny", archive, folder)
    assert [path.name for path in folder.iterdir()] == ["one.gz"]


def test_a_file_that_is_not_there_is_one_sentence(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "published" / "one.gz").unlink()
    with pytest.raises(InputError, match=r"one\.gz: cannot be downloaded to .*HTTPError"):
        fetch("tiny", archive, tmp_path / "cache")


def test_without_a_network_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    nobody_listens = Archive("http://127.0.0.1:9/", SHA256)
    sentence = (
        r"cannot be downloaded to .*ConnectionError.*; "
        r"set GOSSAMER_DATA or --data to a folder that holds tiny/ with one\.gz, two\.gz\."
    )
    with pytest.raises(InputError, match=sentence):
        fetch("tiny", nobody_listens, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_sentence(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be downloaded to"):
        fetch("tiny", archive, tmp_path / "file")


def test_a_dataset_goes_to_its_folder_in_the_users_cache(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setitem(ARCHIVES, "tiny", archive)
    assert download.download("tiny") == tmp_path / "gossamer" / "tiny"
    assert (tmp_path / "gossamer" / "tiny" / "one.gz").is_file()


def test_cifar10_is_one_archive_with_a_sha256() -> None:
    ((file, sha256),) = ARCHIVES["cifar10"].files.items()
    assert ARCHIVES["cifar10"].url.endswith("/")
    assert file == cifar.ARCHIVE
    assert len(bytes.fromhex(sha256)) == 32


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_each_archive_has_four_files_with_a_sha256_of_their_own(name: str) -> None:
    archive = ARCHIVES[name]
    assert archive.url.endswith("/")
    assert set(archive.files) == {
        f"{part}-{kind}-ubyte.gz"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    }
    assert len(set(archive.files.values())) == 4
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in archive.files.values())

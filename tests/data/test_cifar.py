import gzip
import io
import os
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.data import cifar, load, load_cifar10_folder

RECORDS = 20
TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
FILES = [*TRAIN, "test_batch.bin"]
FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "_RECORDS", RECORDS)


def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(number).integers(0, 256, (RECORDS, 3, 32, 32), np.uint8)
    return images, ((np.arange(RECORDS) + number) % 10).astype(np.uint8)


def content(number: int) -> bytes:
    images, labels = batch(number)
    return b"".join(
        bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)
    )


CONTENTS = {file: content(number) for number, file in enumerate(FILES)}
SIZE = len(CONTENTS["test_batch.bin"])


def write_batches(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in CONTENTS.items():
        (folder / file).write_bytes(data)
    return folder


Members = list[tuple[tarfile.TarInfo, bytes]]


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def published() -> Members:
    return [
        member(FOLDER, type=tarfile.DIRTYPE),
        *(member(f"{FOLDER}/{file}", data) for file, data in CONTENTS.items()),
        member(f"{FOLDER}/readme.html", b"<p>"),
        member(f"{FOLDER}/batches.meta.txt", b"airplane\n"),
    ]


def tar_bytes(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_archive(folder: Path, members: Members) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARCHIVE).write_bytes(gzip.compress(tar_bytes(members), 1))
    return folder


def place_beside(folder: Path) -> Path:
    return write_batches(folder)


def place_below(folder: Path) -> Path:
    write_batches(folder / FOLDER)
    return folder


def place_packed(folder: Path) -> Path:
    return write_archive(folder, published())


@pytest.mark.parametrize("place", [place_beside, place_below, place_packed])
def test_batches_come_back_as_written(place: Callable[[Path], Path], tmp_path: Path) -> None:
    dataset = load_cifar10_folder(str(place(tmp_path)), "cifar10")
    images, labels = zip(*(batch(number) for number in range(6)), strict=True)
    np.testing.assert_array_equal(dataset.x_train, np.concatenate(images[:5]))
    np.testing.assert_array_equal(dataset.y_train, np.concatenate(labels[:5]))
    np.testing.assert_array_equal(dataset.x_test, images[5])
    np.testing.assert_array_equal(dataset.y_test, labels[5])
    assert (dataset.name, dataset.classes, dataset.scale) == ("cifar10", 10, 255.0)
    assert dataset.x_train.dtype == np.uint8


def test_reading_an_archive_writes_nothing(tmp_path: Path) -> None:
    place_packed(tmp_path)
    load_cifar10_folder(tmp_path, "cifar10")
    assert [path.name for path in tmp_path.rglob("*")] == [ARCHIVE]


def test_the_order_of_the_members_does_not_matter(tmp_path: Path) -> None:
    first = load_cifar10_folder(place_packed(tmp_path / "first"), "cifar10")
    second = write_archive(tmp_path / "second", published()[::-1])
    assert load_cifar10_folder(second, "cifar10").fingerprint == first.fingerprint


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_cifar10_folder(folder, "cifar10")
    sentence = str(caught.value)
    assert sentence.startswith(str(folder))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_folder_without_cifar10_is_told_what_to_put_there(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "cifar-10-python.tar.gz"):
        sentence = refused(folder)
        assert "the six files data_batch_1.bin to test_batch.bin nor cifar-10-bin" in sentence
        assert "expected the binary version of cifar10; put one" in sentence


@pytest.mark.parametrize("place", [place_beside, place_below])
def test_missing_batches_are_named(place: Callable[[Path], Path], tmp_path: Path) -> None:
    place(tmp_path)
    for file in ("data_batch_2.bin", "test_batch.bin"):
        next(tmp_path.rglob(file)).unlink()
    assert "lacks data_batch_2.bin, test_batch.bin, expected the six files" in refused(tmp_path)


def test_missing_members_are_named(tmp_path: Path) -> None:
    some = [one for one in published() if not one[0].name.endswith("batch_4.bin")]
    assert f"{ARCHIVE}: lacks data_batch_4.bin" in refused(write_archive(tmp_path, some))


LABEL_OUT_OF_RANGE = bytearray(CONTENTS["data_batch_3.bin"])
LABEL_OUT_OF_RANGE[4 * 3073] = 10
LABEL_OUT_OF_RANGE[7 * 3073] = 255

BAD_BATCHES = [
    (b"", f"holds 0 bytes, expected {SIZE} (20 records of 3073); fetch it again"),
    (CONTENTS["data_batch_3.bin"][:-1], f"holds {SIZE - 1} bytes, expected {SIZE} (20 records"),
    (CONTENTS["data_batch_3.bin"][:-3073], f"holds {SIZE - 3073} bytes, expected {SIZE}"),
    (CONTENTS["data_batch_3.bin"] + b"x", f"holds more bytes, expected {SIZE}"),
    (bytes(LABEL_OUT_OF_RANGE), "holds the label 10 at position 4, expected labels from 0 to 9"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("data", "sentence"), BAD_BATCHES)
def test_damaged_batches_are_refused_by_name(
    data: bytes, sentence: str, packed: bool, tmp_path: Path
) -> None:
    if packed:
        members = published()
        members[3] = member(f"{FOLDER}/data_batch_3.bin", data)
        write_archive(tmp_path, members)
    else:
        write_batches(tmp_path)
        (tmp_path / "data_batch_3.bin").write_bytes(data)
    assert f"data_batch_3.bin: {sentence}" in refused(tmp_path)


ODD_MEMBERS = [
    member("/etc/passwd", b"root"),
    member(f"{FOLDER}/../../escape.bin", b"x"),
    member("data_batch_1.bin", CONTENTS["data_batch_1.bin"]),
    member(f"elsewhere/{FOLDER}/data_batch_1.bin", CONTENTS["data_batch_1.bin"]),
    member(f"{FOLDER}/install.py", b"print()"),
    member(f"{FOLDER}/data_batch_6.bin", CONTENTS["data_batch_1.bin"]),
    member(f"{FOLDER}/data_batch_1.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    member(f"{FOLDER}/data_batch_1.bin", type=tarfile.LNKTYPE, linkname=f"{FOLDER}/readme.html"),
    member(f"{FOLDER}/data_batch_1.bin", type=tarfile.FIFOTYPE),
    member(f"{FOLDER}/data_batch_1.bin", type=tarfile.CHRTYPE),
    member(f"{FOLDER}/data_batch_1.bin", type=tarfile.DIRTYPE),
    member("other", type=tarfile.DIRTYPE),
]


@pytest.mark.parametrize("odd", ODD_MEMBERS, ids=lambda odd: odd[0].name)
@pytest.mark.parametrize("first", [True, False])
def test_members_that_are_not_published_are_refused_by_name(
    odd: tuple[tarfile.TarInfo, bytes], first: bool, tmp_path: Path
) -> None:
    members = [odd, *published()] if first else [*published(), odd]
    sentence = refused(write_archive(tmp_path, members))
    assert repr(odd[0].name) in sentence
    assert "expected nothing but the files of cifar-10-batches-bin/" in sentence


def test_a_batch_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = [*published(), published()[1]]
    assert "data_batch_1.bin twice, expected it once" in refused(write_archive(tmp_path, twice))


PACKED = gzip.compress(tar_bytes(published()), 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1f\x8b",
        b"no gzip at all",
        tar_bytes(published()),
        gzip.compress(b"no tar at all" * 100),
        gzip.compress(tar_bytes(published())[: 512 * 40], 1),
        PACKED[: len(PACKED) // 2],
        PACKED[:-9],
        PACKED[:-8] + b"\0" * 8,
        PACKED[:4000] + b"\xff" * 20 + PACKED[4020:],
        PACKED + b"garbage",
    ],
    ids=[
        "empty", "magic alone", "no gzip", "no compression", "no tar", "tar cut short",
        "gzip cut in half", "gzip cut short", "wrong checksum", "broken stream", "garbage",
    ],
)  # fmt: skip
def test_damaged_archives_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / ARCHIVE).write_bytes(data)
    sentence = refused(tmp_path)
    assert f"{ARCHIVE}: the archive is damaged (" in sentence
    assert "fetch it again" in sentence


def outcome(folder: Path) -> str:
    try:
        load_cifar10_folder(folder, "cifar10")
    except InputError as error:
        return str(error)
    return str(folder)


TAR = tar_bytes(published())
HEADERS = [0, 512, 512 + 512 + (SIZE + 511) // 512 * 512]


@given(
    header=st.sampled_from(HEADERS),
    changes=st.dictionaries(st.integers(0, 511), st.integers(0, 255), min_size=1, max_size=4),
    checksum=st.booleans(),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_header_gives_a_dataset_or_a_sentence(
    header: int, changes: dict[int, int], checksum: bool, tmp_path: Path
) -> None:
    data = bytearray(TAR)
    for position, value in changes.items():
        data[header + position] = value
    if checksum:  # Else most changes would be refused for the checksum alone.
        block = data[header : header + 512]
        block[148:156] = b" " * 8
        data[header + 148 : header + 156] = b"%06o\0 " % sum(block)
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(data, 1))
    assert outcome(tmp_path).startswith(str(tmp_path))


@given(position=st.integers(0, len(PACKED) - 1), value=st.integers(0, 255))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_gives_a_dataset_or_a_sentence(
    position: int, value: int, tmp_path: Path
) -> None:
    data = bytearray(PACKED)
    data[position] = value
    (tmp_path / ARCHIVE).write_bytes(data)
    assert outcome(tmp_path).startswith(str(tmp_path))


@pytest.fixture
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def bomb(start: bytes) -> bytes:
    """Return a gzip stream of these bytes and 200 million zeros, packed into some 900 kB."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing points back: the same packed zeros may follow each other.
    zeros = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    unread = bytes(8)  # A checksum and a length that only who unpacks all of it would miss.
    return b"\x1f\x8b\x08" + bytes(7) + head + zeros * 200 + packer.flush() + unread


def large(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    header = member(name, type=kind)[0]
    header.size = 200_000_000
    return header.tobuf(tarfile.GNU_FORMAT)


BOMBS = {
    "a batch": large(f"{FOLDER}/data_batch_1.bin"),
    "a note": large(f"{FOLDER}/readme.html"),
    "a long name": large("name", tarfile.GNUTYPE_LONGNAME),
    "extended headers": large("name", tarfile.XHDTYPE),
    "the end": TAR,
}


def test_a_bomb_is_a_whole_stream() -> None:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    packed, size = bomb(b"start")[:-8], 0
    while packed:
        size += len(unpacker.decompress(packed, 1_000_000))
        packed = unpacker.unconsumed_tail
    assert size == 200_000_005


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.usefixtures("little_memory")
def test_decompression_stops_where_the_published_archive_would_end(
    what: str, tmp_path: Path
) -> None:
    (tmp_path / ARCHIVE).write_bytes(bomb(BOMBS[what]))
    sentence = refused(tmp_path)
    expected = "data_batch_1.bin: holds more bytes" if what == "a batch" else "holds more than the"
    assert expected in sentence


def test_an_oversized_file_is_not_read_whole(tmp_path: Path, little_memory: None) -> None:
    write_batches(tmp_path)
    with (tmp_path / "data_batch_5.bin").open("wb") as file:
        file.truncate(10**10)
    assert "data_batch_5.bin: holds more bytes" in refused(tmp_path)


@pytest.mark.parametrize("place", [place_beside, place_packed])
def test_a_file_that_cannot_be_read_is_refused(
    place: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(gzip, "open", refuse)
    assert "cannot be read (Permission denied), expected" in refused(tmp_path)


def test_cifar10_is_what_it_is_known_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    root = os.environ.get("GOSSAMER_DATA")
    if not root or not (Path(root) / "cifar10").is_dir():
        pytest.skip("GOSSAMER_DATA names no folder that holds cifar10/")
    monkeypatch.setattr(cifar, "_RECORDS", 10_000)
    dataset = load("cifar10")
    assert dataset.x_train.shape == (50_000, 3, 32, 32)
    assert dataset.x_test.shape == (10_000, 3, 32, 32)
    assert (np.bincount(dataset.y_train) == 5000).all()
    assert (np.bincount(dataset.y_test) == 1000).all()
    means = dataset.x_train.mean(axis=(0, 2, 3), dtype=np.float64) / 255
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-4)

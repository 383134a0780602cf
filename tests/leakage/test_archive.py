import hashlib
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import gossamer.leakage
from gossamer.core.errors import InputError
from gossamer.leakage import archive
from gossamer.leakage.archive import (
    WORKING_BYTES,
    AuditInput,
    read_archive,
    read_array,
    read_contents,
)

LOGITS = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
ARRAYS: dict[str, Any] = {
    "logits": LOGITS,
    "labels": np.array([0, 1, 2, 0, 1, 2]),
    "members": np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=bool),
    "pairs": np.array([0, 0]),
}


def save(folder: Path, without: tuple[str, ...] = (), **changes: Any) -> Path:
    path = folder / "mine.npz"
    kept: dict[str, Any] = {k: v for k, v in {**ARRAYS, **changes}.items() if k not in without}
    np.savez_compressed(path, **kept)
    return path


def same(found: AuditInput, path: Path) -> bool:
    """Whether the arrays are those that NumPy itself reads."""
    with np.load(path, allow_pickle=False) as loaded:
        expected = {name: loaded[name] for name in ARRAYS}
    read = {**vars(found), "logits": found.logits.whole()}
    in_parts = np.concatenate(list(found.logits.rows(2)))
    return np.array_equal(in_parts, expected["logits"].reshape(in_parts.shape)) and all(
        np.array_equal(read[name], values) and read[name].dtype == values.dtype
        for name, values in expected.items()
    )


def test_arrays_come_back_as_saved(tmp_path: Path) -> None:
    path = save(tmp_path)
    found = read_archive(path)
    assert same(found, path)
    assert not found.probabilities
    assert same(read_archive(str(path)), path)
    assert found.source.name == "mine.npz"
    assert found.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_probabilities_are_known_by_their_name_and_pairs_may_be_missing(tmp_path: Path) -> None:
    rows = np.full((2, 6, 4), 0.25)
    found = read_archive(save(tmp_path, ("logits", "pairs"), probabilities=rows))
    assert found.probabilities
    assert found.pairs is None
    np.testing.assert_array_equal(found.logits.whole(), rows)


@given(
    logits=arrays_of.arrays(
        st.sampled_from(["float16", "float32", "float64", ">f4", "int8"]),
        arrays_of.array_shapes(min_dims=2, max_dims=3, max_side=5),
        elements=st.integers(-9, 9),
    ),
    column_major=st.booleans(),
    compressed=st.booleans(),
)
@settings(max_examples=60)
def test_any_shape_type_and_order_is_read_as_numpy_reads_it(
    logits: np.ndarray[Any, Any],
    column_major: bool,
    compressed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    stored = np.asfortranarray(logits) if column_major else logits
    write = np.savez_compressed if compressed else np.savez
    write(path, **{**ARRAYS, "logits": stored})
    assert same(read_archive(path), path)


def test_contents_are_known_before_anything_is_read(tmp_path: Path) -> None:
    contents = read_contents(save(tmp_path, accuracy=np.array([0.9, 0.8])))
    assert contents.scores == "logits"
    assert {name: header.shape for name, header in contents.headers.items()} == {
        name: values.shape for name, values in ARRAYS.items()
    }
    assert contents.ignored == ("accuracy",)
    beside = sum(values.nbytes for name, values in ARRAYS.items() if name != "logits")
    assert contents.memory == beside + WORKING_BYTES * 2 * 6
    turned = read_contents(save(tmp_path, logits=np.asfortranarray(LOGITS)))
    assert turned.memory == contents.memory + LOGITS.nbytes
    np.testing.assert_array_equal(read_array(contents, "members"), ARRAYS["members"])


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "not there": (lambda folder: folder / "no.npz", "no.npz: is not there, expected an .npz file"),
    "folder": (lambda folder: folder, "is a folder, expected an .npz file"),
    "name too long": (lambda folder: folder / ("x" * 300), "cannot be read (file name too long)"),
    "empty": (lambda folder: written(folder, b""), "mine.npz: is empty, expected an .npz file"),
    "one array": (lambda folder: written(folder, entry(LOGITS)), "is a single array, expected"),
    "text": (lambda folder: written(folder, b"model,example\n"), "is damaged or no .npz file"),
    "nothing in it": (
        lambda folder: save(folder, tuple(ARRAYS)),
        "lacks logits (or probabilities), labels, members; it holds nothing.",
    ),
    "labels missing": (
        lambda folder: save(folder, ("labels",)),
        "lacks labels; it holds logits, members, pairs.",
    ),
    "misspelt": (
        lambda folder: save(folder, ("members",), member=ARRAYS["members"]),
        "lacks members; it holds logits, labels, pairs, member (is member meant to be members?).",
    ),
    "capitals": (
        lambda folder: save(folder, ("logits",), Logits=LOGITS),
        "lacks logits (or probabilities); it holds labels, members, pairs, Logits "
        "(is Logits meant to be logits?).",
    ),
    "pairs misspelt": (
        lambda folder: save(folder, ("pairs",), pair=ARRAYS["pairs"]),
        "holds pair, which is no array of an audit (is pair meant to be pairs?); "
        "rename it or leave it out.",
    ),
    "many others": (
        lambda folder: save(folder, tuple(ARRAYS), **{f"x{i}": LOGITS for i in range(20)}),
        "it holds x0, x1, x2, x3, x4, x5, x6, x7, ....",
    ),
    "both": (
        lambda folder: save(folder, probabilities=LOGITS),
        "holds both logits and probabilities, expected one of them; leave one out.",
    ),
    "objects": (
        lambda folder: save(folder, labels=np.array(["cat"] * 6, dtype=object)),
        "labels holds Python objects (pickle), which are not read for safety",
    ),
}


def written(folder: Path, content: bytes) -> Path:
    path = folder / "mine.npz"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_audit_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_archive(path)
    sentence = str(caught.value)
    assert message in sentence
    assert sentence.startswith(f"{path}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("held", "meant"),
    [("member", "members"), ("Logits", "logits"), ("label", "labels"), ("pair", "pairs")],
)
def test_a_name_that_is_asked_for_is_the_right_one(held: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"\(is {held} meant to be {meant}\?\)"):
        read_archive(save(tmp_path, (meant,), **{held: ARRAYS[meant]}))
    path = save(tmp_path)
    assert same(read_archive(path), path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    with pytest.raises(InputError, match="pickle"):
        read_archive(save(tmp_path, logits=np.array([Trap()] * 6, dtype=object)))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("keep", [1, 100, -1, -30, -200])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"is damaged or no \.npz file.*write it again"):
        read_archive(path)


def test_a_changed_number_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **ARRAYS)
    content = path.read_bytes()
    assert content.count(LOGITS.tobytes()) == 1
    path.write_bytes(content.replace(LOGITS.tobytes(), (LOGITS + 1).tobytes()))
    with pytest.raises(InputError, match="Bad CRC-32"):
        gossamer.leakage.audit(*scored(read_archive(path)))


def entry(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archived(folder: Path, logits: bytes) -> Path:
    """Write a file whose logits are these bytes, header and all."""
    path = folder / "mine.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("logits.npy", logits)
        for name in ("labels", "members", "pairs"):
            file.writestr(f"{name}.npy", entry(ARRAYS[name]))
    return path


def reshaped(shape: str) -> bytes:
    """Logits whose header claims another shape; what follows the header stays."""
    header, numbers = entry(LOGITS)[:128], entry(LOGITS)[128:]
    longer = header.replace(b"(2, 6, 3)", shape.encode())
    return longer.rstrip(b"\n ").ljust(127) + b"\n" + numbers


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "logits has no readable .npy header"),
        (b"no header", "logits has no readable .npy header"),
        (entry(LOGITS).replace(b"NUMPY\x01", b"NUMPY\x03"), "no readable .npy header"),
        (reshaped("(2, 6, 3("), "no readable .npy header"),
        (reshaped("(2, 6, -3)"), "no readable .npy header"),
        (reshaped("(2, 6L, 3)"), "no readable .npy header"),
        (reshaped("(" + "-" * 40 + "2, 6, 3)"), "no readable .npy header"),
        (reshaped("(2, 6, 9)"), r"logits holds 144 bytes, expected 432 for its shape [2, 6, 9]"),
        (reshaped("(99999999999, 6, 9)"), "logits holds 144 bytes, expected 21599999999784"),
        (entry(LOGITS)[:-4], "logits holds 140 bytes, expected 144 for its shape [2, 6, 3]"),
        (entry(LOGITS) + b"x", "logits holds 145 bytes, expected 144"),
        (entry(np.zeros(3, "f4,i8")).replace(b"'<i8'", b"'|O8'"), "Python objects"),
        (
            entry(np.zeros((2, 6, 3), "V0")),
            "logits is of the type |V0, whose values take no bytes, expected an array of numbers",
        ),
    ],
)
def test_a_damaged_entry_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_archive(archived(tmp_path, content))
    assert sentence in str(caught.value)


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    bomb = b"\x93NUMPY\x02\x00" + (2**26).to_bytes(4, "little") + b" " * 2**26
    path = archived(tmp_path, bomb)
    assert path.stat().st_size < 2**17
    with pytest.raises(InputError, match=r"logits has no readable \.npy header"):
        read_archive(path)


def test_a_file_beyond_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.zeros((4, 20000, 10))
    path = save(tmp_path, logits=np.asfortranarray(logits))
    available = 4 * 20000 * WORKING_BYTES + 1000
    monkeypatch.setattr(archive, "available_memory", lambda: available)
    monkeypatch.setattr(archive, "read_array", None)
    with pytest.raises(InputError) as caught:
        read_archive(path)
    assert str(caught.value) == (
        f"{path}: auditing logits of shape [4, 20000, 10] takes about 0.0 GiB of memory and "
        "0.0 GiB are available; audit fewer models or examples, or save them by "
        "numpy.ascontiguousarray, to be read in parts."
    )
    monkeypatch.undo()
    monkeypatch.setattr(archive, "available_memory", lambda: available)
    assert read_archive(save(tmp_path, logits=logits)).logits.shape[1] == 20000
    monkeypatch.setattr(archive, "available_memory", lambda: available - 2000)
    with pytest.raises(InputError, match=r"audit fewer models or examples\.$"):
        read_archive(save(tmp_path, logits=logits))


def test_a_small_file_that_unpacks_to_much_is_read_in_parts(tmp_path: Path) -> None:
    logits = np.zeros((2, 4000, 1000), np.float32)
    logits[:, :, 0] = np.arange(4000)
    members = np.stack([np.arange(4000) % 2, np.arange(4000) // 2 % 2])
    given = read_archive(save(tmp_path, logits=logits, labels=np.arange(4000) % 9, members=members))
    assert given.source.name == "mine.npz"
    assert (tmp_path / "mine.npz").stat().st_size < logits.nbytes / 100
    tracemalloc.start()
    with pytest.raises(InputError, match="models 0 and 1 have the same margin"):
        gossamer.leakage.audit(*scored(given))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes / 4


def test_what_cannot_be_a_network_is_refused_before_the_next_model_is_read(tmp_path: Path) -> None:
    logits = np.stack([np.zeros_like(LOGITS[0]), np.full_like(LOGITS[1], np.nan)])
    with pytest.raises(InputError, match="model 0 says the same of every example"):
        gossamer.leakage.audit(*scored(read_archive(save(tmp_path, logits=logits))))


def scored(given: AuditInput) -> tuple[Any, Any, Any]:
    return given.logits, given.labels, given.members


def test_a_compressed_bomb_is_refused_with_its_true_size(tmp_path: Path) -> None:
    # 200 MB of zeros that claim to be 200 TB: neither the claim nor the zip's own is believed.
    path = tmp_path / "mine.npz"
    shape = (1000, 10**8, 500)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    claimed = header.getvalue()
    archived(tmp_path, claimed + bytes(10**6))
    with pytest.raises(InputError, match="logits holds 1000000 bytes, expected 200000000000000 "):
        read_archive(path)
    content = path.read_bytes()
    true_size = (len(claimed) + 10**6).to_bytes(4, "little")
    path.write_bytes(content.replace(true_size, b"\xff\xff\xff\x7f"))
    with pytest.raises(InputError, match="logits holds 2147483519 bytes, expected 2000000000000"):
        read_archive(path)


@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    compressed=st.booleans(),
)
@settings(max_examples=300)
def test_changed_bytes_give_the_same_arrays_or_one_sentence(
    changes: list[tuple[int, int]], compressed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    (np.savez_compressed if compressed else np.savez)(path, **ARRAYS)
    whole = read_or_refused(path)
    assert isinstance(whole, dict)
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    path.write_bytes(content)
    found = read_or_refused(path)
    if isinstance(found, dict):
        for name in ("logits", "labels", "members"):
            np.testing.assert_array_equal(found[name], whole[name])
    else:
        assert found.startswith(f"{path}: ")
        assert found.isprintable()


@given(cut=st.integers(0, 5000), added=st.binary(max_size=40))
@settings(max_examples=100)
def test_cut_and_lengthened_files_give_the_same_arrays_or_one_sentence(
    cut: int, added: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save(tmp_path_factory.mktemp("npz"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - cut % len(content)] + added)
    found = read_or_refused(path)
    if isinstance(found, dict):
        np.testing.assert_array_equal(found["logits"], LOGITS.reshape(-1, 3))
    else:
        assert found.startswith(f"{path}: ")
        assert found.isprintable()


def read_or_refused(path: Path) -> dict[str, Any] | str:
    try:
        found = read_archive(path)
        return {**vars(found), "logits": np.concatenate(list(found.logits.rows(4)))}
    except InputError as error:
        return str(error)

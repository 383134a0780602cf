import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import save_file
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.masks import Mask, packing
from gossamer.masks.packing import _digest, pack, unpack


@given(st.lists(st.booleans(), max_size=40))
def test_pack_keeps_every_bit(bits: list[bool]) -> None:
    packed = pack(torch.tensor(bits, dtype=torch.bool))
    assert len(packed) == -(-len(bits) // 8)
    assert unpack(packed, (len(bits),)).tolist() == bits


@pytest.mark.parametrize("shape", [(9,), (-1,), (-2, -4), (2.0,), (True,), ("8",), (17, 1)])
def test_unpack_refuses_shapes_that_do_not_fit(shape: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape"):
        unpack(np.zeros(1, np.uint8), shape)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Mask, Path]:
    mask = Mask(
        {"a.weight": torch.eye(3) > 0, "b.weight": torch.ones(5, 1) > 0},
        attached={"a.bias": torch.tensor([True, False, True])},
        unit_dimensions={"a.weight": 0},
        provenance={"score": "magnitude", "sparsity": 0.5},
    )
    mask.save(tmp_path / "mask")
    return mask, tmp_path / "mask"


def test_no_flipped_bit_gives_a_wrong_mask(saved: tuple[Mask, Path]) -> None:
    mask, path = saved
    content, refused = bytearray(path.read_bytes()), 0
    for place in range(len(content)):
        for bit in (0, 1, 5):
            content[place] ^= 1 << bit
            path.write_bytes(content)
            content[place] ^= 1 << bit
            try:
                loaded = Mask.load(path)
            except InputError:
                refused += 1
            else:  # a space of the header became another
                assert loaded == mask
                assert loaded.provenance == mask.provenance
                assert loaded.unit_dimensions == mask.unit_dimensions
    assert refused > 2.9 * len(content)


def test_a_truncated_file_is_refused_wherever_it_ends(saved: tuple[Mask, Path]) -> None:
    _, path = saved
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"mask"):
            Mask.load(path)


def forge(
    path: Path, notes: dict[str, str] | None = None, packed: dict[str, Any] | None = None
) -> None:
    """Write a file that is hostile, and whose digest is right."""
    packed = {"weights/w": np.array([160], np.uint8)} if packed is None else packed
    metadata = {"format": "gossamer mask 1", "shapes": '{"weights/w": [3, 1]}', "units": "{}"}
    metadata |= {"groups": "{}", "provenance": "{}", **(notes or {})}
    save_file(packed, path, {**metadata, "sha256": _digest(metadata, packed)})


def test_the_forged_file_is_otherwise_right(tmp_path: Path) -> None:
    forge(tmp_path / "mask")
    assert Mask.load(tmp_path / "mask")["w"].tolist() == [[True], [False], [True]]


@pytest.mark.parametrize(
    "notes",
    [
        {"format": "gossamer mask 9"},
        {"shapes": "[]"},
        {"shapes": "{}"},
        {"shapes": "[" * 100_000},
        {"shapes": "9" * 10_000},
        {"shapes": '{"weights/w": [-3, -1]}'},
        {"shapes": '{"weights/w": [9, 1]}'},
        {"shapes": '{"weights/w": [0, 99999999999999999999]}'},
        {"shapes": '{"weights/w": 3}'},
        {"shapes": '{"weights/w": {"3": 1}}'},
        {"shapes": '{"weights/v": [3, 1]}'},
        {"shapes": '{"other/w": [3, 1]}'},
        {"shapes": '{"attached/w": [3, 1]}'},
        {"units": "[]"},
        {"units": '{"w": 2}'},
        {"units": '{"w": "0"}'},
        {"units": '{"v": 0}'},
        {"units": '{"w": 1}', "groups": '{"w": 2}'},
        {"units": '{"w": 1}', "groups": '{"w": 0}'},
        {"provenance": "3"},
        {"provenance": '["ab"]'},
        {"provenance": "{"},
    ],
)
def test_a_hostile_file_is_refused(tmp_path: Path, notes: dict[str, str]) -> None:
    forge(tmp_path / "mask", notes)
    with pytest.raises(InputError, match=r"mask is no gossamer mask"):
        Mask.load(tmp_path / "mask")


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16])
def test_a_hostile_dtype_is_refused(tmp_path: Path, dtype: type) -> None:
    forge(tmp_path / "mask", packed={"weights/w": np.zeros(1, dtype)})
    with pytest.raises(InputError, match=r"mask is no gossamer mask"):
        Mask.load(tmp_path / "mask")


def test_a_file_with_a_tensor_too_many_is_refused(tmp_path: Path) -> None:
    forge(tmp_path / "mask", packed={n: np.zeros(1, np.uint8) for n in ("weights/w", "weights/v")})
    with pytest.raises(InputError, match=r"holds.*weights/v"):
        Mask.load(tmp_path / "mask")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64, b"\0" * 64])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mask").write_bytes(content)
    with pytest.raises(InputError, match=r"mask"):
        Mask.load(tmp_path / "mask")


def test_other_safetensors_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(InputError, match=r"other is no gossamer mask: its format"):
        Mask.load(tmp_path / "other")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"cannot be read"):
            Mask.load(path)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    mask = Mask({"w": torch.ones(2, 2) > 0})
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "mask", tmp_path / "no" / "mask", tmp_path / "folder"):
        with pytest.raises(InputError, match=r"cannot be written"):
            mask.save(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


MASKS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    st.integers(1, 5).flatmap(
        lambda rows: st.lists(
            st.lists(st.booleans(), min_size=3, max_size=3), min_size=rows, max_size=rows
        ).map(lambda bits: torch.tensor(bits))
    ),
    min_size=1,
    max_size=4,
)
JSON = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text() | st.floats(0, 1))


@given(MASKS, JSON)
def test_a_saved_mask_comes_back(
    tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Tensor], provenance: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip"
    mask = Mask(weights, {"bias of it all": torch.ones(2) > 0}, {}, provenance)
    mask.save(path)
    loaded = Mask.load(path)
    assert loaded == mask
    assert list(loaded) == list(mask)
    assert loaded.provenance == mask.provenance


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
)
def test_a_full_disk_is_called_full(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(packing, "save_file", fails)
    with pytest.raises(InputError, match=r"the disk of .* is full: free some space"):
        Mask({"a": torch.ones(2, 2, dtype=torch.bool)}).save(tmp_path / "mask.safetensors")
    assert not list(tmp_path.iterdir())

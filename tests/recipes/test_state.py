from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from gossamer.core.errors import InputError, StoreError
from gossamer.masks import Mask, prune
from gossamer.recipes import state as state_module
from gossamer.recipes.state import State, is_bound_to_name, load_state, save_state, snapshot


def sentence(action: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(first: State, second: State) -> bool:
    return (
        _same(first.network, second.network)
        and _same(first.optimizer, second.optimizer)
        and first.mask == second.mask
        and first.epochs == second.epochs
    )


def _same(first: object, second: object) -> bool:
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) and value.dtype == second[name].dtype
        for name, value in first.items()
    )


def pruned() -> State:
    layers = (nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    network = nn.Sequential(*layers)
    mask = prune(network, 0.5, pattern="unit", exclude="output layer", example=torch.ones(2, 5))
    assert mask.attached
    momenta = {"0.weight/momentum_buffer": torch.randn(6, 5), "0.weight/step": torch.tensor(3.0)}
    return State(snapshot(network), mask, momenta, epochs=7)


def test_a_state_comes_back_with_mask_optimizer_and_notes(tmp_path: Path) -> None:
    state = pruned()
    notes: dict[str, Any] = {
        "history": [{"loss": 0.1 + 0.2}],
        "batch": 3,
        "random": torch.arange(9).byte(),
    }
    save_state(tmp_path / "state", state, notes)
    again, found = load_state(tmp_path / "state")
    assert same(state, again)
    assert torch.equal(found.pop("random"), notes.pop("random"))
    assert found == notes
    assert again.mask is not None
    assert state.mask is not None
    assert list(again.mask) == list(state.mask)
    assert again.mask.attached.keys() == state.mask.attached.keys()
    assert again.mask.unit_dimensions == state.mask.unit_dimensions
    assert again.mask.unit_groups == state.mask.unit_groups
    assert again.mask.provenance == state.mask.provenance


def test_the_groups_that_units_lie_in_come_back(tmp_path: Path) -> None:
    network = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=2), nn.ReLU(), nn.Conv2d(4, 1, 1))
    mask = prune(network, 0.5, pattern="unit", exclude="output layer")
    assert mask.unit_groups == {"0.weight": 2}
    save_state(tmp_path / "state", State(snapshot(network), mask))
    again, _ = load_state(tmp_path / "state")
    assert again.mask is not None
    assert again.mask.unit_groups == mask.unit_groups
    assert again.mask.shuffled(0, within="unit") == mask.shuffled(0, within="unit")


def test_a_state_without_mask_comes_back_without(tmp_path: Path) -> None:
    state = State({"w": torch.ones(2)})
    save_state(tmp_path / "state", state)
    again, notes = load_state(tmp_path / "state")
    assert same(state, again)
    assert notes == {}
    assert not again.packed


def test_a_packed_state_comes_back_packed(tmp_path: Path) -> None:
    mask = Mask({"0.weight": torch.tensor([[True, False, True]])})
    state = State({"0.values": torch.ones(2), "0.positions": torch.tensor([0, 2])}, mask)
    save_state(tmp_path / "state", replace(state, packed=True))
    again, _ = load_state(tmp_path / "state")
    assert same(state, again)
    assert again.packed


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(3, 4).bfloat16(),
        torch.randn(3).half(),
        torch.randn(3).double(),
        torch.arange(5),
        torch.arange(5, dtype=torch.int8),
        torch.tensor(True),
        torch.tensor(4),
        torch.zeros(0, 3),
        torch.tensor([float("nan"), float("-inf"), -0.0]),
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(4, 6).t(),
    ],
)
def test_tensors_of_any_kind_come_back_bit_for_bit(tmp_path: Path, value: Tensor) -> None:
    save_state(tmp_path / "state", State({"a/b.c": value}))
    again = load_state(tmp_path / "state")[0].network["a/b.c"]
    assert (again.dtype, again.shape) == (value.dtype, value.shape)
    flat, expected = again.reshape(-1), value.contiguous().reshape(-1)
    assert torch.equal(flat.view(torch.uint8), expected.view(torch.uint8))


def test_tied_weights_come_back(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    state = State(snapshot(network))
    save_state(tmp_path / "state", state)
    again = load_state(tmp_path / "state")[0]
    assert same(state, again)
    network.load_state_dict(dict(again.network))
    assert network[0].weight is network[1].weight


def test_a_snapshot_is_a_contiguous_copy() -> None:
    network = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    taken = snapshot(network)
    before = taken["weight"].clone()
    assert all(value.is_contiguous() for value in taken.values())
    with torch.no_grad():
        network.weight.zero_()
    assert torch.equal(taken["weight"], before)


def test_a_network_with_a_state_that_is_no_tensor_is_refused() -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 1}

    with pytest.raises(InputError, match="'_extra_state' of type dict"):
        snapshot(Counting(2, 2))


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    mask = Mask({"w": torch.tensor([[True, False], [False, True]])})
    save_state(path, State({"w": torch.randn(2, 2)}, mask, epochs=2), {"batch": 3})
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert str(path) in sentence(lambda: load_state(path)), position


def test_a_state_under_the_name_of_another_is_noticed(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    save_state(one, State({"w": torch.ones(2)}))
    one.rename(other)
    assert "it was written as one" in sentence(lambda: load_state(other))


def test_a_state_from_before_names_were_part_of_the_checksum_is_read(tmp_path: Path) -> None:
    path, header = tmp_path / "state", '{"epochs": 3, "notes": {}, "mask": null, "packed": false}'
    tensors = {"network/w": torch.ones(2)}
    found = state_module._checksum(header, tensors)
    metadata = {"format": "gossamer state 1", "header": header, "checksum": found}
    save_file(tensors, path, metadata)
    assert load_state(path)[0].epochs == 3
    assert not is_bound_to_name(path)
    save_state(path, State({"w": torch.ones(2)}))
    assert is_bound_to_name(path)
    save_file(tensors, path, {**metadata, "checksum": "00000000"})
    assert "not those that were written" in sentence(lambda: load_state(path))


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, State({"w": torch.randn(2, 2)}))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "sets it aside" in sentence(lambda: load_state(path)), length


def test_a_missing_or_foreign_file_is_a_sentence(tmp_path: Path) -> None:
    assert "cannot be read" in sentence(lambda: load_state(tmp_path / "absent"))
    assert "cannot be read" in sentence(lambda: load_state(tmp_path))
    save_file({"w": torch.ones(2)}, tmp_path / "plain")
    assert "its format is not" in sentence(lambda: load_state(tmp_path / "plain"))
    Mask({"w": torch.ones(2, 2) > 0}).save(tmp_path / "mask")
    assert "its format is not" in sentence(lambda: load_state(tmp_path / "mask"))
    (tmp_path / "text").write_text("hello")
    assert "cannot be read" in sentence(lambda: load_state(tmp_path / "text"))


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "state"
    old = State({"w": torch.ones(2)})
    save_state(path, old)
    monkeypatch.setattr(state_module, "save_file", full)
    message = sentence(lambda: save_state(path, State({"w": torch.zeros(2)})))
    assert message == f"the disk of {tmp_path} is full: free some space"
    assert same(load_state(path)[0], old)
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_room_for_a_state_is_full_though_a_little_could_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(tensors: object, path: Path, metadata: object) -> None:
        raise SafetensorError("Error while serializing")

    monkeypatch.setattr(state_module, "save_file", fails)
    path, state = tmp_path / "state", State({"w": torch.zeros(1000)})
    assert "cannot be written: Error while" in sentence(lambda: save_state(path, state))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3999))
    assert sentence(lambda: save_state(path, state)) == (
        f"the disk of {tmp_path} is full: free some space"
    )


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "state"
    message = sentence(lambda: save_state(path, State({"w": torch.ones(2)})))
    assert message.startswith(f"the folder {path.parent} is gone: ")

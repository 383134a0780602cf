"""A state: what a network is between two steps, as tensors in memory or in one file."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gossamer.core.errors import DamagedFileError, InputError, StoreError
from gossamer.core.files import replacing, unwritable
from gossamer.masks import Mask
from gossamer.masks.packing import pack, unpack

_FORMAT = "gossamer state 2"
_BEFORE = "gossamer state 1"
"""States of which the checksum is over the content alone: whose they are, their name says."""


@dataclass(frozen=True)
class State:
    """Weights and buffers, mask, optimizer state and the epochs trained so far."""

    network: Mapping[str, Tensor]
    mask: Mask | None = None
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    epochs: int = 0
    packed: bool = False
    """Whether the masked layers hold their non-zeros only."""

    def masked(self, network: nn.Module, mask: Mask, enforce: bool) -> "State":
        """Set what a mask prunes to zero in a network of this state, and return its state then.

        What is pruned already stays so, whatever the mask says; one that is not enforced is not
        kept.
        """
        mask.apply(network)
        if not enforce:
            return replace(self, network=snapshot(network))
        if self.mask is not None:
            mask = self.mask & mask
        return replace(self, network=snapshot(network), mask=mask)


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's weights and buffers, contiguous, on the processor.

    Raises
    ------
    InputError
        If the network keeps a state that is no tensor.
    """
    values = network.state_dict()
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"the network's state_dict holds {name!r} of type {type(value).__name__}, but only "
                "tensors can be kept: drop its get_extra_state, or register a buffer"
            )
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in values.items()
    }


def save_state(path: Path, state: State, notes: Mapping[str, Any] | None = None) -> None:
    """Write a state to one file, which appears whole or not at all.

    `notes` are JSON values kept beside it; tensors among them are kept as tensors. The file is
    bound to its name: under another one it counts as damaged.

    Raises
    ------
    UnwritableError
        If the folder takes no more, for instance because its disk is full.
    StoreError
        If the file cannot be written for another reason.
    """
    notes = dict(notes or {})
    extra = {name: notes.pop(name) for name, v in list(notes.items()) if isinstance(v, Tensor)}
    groups: dict[str, Mapping[str, Tensor]] = {
        "network": state.network,
        "optimizer": state.optimizer,
        "extra": extra,
    }
    header: dict[str, Any] = {"epochs": state.epochs, "notes": notes, "mask": None}
    header["packed"] = state.packed
    if state.mask is not None:
        groups["mask"] = {name: torch.from_numpy(pack(v)) for name, v in state.mask.items()}
        header["mask"] = _mask_header(state.mask)
    tensors = {
        f"{group}/{name}": value.contiguous()
        for group, entries in groups.items()
        for name, value in entries.items()
    }
    text = json.dumps(header)
    found = _checksum(path.name + text, tensors)
    metadata = {"format": _FORMAT, "key": path.name, "header": text, "checksum": found}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        needed = sum(tensor.nbytes for tensor in tensors.values())
        raise unwritable(path.parent, error, needed) or StoreError(
            f"the state {path} cannot be written: {error}"
        ) from error


def load_state(path: Path) -> tuple[State, dict[str, Any]]:
    """Read a state and its notes.

    Raises
    ------
    DamagedFileError
        If the file is missing or damaged, or was written under another name.
    """
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "mask": {}, "extra": {}}
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            header = _header(file.metadata() or {}, path.name, tensors)
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value
        mask = _mask_from(header["mask"], groups["mask"])
        state = State(
            groups["network"], mask, groups["optimizer"], header["epochs"], header["packed"]
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError("state", path, error) from error
    return state, {**header["notes"], **groups["extra"]}


def is_bound_to_name(path: Path) -> bool:
    """Tell whether a state that can be read is known to be the one that its name says.

    Those from before names were part of the checksum are not.
    """
    with safe_open(path, framework="np") as file:
        return bool((file.metadata() or {}).get("format") == _FORMAT)


def _header(
    metadata: Mapping[str, str], name: str, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    if metadata.get("format") not in (_FORMAT, _BEFORE):
        raise ValueError(f"its format is not {_FORMAT!r}")
    own_name = name if metadata["format"] == _FORMAT else ""
    if own_name and metadata.get("key") != name:
        raise ValueError(f"it was written as {metadata.get('key')}")
    if metadata.get("checksum") != _checksum(own_name + metadata["header"], tensors):
        raise ValueError("its bytes are not those that were written")
    header: dict[str, Any] = json.loads(metadata["header"])
    return header


def _checksum(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of all that a file holds: silent damage must not become a number."""
    total = zlib.crc32(header.encode())
    for name in sorted(tensors):
        value = tensors[name]
        described = repr((name, str(value.dtype), tuple(value.shape)))
        total = zlib.crc32(described.encode(), total)
        total = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def _mask_header(mask: Mask) -> dict[str, Any]:
    return {
        "shapes": {name: list(value.shape) for name, value in mask.items()},
        "attached": list(mask.attached),
        "units": dict(mask.unit_dimensions),
        "groups": dict(mask.unit_groups),
        "provenance": dict(mask.provenance),
    }


def _mask_from(header: Mapping[str, Any] | None, packed: Mapping[str, Tensor]) -> Mask | None:
    if header is None:
        return None
    values = {
        name: unpack(packed[name].numpy(), tuple(shape)) for name, shape in header["shapes"].items()
    }
    attached = set(header["attached"])
    return Mask(
        weights={name: value for name, value in values.items() if name not in attached},
        attached={name: value for name, value in values.items() if name in attached},
        unit_dimensions=header["units"],
        unit_groups=header["groups"],
        provenance=header["provenance"],
    )

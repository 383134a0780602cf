"""A state: what a network is between two steps, as tensors in memory or in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gossamer.errors import StoreError
from gossamer.files import replacing
from gossamer.masks import Mask
from gossamer.masks.packing import pack, unpack

_FORMAT = "gossamer state 1"


@dataclass(frozen=True)
class State:
    """Weights and buffers, mask, optimizer state and the epochs trained so far."""

    network: Mapping[str, Tensor]
    mask: Mask | None = None
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    epochs: int = 0


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's weights and buffers, contiguous, on the processor."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def save_state(path: Path, state: State, notes: Mapping[str, Any] | None = None) -> None:
    """Write a state to one file, which appears whole or not at all.

    `notes` are JSON values kept beside it; tensors among them are kept as tensors.

    Raises
    ------
    StoreError
        If the file cannot be written, for instance because the disk is full.
    """
    notes = dict(notes or {})
    extra = {name: notes.pop(name) for name, v in list(notes.items()) if isinstance(v, Tensor)}
    groups: dict[str, Mapping[str, Tensor]] = {
        "network": state.network,
        "optimizer": state.optimizer,
        "extra": extra,
    }
    header: dict[str, Any] = {"epochs": state.epochs, "notes": notes, "mask": None}
    if state.mask is not None:
        groups["mask"] = {name: torch.from_numpy(pack(v)) for name, v in state.mask.items()}
        header["mask"] = _mask_header(state.mask)
    tensors = {
        f"{group}/{name}": value.contiguous()
        for group, entries in groups.items()
        for name, value in entries.items()
    }
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"format": _FORMAT, "header": json.dumps(header)})
    except (OSError, SafetensorError) as error:
        raise StoreError(f"the state {path} cannot be written: {error}") from error


def load_state(path: Path) -> tuple[State, dict[str, Any]]:
    """Read a state and its notes.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "mask": {}, "extra": {}}
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file.metadata() or {})
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, _, name = key.partition("/")
                groups[group][name] = file.get_tensor(key)
        mask = _mask_from(header["mask"], groups["mask"])
        state = State(groups["network"], mask, groups["optimizer"], header["epochs"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"the state {path} cannot be read ({error}): delete the file to compute it again"
        ) from error
    return state, {**header["notes"], **groups["extra"]}


def _header(metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    header: dict[str, Any] = json.loads(metadata["header"])
    return header


def _mask_header(mask: Mask) -> dict[str, Any]:
    return {
        "shapes": {name: list(value.shape) for name, value in mask.items()},
        "attached": list(mask.attached),
        "units": dict(mask.unit_dimensions),
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
        provenance=header["provenance"],
    )

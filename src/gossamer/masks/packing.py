"""Boolean tensors as packed bits in a safetensors file.

Each tensor is stored as bytes, eight positions a byte (the first in the highest bit), row-major;
the metadata holds the shapes. Nothing in such a file can run code.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from gossamer.errors import InputError
from gossamer.files import replacing

_FORMAT = "gossamer mask 1"
Tensors = Mapping[str, Tensor]


def pack(value: Tensor) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Pack a boolean tensor into bytes, shape [ceil(n / 8)]."""
    return np.packbits(value.cpu().flatten().numpy())


def unpack(packed: np.ndarray[tuple[int], np.dtype[np.uint8]], shape: tuple[int, ...]) -> Tensor:
    """Undo `pack`.

    Raises
    ------
    ValueError
        If the bytes are not as many as the shape needs.

    Examples
    --------
    >>> value = torch.tensor([[True, False, True]])
    >>> torch.equal(unpack(pack(value), (1, 3)), value)
    True
    """
    size = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (-(-size // 8),):
        raise ValueError(f"{packed.size} bytes do not hold a mask of shape {shape}")
    return torch.from_numpy(np.unpackbits(packed, count=size).astype(bool)).view(shape)


def write_packed(path: Path, kinds: Mapping[str, Tensors], notes: Mapping[str, str]) -> None:
    """Write groups of boolean tensors ("kinds") and text notes; the file appears whole or not.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    named = {f"{kind}/{name}": v for kind, entries in kinds.items() for name, v in entries.items()}
    shapes = json.dumps({name: list(value.shape) for name, value in named.items()})
    metadata = {**notes, "format": _FORMAT, "shapes": shapes}
    try:
        with replacing(path) as temporary:
            save_file({name: pack(value) for name, value in named.items()}, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the mask cannot be written to {path}: {error}") from error


def read_packed(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """Read what `write_packed` wrote: groups of boolean tensors, and the notes.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            notes = dict(file.metadata() or {})
            if notes.get("format") != _FORMAT:
                raise InputError(f"{path} is no gossamer mask: its format is not {_FORMAT!r}")
            packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        shapes = json.loads(notes["shapes"])
        kinds: dict[str, dict[str, Tensor]] = {}
        for name in shapes:  # keeps the order of the layers, which the file does not
            kind, _, own = name.partition("/")
            kinds.setdefault(kind, {})[own] = unpack(packed[name], tuple(shapes[name]))
    except (OSError, SafetensorError) as error:
        raise InputError(f"the mask {path} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no gossamer mask: {error}") from error
    return kinds, notes

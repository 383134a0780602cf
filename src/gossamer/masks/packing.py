"""Boolean tensors as packed bits in a safetensors file.

Each tensor is stored as bytes, eight positions a byte (the first in the highest bit), row-major;
the metadata holds the shapes, and the SHA-256 of everything else in the file, so that damage is
noticed. Nothing in such a file can run code.
"""

import errno
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from gossamer.core.errors import InputError, UnwritableError
from gossamer.core.files import replacing, unwritable

_FORMAT = "gossamer mask 1"
Tensors = Mapping[str, Tensor]
Packed = np.ndarray[tuple[int], np.dtype[np.uint8]]
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError)
"""What reading and checking values of a hostile file may raise (RuntimeError: also recursion)."""


def pack(value: Tensor) -> Packed:
    """Pack a boolean tensor into bytes, shape [ceil(n / 8)]."""
    return np.packbits(value.cpu().flatten().numpy())


def unpack(packed: Packed, shape: tuple[int, ...]) -> Tensor:
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
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"{shape} is not the shape of a mask")
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
    packed = {name: pack(value) for name, value in named.items()}
    shapes = json.dumps({name: list(value.shape) for name, value in named.items()})
    metadata = {**notes, "format": _FORMAT, "shapes": shapes}
    metadata["sha256"] = _digest(metadata, packed)
    try:
        with replacing(path) as temporary:
            save_file(packed, temporary, metadata)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the mask cannot be written to {path}: {_full(path.parent, error) or error}"
        ) from error


def _full(folder: Path, error: Exception) -> UnwritableError | None:
    """Return that a folder takes no more, if that, and not the path, is why a write failed."""
    other = isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return None if other or not folder.is_dir() else unwritable(folder, error)


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
                raise ValueError(f"its format is not {_FORMAT!r}")
            packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if notes.pop("sha256", None) != _digest(notes, packed):
            raise ValueError("its bytes are not those that were written")
        kinds: dict[str, dict[str, Tensor]] = {}
        shapes = json.loads(notes["shapes"])
        if shapes.keys() != packed.keys():
            raise ValueError(f"it holds {sorted(packed)} and describes {sorted(shapes)}")
        for name, shape in shapes.items():  # in the order of the layers
            kind, _, own = name.partition("/")
            kinds.setdefault(kind, {})[own] = unpack(packed[name], tuple(shape))
    except (OSError, SafetensorError) as error:
        raise InputError(f"the mask {path} cannot be read: {error}") from error
    except UNREADABLE as error:
        raise InputError(f"{path} is no gossamer mask: {error}") from error
    return kinds, notes


def _digest(notes: Mapping[str, str], packed: Mapping[str, Packed]) -> str:
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name in sorted(packed):
        digest.update(repr((name, str(packed[name].dtype), packed[name].shape)).encode())
        digest.update(packed[name].tobytes())
    return digest.hexdigest()

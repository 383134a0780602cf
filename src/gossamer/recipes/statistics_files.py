"""Files of what attacks need to know of one network's answers; no torch here."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gossamer.core.errors import DamagedFileError, InputError, StoreError
from gossamer.core.files import replacing, unwritable
from gossamer.leakage import Statistics

_FORMAT = "gossamer statistics 1"


def write_statistics(path: Path, found: Statistics) -> None:
    """Keep the statistics of one network, ``[1, examples]``: 16 bytes an example.

    16 seeds, 10 sparsities and a pool of 60,000 take 154 MB. The file is bound to its name: under
    another one it counts as damaged.

    Raises
    ------
    UnwritableError
        If the folder takes no more, for instance because its disk is full.
    StoreError
        If the file cannot be written for another reason.
    """
    arrays = {name: value[0] for name, value in vars(found).items()}
    metadata = {
        "format": _FORMAT,
        "key": path.name,
        "checksum": _checksum(path.name, arrays),
    }
    try:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata)
    except (OSError, SafetensorError) as error:
        needed = sum(array.nbytes for array in arrays.values())
        raise unwritable(path.parent, error, needed) or StoreError(
            f"the statistics {path} cannot be written: {error}"
        ) from error


def read_statistics(path: Path) -> Statistics:
    """Read the statistics of one network, ``[1, examples]``.

    Raises
    ------
    DamagedFileError
        If the file is missing or damaged, or was written under another name.
    """
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            _check(file.metadata() or {}, path.name, arrays)
        return Statistics(**{name: value[None] for name, value in arrays.items()})
    except (OSError, SafetensorError, InputError, TypeError, ValueError) as error:
        raise DamagedFileError("statistics", path, error) from error


def is_verified(path: Path) -> bool:
    """Tell whether statistics that can be read were held against a checksum.

    Those from before statistics had one were not.
    """
    with safe_open(path, framework="np") as file:
        return bool(file.metadata())


def _check(metadata: Mapping[str, str], name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Hold statistics against what was written beside them; before, nothing was."""
    if not metadata:
        return
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    if metadata.get("key") != name:
        raise ValueError(f"it was written as {metadata.get('key')}")
    if metadata.get("checksum") != _checksum(name, arrays):
        raise ValueError("its bytes are not those that were written")


def _checksum(name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the CRC-32 of all that a file holds, and of its name."""
    total = zlib.crc32(name.encode())
    for array in sorted(arrays):
        value = np.ascontiguousarray(arrays[array])
        total = zlib.crc32(repr((array, str(value.dtype), value.shape)).encode(), total)
        total = zlib.crc32(value.view(np.uint8).data, total)
    return f"{total:08x}"

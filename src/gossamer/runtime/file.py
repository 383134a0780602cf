"""Networks in ``.gsm`` files: written whole or not at all, and believed in nothing when read.

Reading one runs no code, allocates no more than a few times what the file holds, and either gives
the network that was written or says in one sentence what is wrong.
"""

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from gossamer.errors import InputError
from gossamer.files import replacing
from gossamer.kernels.checks import check_network
from gossamer.kernels.network import Network
from gossamer.runtime.container import PREAMBLE_BYTES, check_preamble, pack, shown_keys, unpack
from gossamer.runtime.topology import Precision, build_network, describe_network

Metadata = dict[str, Any]
"""What is said about a network: JSON values by name."""

_HEADER_KEYS = {"metadata", "network", "writer"}


def write_network(
    path: Path | str,
    network: Network,
    metadata: Mapping[str, Any] | None = None,
    precision: Precision = "float32",
) -> None:
    """Write a network to a ``.gsm`` file, which appears whole or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist. An older file is replaced.
    network
        What to write.
    metadata
        What else to keep: text, finite numbers, booleans, None, and lists and dictionaries of
        these. `gossamer predict` shows the names in ``"classes"``, if there is one for each output.
    precision
        "float32" keeps the weights as they are; "bfloat16" rounds them to 8 significant bits,
        which halves their room.

    Raises
    ------
    InputError
        If the network is not sound, holds numbers that are not finite, the metadata are not JSON,
        or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from gossamer.kernels.network import Linear
    >>> from gossamer.kernels.weights import pack_weights
    >>> weights = pack_weights(np.array([[0, 2.0], [1.5, 0]]), "sparse")
    >>> network = Network((2,), (Linear(0, weights),), output=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_network(f"{folder}/mine.gsm", network, {"classes": ["cat", "dog"]})
    ...     found, metadata = read_network(f"{folder}/mine.gsm")
    >>> metadata["classes"], found.layers[0].weights.values.tolist()
    (['cat', 'dog'], [2.0, 1.5])
    """
    path = Path(path)
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}, expected float32 or bfloat16.")
    try:
        check_network(network)
        description, arrays = describe_network(network, precision)
        header = {"metadata": _checked(metadata), "network": description, "writer": _writer()}
        data = pack(header, arrays)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({_reason(error)}).") from error


def read_network(path: Path | str) -> tuple[Network, Metadata]:
    """Read a network and its metadata from a ``.gsm`` file.

    Returns
    -------
    network : Network
        The very numbers that were written; those stored as bfloat16 come back as float32.
    metadata : dict
        What was written with it.

    Raises
    ------
    InputError
        If the file cannot be read, or is anything but a whole, sound file of a known version.
    """
    path = Path(path)
    try:
        header, arrays = unpack(_read(path))
        _check_header(header)
        return build_network(header["network"], arrays), header["metadata"]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({_reason(error)}), expected a .gsm file."
        ) from error
    except MemoryError as error:
        raise InputError(f"{path}: is larger than the memory that is left.") from error


def _read(path: Path) -> bytes:
    """Read a whole file, if its first bytes say that it is one of ours."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file" if path.exists() else "not there"
        raise InputError(f"is {found}, expected a .gsm file.")
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        check_preamble(file.read(PREAMBLE_BYTES), length)
        file.seek(0)
        return file.read(length)


def _check_header(header: dict[str, Any]) -> None:
    if set(header) != _HEADER_KEYS or not isinstance(header["metadata"], dict):
        raise InputError(
            f"has a header of {shown_keys(header)}, expected "
            f"{', '.join(sorted(_HEADER_KEYS))}; write it again."
        )


def _checked(metadata: Mapping[str, Any] | None) -> Metadata:
    found = dict(metadata or {})
    if not all(isinstance(name, str) for name in found):
        raise InputError("metadata: names must be text.")
    return found


def _writer() -> str:
    try:
        return f"gossamer {version('gossamer')}"
    except PackageNotFoundError:  # Run from a source tree that is not installed.
        return "gossamer"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

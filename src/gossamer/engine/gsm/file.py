"""Networks in ``.gsm`` files: written whole or not at all, and believed in nothing when read.

Reading one runs no code, takes no more memory than 48 times the size of the file, and either gives
the network that was written or says in one sentence what is wrong. What a network holds while it
computes one example is bounded by `claims`, too.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from gossamer.core.errors import InputError
from gossamer.core.files import as_path, replacing
from gossamer.core.system import failure_reason
from gossamer.engine import Network, check_network
from gossamer.engine.gsm.claims import check_values
from gossamer.engine.gsm.container import (
    PREAMBLE_BYTES,
    Stored,
    check_preamble,
    pack,
    shown_keys,
    unpack,
    version_of,
)
from gossamer.engine.gsm.header import Precision, build_network, describe_network
from gossamer.engine.gsm.signatures import KEYS, build_signature, describe_signature
from gossamer.engine.gsm.version1 import from_version1
from gossamer.engine.lengths import at_lengths, lengths_of
from gossamer.engine.signature import Signature, check_signature, own_signature

Metadata = dict[str, Any]
"""What is said about a network: JSON values by name."""

_HEADER_KEYS = {"metadata", "network", "writer"}


def write_network(
    path: Path | str,
    network: Network,
    metadata: Mapping[str, Any] | None = None,
    precision: Precision = "float32",
    signature: Signature | None = None,
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
    signature
        The names, shapes and types in which examples are given to the loaded network, and results
        returned; by default the shapes of the network itself.

    Raises
    ------
    InputError
        If the network is not sound, holds numbers that are not finite, or too many for what is
        stored, the signature does not fit it, the metadata are not JSON, or the file cannot be
        written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from gossamer.engine import Linear
    >>> from gossamer.engine import pack_weights
    >>> weights = pack_weights(np.array([[0, 2.0], [1.5, 0]]), "csr")
    >>> network = Network((2,), (Linear(0, weights),), 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_network(f"{folder}/mine.gsm", network, {"classes": ["cat", "dog"]})
    ...     found, metadata, signature = read_network(f"{folder}/mine.gsm")
    >>> metadata["classes"], found.layers[0].weights.values.tolist(), signature.inputs[0].shape
    (['cat', 'dog'], [2.0, 1.5], (2,))
    """
    path = as_path(path)
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}, expected float32 or bfloat16.")
    try:
        values = check_network(network)
        given = own_signature(network) if signature is None else signature
        check_signature(given, network, values)
        description, arrays = describe_network(network, precision)
        check_values(network, values, _bytes(arrays))
        _check_lengths(network, given, _bytes(arrays))
        header = {
            **describe_signature(given),
            "metadata": _checked(metadata),
            "network": description,
            "writer": _writer(),
        }
        data = pack(header, arrays)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({failure_reason(error)}).") from error


def read_network(path: Path | str) -> tuple[Network, Metadata, Signature]:
    """Read a network, its metadata and what it takes and gives from a ``.gsm`` file.

    Returns
    -------
    network : Network
        The very numbers that were written; those stored as bfloat16 come back as float32.
    metadata : dict
        What was written with it.
    signature : Signature
        What its model takes and gives.

    Raises
    ------
    InputError
        If the file cannot be read, or is anything but a whole, sound file of a known version whose
        claims are in proportion to what it holds.
    """
    path = as_path(path)
    try:
        data = _read(path)
        header, arrays = unpack(data)
        _check_header(header)
        first = version_of(data) == 1
        description = from_version1(header["network"]) if first else header["network"]
        network = build_network(description, arrays)
        values = check_network(network)
        check_values(network, values, _bytes(arrays))
        signature = build_signature(header)
        check_signature(signature, network, values)
        _check_lengths(network, signature, _bytes(arrays))
        return network, header["metadata"], signature
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({failure_reason(error)}), expected a .gsm file."
        ) from error
    except MemoryError as error:
        raise InputError(f"{path}: is larger than the memory that is left.") from error


def _check_lengths(network: Network, signature: Signature, stored: int) -> None:
    """Check the network of the shortest inputs and of the longest, between which lie all others."""
    if (lengths := signature.lengths) is None:
        return
    for ends in (lengths.least, lengths.most):
        at, described = at_lengths(network, signature, ends)
        values = check_network(at)
        check_signature(described, at, values)
        check_values(at, values, stored)
    lengths_of(lengths, [(1, *spec.shape) for spec in signature.inputs])


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
    possible = [_HEADER_KEYS | keys for keys in KEYS]
    if set(header) not in possible or not isinstance(header["metadata"], dict):
        either = " or ".join(", ".join(sorted(keys)) for keys in possible)
        raise InputError(
            f"has a header of {shown_keys(header)}, expected {either}; write it again."
        )


def _bytes(arrays: Sequence[Stored]) -> int:
    return sum(array.nbytes for _, array in arrays)


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

"""How an audit came about: what was audited, by which versions, with which options."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.records.leakage import Given, Provenance, Source

_LIBRARIES = ("numpy", "scipy")


def provenance(
    source: Source,
    given: Given,
    *,
    seed: int,
    models: int,
    attacks: Sequence[str],
    pairs: bool,
    temperature: float,
) -> Provenance:
    """Return what it takes to repeat an audit that was done just now; see `Provenance`."""
    libraries = {"python": platform.python_version()}
    return Provenance(
        gossamer=_version("gossamer"),
        libraries=libraries | {name: _version(name) for name in _LIBRARIES},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        source=source,
        given=given,
        models=models,
        attacks=tuple(attacks),
        pairs=pairs,
        temperature=temperature,
    )


def arrays_source(name: str, arrays: Mapping[str, NDArray[Any] | None]) -> Source:
    """Return the SHA-256 of arrays: the same for the same numbers, however they lie in memory.

    Of each that is there, in the order given, are hashed its name, type and shape, as a line of
    JSON, and then its numbers in C order.

    Parameters
    ----------
    name
        What the arrays are called together.
    arrays
        By name.

    Examples
    --------
    >>> rows = np.arange(6).reshape(2, 3)
    >>> first, again = (arrays_source("mine", {"x": x}) for x in (rows, np.asfortranarray(rows)))
    >>> first == again, first == arrays_source("mine", {"x": rows.astype(float)})
    (True, False)
    """
    digest = hashlib.sha256()
    for title, array in arrays.items():
        if array is not None:
            digest.update(json.dumps([title, array.dtype.str, list(array.shape)]).encode() + b"\n")
            for part in array if array.ndim > 1 else [array]:  # Copies of parts, not of the whole.
                digest.update(np.ascontiguousarray(part).data)
    return Source(name=name, sha256=digest.hexdigest())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"

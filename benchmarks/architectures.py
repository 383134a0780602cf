"""Which architectures run whole in the engine, and how exactly.

    python -m benchmarks.architectures [NAME ...]

Each is made with random weights in a process of its own, pruned to 90% zeros in each layer but
depthwise convolutions, and compressed; the result is compared with PyTorch in float64, written to
a file, and run from there where PyTorch is not to be had. How far units can be removed is told by
`unit_removal`.
"""

import copy
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gossamer
from benchmarks._each_architecture import look_into_each
from benchmarks._zoo import Inputs, enliven, made
from gossamer.compression.outputs import leaves

_ALONE = """
import sys
sys.modules["torch"] = None
import numpy as np, gossamer
with np.load(sys.argv[2]) as given:
    found = gossamer.load(sys.argv[1])(*given.values())
found = list(found.values()) if isinstance(found, dict) else found
found = list(found) if isinstance(found, (tuple, list)) else [found]
np.savez(sys.argv[3], *found)
"""


def numbers(output: Any) -> list[np.ndarray[Any, Any]]:
    """Return the tensors of what a model gives, as float64."""
    values = [leaf.value for leaf in leaves(output)]
    return [np.asarray(one, np.float64) for one in values if isinstance(one, Tensor | np.ndarray)]


def error(found: Any, exact: Any) -> float:
    """Return the largest difference over the largest number, over all outputs."""
    pairs = zip(numbers(found), numbers(exact), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


def in_float64(model: nn.Module, example: Inputs) -> Any:
    """Return what a model gives in float64."""
    wide = copy.deepcopy(model).double()
    with torch.no_grad():
        return wide(*(one.double() if one.is_floating_point() else one for one in example))


def weights(model: nn.Module, example: Inputs, folder: Path) -> Iterator[tuple[str, Any]]:
    """Prune weights and compress, and yield what is found by the name of its column."""
    depthwise = [
        name
        for name, layer in model.named_modules()
        if getattr(layer, "groups", 1) == getattr(layer, "in_channels", 0) > 1
    ]
    gossamer.prune(model, 0.9, allocation="uniform", exclude=depthwise, example=example)
    enliven(model, example)
    started = time.process_time()
    small = gossamer.compress(model, example, choose="engine")
    yield "seconds", round(time.process_time() - started, 1)
    yield "whole", small.network is not None
    yield "remaining", list(small.remaining)
    exact = in_float64(model, example)
    yield "error", error(small(*example), exact)
    with torch.no_grad():
        yield "error of PyTorch", error(model(*example), exact)
    if small.network is None:
        return
    small.save(folder / "net.gsm")
    yield "bytes", (folder / "net.gsm").stat().st_size
    np.savez(folder / "in.npz", *(one.numpy() for one in example))
    files = [str(folder / name) for name in ("net.gsm", "in.npz", "out.npz")]
    subprocess.run([sys.executable, "-c", _ALONE, *files], check=True, capture_output=True)
    with np.load(folder / "out.npz") as arrays:
        yield "error from file", error(tuple(arrays[name] for name in arrays.files), exact)


def one(name: str) -> dict[str, Any]:
    """Return all that is found of an architecture; what fails says why."""
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"name": name}
    try:
        model, example = made(name)
        with tempfile.TemporaryDirectory() as folder:
            found.update(weights(model, example, Path(folder)))
    except Exception as problem:  # noqa: BLE001 - whatever it is, it belongs in the table
        found["failed"] = f"{type(problem).__name__}: {problem}"[:600]
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [
        "| architecture | whole in the engine | error | PyTorch's | from the file, by NumPy |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        whole = "yes" if row.get("whole") else f"no: {', '.join(row.get('remaining', []))[:80]}"
        cells = [f"{row[n]:.1e}" if n in row else "-" for n in _ERRORS]
        lines.append(f"| {row['name']} | {row.get('failed', whole)[:80]} | {' | '.join(cells)} |")
    return "\n".join(lines)


_ERRORS = ("error", "error of PyTorch", "error from file")


def main() -> None:
    """Look into all architectures, or those that are named."""
    look_into_each("architectures", __doc__, one, table)


if __name__ == "__main__":
    main()

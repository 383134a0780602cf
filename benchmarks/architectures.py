"""Which architectures run whole in the engine, how exactly, and how far units can be removed.

    python -m benchmarks.architectures [NAME ...]

Each is made with random weights in a process of its own, pruned to 90% zeros in each layer and
compressed; the result is compared with PyTorch in float64, written to a file, and run from there
where PyTorch is not to be had. Another copy is pruned by units, made smaller, and compared.
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
from benchmarks._zoo import ARCHITECTURES, enliven, parameters
from gossamer.compression.outputs import leaves
from gossamer.shrinking.loading import load_shrunk, save_shrunk

_ALONE = """
import sys
sys.modules["torch"] = None
import numpy as np, gossamer
found = gossamer.load(sys.argv[1])(np.load(sys.argv[2]))
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


def in_float64(model: nn.Module, example: Tensor) -> Any:
    """Return what a model gives in float64."""
    wide = copy.deepcopy(model).double()
    with torch.no_grad():
        return wide(example.double() if example.is_floating_point() else example)


def weights(model: nn.Module, example: Tensor, folder: Path) -> Iterator[tuple[str, Any]]:
    """Prune weights and compress, and yield what is found by the name of its column."""
    gossamer.prune(model, 0.9, allocation="uniform")
    enliven(model, example)
    started = time.perf_counter()
    small = gossamer.compress(model, example, choose="engine")
    yield "seconds", round(time.perf_counter() - started, 1)
    yield "whole", small.network is not None
    yield "remaining", list(small.remaining)
    exact = in_float64(model, example)
    yield "error", error(small(example), exact)
    with torch.no_grad():
        yield "error of PyTorch", error(model(example), exact)
    if small.network is None:
        return
    small.save(folder / "net.gsm")
    yield "bytes", (folder / "net.gsm").stat().st_size
    np.save(folder / "in.npy", example.numpy())
    files = [str(folder / name) for name in ("net.gsm", "in.npy", "out.npz")]
    subprocess.run([sys.executable, "-c", _ALONE, *files], check=True, capture_output=True)
    with np.load(folder / "out.npz") as arrays:
        yield "error from file", error(tuple(arrays[name] for name in arrays.files), exact)


def units(model: nn.Module, example: Tensor, folder: Path) -> Iterator[tuple[str, Any]]:
    """Prune units and remove them, and yield what is found by the name of its column."""
    yield "parameters", parameters(model)
    fresh = copy.deepcopy(model)
    mask = gossamer.prune(model, 0.5, pattern="unit", allocation="uniform", example=example)
    yield "zeros among the parameters", sum(int((~kept).sum()) for kept in dict(mask).values())
    started = time.perf_counter()
    small = gossamer.compact(model, example)
    yield "seconds to compact", round(time.perf_counter() - started, 1)
    yield "parameters left", parameters(small)
    with torch.no_grad():
        yield "error of the small one", error(small(example), in_float64(model, example))
    save_shrunk(small, folder / "small.safetensors")
    again = load_shrunk(fresh, folder / "small.safetensors")
    with torch.no_grad():
        yield "error when loaded", error(again(example), small(example))
    small.train()
    losses = torch.stack([one.pow(2).mean() for one in _floats(small(example))])
    torch.autograd.backward(losses.sum())
    torch.optim.SGD(small.parameters(), 1e-4).step()
    yield "trained", True
    yield "made smaller again", parameters(gossamer.compact(small.eval(), example))


def _floats(output: Any) -> list[Tensor]:
    return [leaf.value for leaf in leaves(output) if leaf.value.is_floating_point()]


def one(name: str) -> dict[str, Any]:
    """Return all that is found of an architecture; what fails says why."""
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"name": name}
    for part, steps in (("weights", weights), ("units", units)):
        torch.manual_seed(0)
        try:
            model, example = ARCHITECTURES[name]()
            enliven(model.eval(), example)
            with tempfile.TemporaryDirectory() as folder:
                found.update(steps(model.eval(), example, Path(folder)))
        except Exception as problem:  # noqa: BLE001 - whatever it is, it belongs in the table
            found[f"{part} failed"] = f"{type(problem).__name__}: {problem}"[:600]
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [
        "| architecture | whole in the engine | error | without PyTorch | parameters | left |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        whole = "yes" if row.get("whole") else f"no: {', '.join(row.get('remaining', []))[:80]}"
        whole = row["weights failed"][:80] if "weights failed" in row else whole
        small = row.get("error from file")
        left = f"{row['parameters left']:,}" if "parameters left" in row else "-"
        left = row["units failed"][:80] if "units failed" in row else left
        lines.append(
            f"| {row['name']} | {whole} | {row.get('error', float('nan')):.1e} | "
            f"{'no' if small is None else f'{small:.1e}'} | {row.get('parameters', 0):,} | {left} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Look into all architectures, or those that are named."""
    look_into_each("architectures", __doc__, one, table, "weights failed")


if __name__ == "__main__":
    main()

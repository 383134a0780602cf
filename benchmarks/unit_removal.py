"""How far the architectures that people bring get smaller when half of their units are pruned.

    python -m benchmarks.unit_removal [NAME ...]

Each is pruned by units, the same share of every layer, and made smaller in a process of its own;
the small one is compared with the pruned one in float64, written, loaded, exported, trained for a
step and made smaller once more. Another copy gets zeros where Torch-Pruning removes channels, and
is made smaller beside it.
"""

import copy
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gossamer
from benchmarks._each_architecture import look_into_each
from benchmarks._torch_pruning import channels_removed, with_channels_zero
from benchmarks._zoo import Inputs, made, parameters
from benchmarks.architectures import error, in_float64
from gossamer.compression.outputs import leaves
from gossamer.shrinking.loading import load_shrunk, save_shrunk

Found = Iterator[tuple[str, Any]]


def units(model: nn.Module, example: Inputs, folder: Path) -> Found:
    """Prune units and remove them, and yield what is found by the name of its column."""
    yield "parameters", parameters(model)
    fresh = copy.deepcopy(model)
    mask = gossamer.prune(model, 0.5, pattern="unit", allocation="uniform", example=example)
    yield "zeros among the parameters", sum(int((~kept).sum()) for kept in dict(mask).values())
    started = time.process_time()
    small = gossamer.compact(model, example)
    yield "seconds to compact", round(time.process_time() - started, 1)
    yield "parameters left", parameters(small)
    with torch.no_grad():
        yield "error of the small one", error(small(*example), in_float64(model, example))
    save_shrunk(small, folder / "small.safetensors")
    again = load_shrunk(fresh, folder / "small.safetensors")
    with torch.no_grad():
        yield "error when loaded", error(again(*example), small(*example))
    yield "error when exported", gossamer.export_onnx(small, example, folder / "small.onnx")
    small.train()
    losses = torch.stack([one.pow(2).mean() for one in _floats(small(*example))])
    torch.autograd.backward(losses.sum())
    torch.optim.SGD(small.parameters(), 1e-4).step()
    yield "trained", True
    yield "made smaller again", parameters(gossamer.compact(small.eval(), example))


def _floats(output: Any) -> list[Tensor]:
    return [leaf.value for leaf in leaves(output) if leaf.value.is_floating_point()]


def beside_torch_pruning(model: nn.Module, example: Inputs, _folder: Path) -> Found:
    """Remove the channels that Torch-Pruning removes, and yield what is found by its column."""
    smaller, kept = channels_removed(model, example)
    yield "Torch-Pruning: parameters left", parameters(smaller)
    masked = with_channels_zero(model, kept)
    exact = in_float64(masked, example)
    try:
        with torch.no_grad():
            yield "Torch-Pruning: error", error(smaller(*example), exact)
    except Exception as problem:  # noqa: BLE001 - what it leaves may not run
        yield "Torch-Pruning: does not run", f"{type(problem).__name__}: {problem}"[:200]
    small = gossamer.compact(masked, example)
    yield "the same channels: parameters left", parameters(small)
    with torch.no_grad():
        yield "the same channels: error", error(small(*example), exact)


def one(name: str) -> dict[str, Any]:
    """Return what is found of an architecture; what fails says why."""
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"name": name}
    for steps, failed in ((units, "failed"), (beside_torch_pruning, "Torch-Pruning: failed")):
        try:
            model, example = made(name)
            with tempfile.TemporaryDirectory() as folder:
                found.update(steps(model, example, Path(folder)))
        except Exception as problem:  # noqa: BLE001 - whatever it is, it belongs in the table
            found[failed] = f"{type(problem).__name__}: {problem}"[:600]
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [
        "| architecture | parameters | left | error | loaded | exported | trained | Torch-Pruning: "
        "left, error | the same channels: left, error |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        whole = row.get("parameters", 0)
        cells = [f"{row[name]:.1e}" if name in row else "-" for name in _ERRORS]
        trained = "yes" if row.get("trained") else row.get("failed", "no")[:80]
        theirs, ours = (
            f"{_share(row, f'{who}: parameters left')}, {_error(row, who)}" for who in _WHO
        )
        lines.append(
            f"| {row['name']} | {whole:,} | {_share(row, 'parameters left')} | "
            f"{' | '.join(cells)} | {trained} | {theirs} | {ours} |"
        )
    return "\n".join(lines)


_ERRORS = ("error of the small one", "error when loaded", "error when exported")
_WHO = ("Torch-Pruning", "the same channels")


def _share(row: dict[str, Any], column: str) -> str:
    return f"{row[column] / row['parameters']:.1%}" if column in row else "-"


def _error(row: dict[str, Any], who: str) -> str:
    if f"{who}: error" in row:
        return f"{row[f'{who}: error']:.1e}"
    return "does not run" if f"{who}: does not run" in row else "fails"


def main() -> None:
    """Look into all architectures, or those that are named."""
    look_into_each("unit_removal", __doc__, one, table)


if __name__ == "__main__":
    main()

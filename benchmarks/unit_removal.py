"""How far the architectures that people bring get smaller when half of their units are pruned.

    python -m benchmarks.unit_removal [NAME ...]

Each is pruned by units, the same share of every layer, and made smaller in a process of its own;
the small one is compared with the pruned one in float64, written, loaded, trained for a step and
made smaller once more.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._each_architecture import look_into_each
from benchmarks._zoo import ARCHITECTURES, enliven
from benchmarks.architectures import units


def one(name: str) -> dict[str, Any]:
    """Return what is found of an architecture; what fails says why."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    found: dict[str, Any] = {"name": name}
    try:
        model, example = ARCHITECTURES[name]()
        enliven(model.eval(), example)
        torch.manual_seed(1)
        with torch.no_grad():  # some heads are zeros when they are made
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.02)
        with tempfile.TemporaryDirectory() as folder:
            found.update(units(model.eval(), example, Path(folder)))
    except Exception as problem:  # noqa: BLE001 - whatever it is, it belongs in the table
        found["failed"] = f"{type(problem).__name__}: {problem}"[:300]
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [
        "| architecture | parameters | pruned | removed | error | loaded | trained |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "parameters left" not in row:
            lines.append(f"| {row['name']} | {row.get('failed', '')[:80]} | | | | | |")
            continue
        whole = row["parameters"]
        pruned, removed = row["zeros among the parameters"], whole - row["parameters left"]
        lines.append(
            f"| {row['name']} | {whole:,} | {pruned / whole:.0%} | {removed / whole:.0%} | "
            f"{row.get('error of the small one', float('nan')):.1e} | "
            f"{row.get('error when loaded', float('nan')):.1e} | "
            f"{'yes' if row.get('trained') else row.get('failed', 'no')[:60]} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Look into all architectures, or those that are named."""
    look_into_each("unit_removal", __doc__, one, table, "failed")


if __name__ == "__main__":
    main()

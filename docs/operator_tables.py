"""What single operators cost, from benchmarks/results."""

import json
from typing import Any

from benchmark_tables import BENCHMARKS, place


def operators_table() -> str:
    """Return how much faster operators are in the engine than in PyTorch, slowest first."""
    result = json.loads((BENCHMARKS / "operator-speed.json").read_text())
    rows: dict[tuple[str, str], dict[int, Any]] = {}
    for row in result["operators"]:
        rows.setdefault((row["inputs"], row["operator"]), {})[row["batch"]] = row
    batches = sorted({row["batch"] for row in result["operators"]})
    lines = [
        "A sparse layer (90% zeros) and one operator behind it, in the engine: how many times as "
        f"fast as PyTorch, {place(result)} (`python -m benchmarks.operator_speed "
        "--write`). *Nothing* is the layer alone; below 1 the engine loses.",
        "",
        f"| behind the layer | inputs | {' | '.join(f'batch {batch}' for batch in batches)} |",
        f"|---|---|{'---:|' * len(batches)}",
    ]
    ranked = sorted(rows.items(), key=lambda item: min(map(_faster, item[1].values())))
    for (inputs, operator), found in ranked:
        times = [f"{_faster(found[b]):.2g}x" if b in found else "–" for b in batches]
        lines.append(f"| {operator} | {inputs} | {' | '.join(times)} |")
    return "\n".join(lines)


def _faster(row: Any) -> float:
    return float(row["dense_ms"] / row["engine_ms"])

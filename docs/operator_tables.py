"""What single operators cost, from benchmarks/results."""

import json
from typing import Any

from benchmark_tables import BENCHMARKS, place


def operators_table() -> str:
    """Return by how much the engine loses against PyTorch, and with how many operators it wins."""
    result = json.loads((BENCHMARKS / "operator-speed.json").read_text())
    rows: dict[tuple[str, str], dict[int, Any]] = {}
    for row in result["operators"]:
        rows.setdefault((row["inputs"], row["operator"]), {})[row["batch"]] = row
    batches = sorted({row["batch"] for row in result["operators"]})
    lost = {key: found for key, found in rows.items() if min(map(_faster, found.values())) < 1}
    lines = [
        "A sparse layer (90% zeros) and one operator behind it, in the engine: how many times as "
        f"fast as PyTorch, {place(result)} (`python -m benchmarks.operator_speed "
        f"--write`). *Nothing* is the layer alone. Of {len(rows)} operators these are slower at "
        "one batch size at least:",
        "",
        f"| behind the layer | inputs | {' | '.join(f'batch {batch}' for batch in batches)} |",
        f"|---|---|{'---:|' * len(batches)}",
    ]
    ranked = sorted(lost.items(), key=lambda item: min(map(_faster, item[1].values())))
    for (inputs, operator), found in ranked:
        times = [f"{_faster(found[b]):.2g}x" if b in found else "–" for b in batches]
        lines.append(f"| {operator} | {inputs} | {' | '.join(times)} |")
    return "\n".join(lines)


def _faster(row: Any) -> float:
    return float(row["dense_ms"] / row["engine_ms"])

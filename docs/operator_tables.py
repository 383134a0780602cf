"""What single operators cost, from benchmarks/results."""

import json
from typing import Any

from benchmark_tables import BENCHMARKS, place


def operators_table() -> str:
    """Return by how much the engine loses, and with how many operators it does not."""
    result = json.loads((BENCHMARKS / "operator-speed.json").read_text())
    rows: dict[tuple[str, str], dict[int, Any]] = {}
    for row in result["operators"]:
        rows.setdefault((row["inputs"], row["operator"]), {})[row["batch"]] = row
    batches = sorted({row["batch"] for row in result["operators"]})
    lost = {key: found for key, found in rows.items() if min(map(_faster, found.values())) < 1}
    lines = [
        "A sparse layer (90% zeros) and one operator behind it, in the engine: how many times as "
        "fast as the fastest float32 of ONNX Runtime, OpenVINO and PyTorch, in one run, "
        f"{place(result)} (`python -m benchmarks.operator_speed --write`). *Nothing* is the layer "
        "alone: 16 examples are put side by side and taken apart again, which a whole network does "
        f"once. Of {len(rows)} operators these are slower at one batch size at least:",
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
    return float(min(row["float32_ms"].values()) / row["engine_ms"])

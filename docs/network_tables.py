"""Tables of how fast the networks people know are, from benchmarks/results."""

import json
from typing import Any

from benchmark_tables import BENCHMARKS, milliseconds

AVX2 = "network-speed-avx2"
KNOWN_NETWORKS = {
    "resnet18": "ResNet-18, 224 x 224",
    "resnet50": "ResNet-50, 224 x 224",
    "mobilenet-v2": "MobileNetV2, 224 x 224",
    "bert-4x256": "BERT-like, 4 layers of 256, 128 tokens",
    "bert-6x768": "BERT-like, 6 layers of 768, 128 tokens",
    "vit-tiny": "ViT-tiny, 224 x 224",
    "gpt2-4x256": "GPT-2-like, 4 layers of 256, 4,096 words, 128 tokens",
    "gpt2-6x768-token": "GPT-2-like, 6 layers of 768, 4,096 words, one token behind 128",
    "lstm-2x256": "LSTM, 2 layers of 256, 100 steps",
}


def known_networks_table() -> str:
    """Return how fast the networks people know are at 90% zeros, beside the fastest dense ways."""
    speed = _speed()
    own = {"gossamer", "spread"}
    rivals = sorted({name for row in speed["rows"].values() for name in row["milliseconds"]} - own)
    lines = [
        "90% of the weights of each layer zero (depthwise convolutions stay dense, heads that are "
        f"the table of words do not), threads of {speed['environment']['processor']}, milliseconds "
        "a batch, medians (`python -m benchmarks.network_speed`, row by row, most of them with "
        f"`--seconds 3 --no-compile`). Rivals run the dense network: {', '.join(rivals)}.",
        "",
        "| network | threads | batch | fastest float32 | gossamer | times faster | "
        "without removed units | than bf16 | of the FMA peak |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in speed["rows"].values():
        taken, best = row["milliseconds"], row["best_float32"]
        halves = row["times_faster_than_bf16"]
        fastest = min(halves, key=lambda name: halves[name])
        cells = [
            KNOWN_NETWORKS[row["network"]],
            str(row["threads"]),
            str(row["batch"]),
            f"{milliseconds(taken[best])} ({best})",
            milliseconds(taken["gossamer"]),
            f"**{row['times_faster']:.1f}x**",
            f"{row['times_faster_without_removed_units']:.1f}x",
            f"{halves[fastest]:.1f}x ({fastest.removesuffix(' bf16')})",
            _share(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "*Without removed units*: the same with zeros that leave no unit empty. *Of the FMA peak*: "
        "what layers with weights reach of what one core multiplies and adds on its registers; "
        "each layer is in `benchmarks/results/network-speed.json`.",
    ]
    return "\n".join(lines)


def known_networks_avx2_table() -> str:
    """Return the same in short on a processor whose vectors hold 8 numbers, not 16."""
    speed = _speed(AVX2)
    lines = [
        f"The same, one thread of {speed['environment']['processor']}, which has no AVX-512 and no "
        "bf16 (`python -m benchmarks.network_speed --out network-speed-avx2 --seconds 3 "
        "--no-compile`), times faster than the fastest float32, and of the FMA peak:",
        "",
        "| network | batch 1 | of the peak | batch 16 | of the peak |",
        "|---|---:|---:|---:|---:|",
    ]
    rows = _by_network(speed)
    for name, label in KNOWN_NETWORKS.items():
        cells = []
        for batch in (1, 16):
            row = rows.get((name, batch))
            cells += ["–", "–"] if row is None else [_beside(row), _share(row)]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _beside(row: Any) -> str:
    """Tell times, and by how much faster."""
    taken, best = row["milliseconds"], row["best_float32"]
    return (
        f"**{row['times_faster']:.1f}x** ({milliseconds(taken['gossamer'])} against "
        f"{milliseconds(taken[best])} ms, {best})"
    )


def _share(row: Any) -> str:
    share = row.get("share_of_fma_peak")
    return "–" if share is None else f"{share:.0%}"


def _speed(name: str = "network-speed") -> Any:
    return json.loads((BENCHMARKS / f"{name}.json").read_text())


def _by_network(speed: Any) -> dict[tuple[str, int], Any]:
    """Return the rows of one thread by network and batch."""
    return {
        (row["network"], row["batch"]): row for row in speed["rows"].values() if row["threads"] == 1
    }


def known_networks_short_table() -> str:
    """Return the same in short, on one thread."""
    speed, narrow = _speed(), _speed(AVX2)
    rows, narrow_rows = _by_network(speed), _by_network(narrow)
    lines = [
        f"90% of the weights zero, one thread of {speed['environment']['processor']}, times faster "
        "than the dense network in the fastest float32 of ONNX Runtime, OpenVINO and PyTorch, and "
        "in brackets than in the fastest bf16 of OpenVINO and PyTorch; then on a processor with "
        "AVX2 only; [every number](docs/speed.md):",
        "",
        "| network | batch 1 | batch 16 | AVX2, batch 1 | AVX2, batch 16 |",
        "|---|---:|---:|---:|---:|",
    ]
    measured = {name for name, _ in rows}
    for name, label in KNOWN_NETWORKS.items():
        if name not in measured:
            continue
        cells = [
            "–"
            if (row := rows.get((name, batch))) is None
            else f"{row['times_faster']:.1f}x ({min(row['times_faster_than_bf16'].values()):.1f}x)"
            for batch in (1, 16)
        ]
        cells += [
            "–"
            if (row := narrow_rows.get((name, batch))) is None
            else f"{row['times_faster']:.1f}x"
            for batch in (1, 16)
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)

"""What searches within a budget found, from benchmarks/results/shrink-speed-*.json."""

import json
import statistics
from typing import Any

from benchmark_tables import BENCHMARKS
from gossamer.core.formats import decimal, duration
from shrink_pages import RESULTS, read_search

_LABELS = {
    "fashion-cnn": "CNN on Fashion-MNIST",
    "mlp": "perceptron on MNIST",
    "digits-cnn": "CNN on digits",
    "rows-transformer": "transformer on rows of Fashion-MNIST",
    "resnet20": "ResNet-20 on CIFAR-10",
}
_DENSE = "dense, "
_ONNX = ("ONNX Runtime",)
_FLOAT32 = ("ONNX Runtime", "OpenVINO", "PyTorch", "PyTorch channels_last")
_ALL = (*_FLOAT32, "OpenVINO bf16", "PyTorch bf16")
_BATCHES = ("1", "64")


def _results() -> dict[str, Any]:
    found = {name: BENCHMARKS / f"shrink-speed-{name}.json" for name in _LABELS}
    return {name: json.loads(one.read_text()) for name, one in found.items() if one.is_file()}


RUNS = {
    "shrink-resnet20": "ResNet-20 on CIFAR-10",
    "shrink-clothes": "ResNet of five layers on Fashion-MNIST",
}
"""The folders of `results` that hold what one call of the command wrote."""


def runs_table() -> str:
    """Return what each committed run of the command found."""
    lines = [
        "| run | budget, points | lost on test examples | faster than ONNX Runtime, batch 1, 64 | "
        "weights left | of the bytes | took (foretold) |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for folder, label in RUNS.items():
        report = read_search(RESULTS / folder)
        chosen = report.chosen
        assert chosen is not None
        times = {(one.network, one.runner, one.batch): one.latency.median for one in report.timed}
        own = {batch: s for (network, _, batch), s in times.items() if network == "shrunk"}
        faster = ", ".join(f"{times['dense', *_ONNX, b] / own[b]:.1f}x" for b in (1, 64))
        lines.append(
            f"| [{label}](results/{folder}/report.html) | {decimal(100 * report.max_drop, 1)} | "
            f"{_drop(report.drop.model_dump())} | {faster} | {1 - chosen.sparsity:.0%} | "
            f"{report.after.bytes / report.before.bytes:.0%} | "
            f"{duration(report.seconds)} ({duration(report.forecast)}) |"
        )
    return "\n".join(lines)


def shrunk_table() -> str:
    """Return what each network lost and gained, seed by seed."""
    results = _results()
    environment = next(iter(results.values()))["environment"]
    lines = [
        f"One thread of {environment['processor']}; medians where there are several seeds. Dense "
        "networks and validation examples differ by seed; a drop is of the test examples, by which "
        "nothing was chosen, with its 95% interval (`python -m benchmarks.shrink_speed --network "
        "NAME --seeds N --compared M --torch-pruning --write`).",
        "",
        "| network | budget, points | lost on test examples, seed by seed | "
        "faster than ONNX Runtime, batch 1, 64 | than the fastest float32 | "
        "than the fastest of all, bf16 too | of the bytes left |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        seeds = result["seeds"]
        drops = "; ".join(_drop(one["gossamer"]["drop"]) for one in seeds)
        faster = [
            ", ".join(f"{_times(seeds, 'gossamer', batch, rivals):.1f}x" for batch in _BATCHES)
            for rivals in (_ONNX, _FLOAT32, _ALL)
        ]
        left = statistics.median(after / before for before, after in _bytes(seeds))
        lines.append(
            f"| {_LABELS[name]} | {decimal(100 * result['max_drop'], 1)} | {drops} | "
            f"{' | '.join(faster)} | {left:.0%} |"
        )
    return "\n".join(lines)


def _drop(found: Any) -> str:
    low, high = (decimal(100 * found[end], 2) for end in ("low", "high"))
    return f"{decimal(100 * found['value'], 2)} [{low}, {high}]"


def _bytes(seeds: list[Any]) -> list[tuple[int, int]]:
    return [tuple(one["gossamer"]["bytes"]) for one in seeds]


def _times(seeds: list[Any], way: str, batch: str, rivals: tuple[str, ...] = _ONNX) -> float:
    """Return how many times faster a way's network is than the fastest of some dense ones."""
    rows = [one["milliseconds"][batch] for one in seeds if way in one]
    found = [min(row[_DENSE + n] for n in rivals if _DENSE + n in row) / row[way] for row in rows]
    return float(statistics.median(found))


def compared_table() -> str:
    """Return how fast the networks of other ways are within the same budget."""
    results = {name: result["seeds"] for name, result in _results().items()}
    seeds = {name: [one for one in found if len(_ways(one)) > 1] for name, found in results.items()}
    ways = list(
        dict.fromkeys(way for found in seeds.values() for one in found for way in _ways(one))
    )
    lines = [
        "Times faster than dense ONNX Runtime at batch 64 within the same budget, median of the "
        "seeds; in brackets at batch 1. Each way has the same epochs, training, bound, and rules "
        "for where to begin and how fast to learn; Torch-Pruning's networks run in gossamer, too:",
        "",
        f"| network | seeds | {' | '.join(ways)} |",
        f"|---|---:|{'---:|' * len(ways)}",
    ]
    for name, found in seeds.items():
        if found:
            cells = [
                f"{_times(found, way, '64'):.1f}x ({_times(found, way, '1'):.1f}x)" for way in ways
            ]
            lines.append(f"| {_LABELS[name]} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", spent_sentence()])


def _ways(one: Any) -> list[str]:
    return [name for name in one if name not in ("seed", "milliseconds")]


def spent_sentence() -> str:
    """Say how long searches took, and what was foretold."""
    results = _results()
    ratios = [
        one["gossamer"]["seconds"] / one["gossamer"]["forecast"]
        for result in results.values()
        for one in result["seeds"]
    ]
    return (
        f"On a busy machine {len(ratios)} searches took {min(ratios):.1f} to "
        f"{max(ratios):.1f} times as long as was foretold."
    )

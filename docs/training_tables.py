"""Tables of what training sparse takes, from benchmarks/results."""

import json
import statistics
from collections.abc import Mapping

from benchmark_tables import BENCHMARKS, place
from gossamer.core.formats import counted


def sparse_training_table(name: str = "sparse-training") -> str:
    """Return what steps of sparse layers take, beside dense ones, as a file of results has it."""
    result = json.loads((BENCHMARKS / f"{name}.json").read_text())
    beside = ", and than dense bf16" if result["bf16_instructions"] else ""
    lines = [
        f"Milliseconds, medians of {result['repeats']} turns on one thread of "
        f"{result['environment']['processor']} (`python -m benchmarks.sparse_training`); in "
        f"brackets how many times faster than the fastest dense float32{beside}.",
        "",
        "| | dense float32: oneDNN | MKL | dense bf16 autocast | sparse | sparser |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for network in ("perceptron", "head", "cifar-perceptron"):
        found = result[network]
        sizes = "-".join(map(str, found["sizes"]))
        lines.append(_times_row(f"step of {sizes}, batch {found['batch']}", found["step"]))
    wide = result["wide"]
    shape = " to ".join(map(str, wide["shape"]))
    lines += [
        _times_row(f"{part} of one layer, {shape}, batch {wide['batch']:,}", wide[part])
        for part in ("forward", "backward")
    ]
    for one in result.get("convolutions", ()):
        channels = " to ".join(map(str, one["channels"]))
        label = f"convolution 3x3, {channels} channels, {one['images']} images of {one['side']}x"
        lines.append(_times_row(f"{label}{one['side']}, forward and backward", one["both"]))
    large = result["large"]
    before, after = large["shape"]
    return "\n".join(
        [
            *lines,
            "",
            f"A layer of {after:,} x {before:,} with {large['density']:.2%} of its weights, whose "
            f"dense weight takes {4 * before * after / 2**30:.0f} GiB, trains at "
            f"{large['seconds_a_step']:.2f} s a step (SGD with momentum) in a process of "
            f"{large['peak_memory_gib']:.1f} GiB.",
        ]
    )


def _times_row(label: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return the milliseconds of dense and sparse steps."""

    def cell(name: str) -> str:
        row = rows.get(name)
        if row is None:
            return "–"
        if not name.startswith("sparse"):
            return f"{row['milliseconds']:.2f}"
        of = name.removeprefix("sparse at ")
        factors = ("times_the_fastest_dense_float32", "times_the_dense_bf16")
        times = ", ".join(f"{row[factor]:.1f}x" for factor in factors if factor in row)
        return f"{of}: {row['milliseconds']:.2f} ({times})"

    dense = ("dense float32, oneDNN", "dense float32, MKL", "dense bf16 autocast")
    sparse = [name for name in rows if name.startswith("sparse")]
    names = [*dense, *sparse, *[""] * (2 - len(sparse))]
    return f"| {label} | {' | '.join(map(cell, names))} |"


def end_to_end_table() -> str:
    """Return what an epoch of a sparse training takes, beside dense ones."""
    result = json.loads((BENCHMARKS / "end-to-end-training.json").read_text())
    rows, reached = result["seconds_for_10000_images"], result["test_accuracy_after_2_epochs"]
    ours = rows["gossamer, sparse float32"]["seconds"]
    lines = [
        f"Seconds for 10,000 images of MNIST, {result['sparsity']:.0%} of the weights zero, "
        f"batches of {result['batch']}, medians of {result['repeats']} turns on {place(result)} "
        "(`python -m benchmarks.end_to_end_training`); test accuracy after two epochs of all "
        f"60,000, mean of {counted(len(next(iter(reached.values()))), 'seed')}.",
        "",
        "| training of 784-1000-1000-500-200-10 | seconds | the sparse one is faster by | "
        "test accuracy |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {row['seconds']:.2f} | {row['seconds'] / ours:.1f}x | "
        f"{statistics.fmean(reached[name]):.1%} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)

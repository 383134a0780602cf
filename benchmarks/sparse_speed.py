"""How fast sparse inference is, against the strongest ways to run the dense network.

    python -m benchmarks.sparse_speed [--seconds 6] [--networks fashion-cnn mlp] [--levels 0.3 0.5]

Four networks with initial weights. Measured as `gossamer bench` does, each library in a process of
its own while the others are halted, medians: 90% scattered zeros and 90% zeros in blocks of 4×1 at
batch 1, 64 and 1024 on one thread and on two; the break-even with ONNX Runtime; what one core
reaches in each layer as a share of its peak; and what removing 75% of the units gains in
ONNX Runtime alone, without sparse kernels.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks._common import write_result
from gossamer.benchmarking.columns import CHOOSING_SECONDS
from gossamer.benchmarking.measuring import measured_rows
from gossamer.benchmarking.subjects import (
    Case,
    PatternName,
    cases,
    pruned_network,
    random_inputs,
    subject,
)
from gossamer.compression import compact, compress
from gossamer.compression.onnx import export_onnx, open_session
from gossamer.core.system import available_cores
from gossamer.engine import (
    Convolution,
    Linear,
    Network,
    Recurrence,
    Shape,
    Value,
    check_network,
    weights_of,
    window_positions,
)
from gossamer.engine.native import Engine, fma_peak, read_bandwidth
from gossamer.measures.functional.latency import time_alternately
from gossamer.measures.functional.machine import machine
from gossamer.records.speed import LABELS, RIVALS, Row, break_evens
from gossamer.reporting.speed_words import break_even_text
from gossamer.studies.process_settings import tune_process

NETWORKS = ("fashion-cnn", "mlp", "cifar-dropout-cnn", "wide-head")
SPARSITY, UNITS_REMOVED = 0.9, 0.75
BATCHES, MIDDLE = (1, 64, 1024), 64
UNITS_SECONDS = 5
"""How many rows' time that takes which only two calls share, of which one is long."""
BREAK_EVEN_SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
L2_BYTES = 2**18
"""What bandwidth is measured on at batch 1: weights that fit into the second cache."""


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=6.0, help="for timing each row")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--levels", nargs="*", type=float, default=list(BREAK_EVEN_SPARSITIES))
    arguments = parser.parse_args()
    tune_process(1)
    peak = fma_peak()
    result: dict[str, Any] = {
        "machine": machine(1).model_dump(mode="json", exclude={"environment"}),
        "fma_peak_gflops": round(peak / 1e9, 1),
        "read_bandwidth_gb_per_s": round(read_bandwidth(L2_BYTES) / 1e9, 1),
        "seconds_a_row": arguments.seconds,
        "levels_for_the_break_even": arguments.levels,
        "networks": {
            name: measured(name, arguments.seconds, peak, arguments.levels)
            for name in arguments.networks
        },
    }
    print(write_result("sparse-speed", 1, result))


def measured(name: str, seconds: float, peak: float, sparsities: list[float]) -> dict[str, Any]:
    """Return all that is measured of one network."""
    threads = sorted({1, min(2, available_cores())})
    grid = cases([SPARSITY], BATCHES, threads)
    scattered = rows_of(name, "weight", grid, seconds)
    levels = rows_of(name, "weight", cases(sparsities, BATCHES[:2], [1]), seconds)
    alone = [row for row in scattered if row.threads == 1 and row.batch in BATCHES[:2]]
    return {
        "scattered": [row_numbers(row) for row in scattered],
        "blocks": [row_numbers(row) for row in rows_of(name, "block", grid, seconds)],
        "break_even": {
            f"{LABELS[one.column]}, batch {one.batch}": break_even_text(one)
            for one in break_evens([*levels, *alone])
        },
        "layers": [layer_shares(name, batch, peak) for batch in BATCHES[:2]],
        "units_removed": units_removed(name, seconds),
    }


def rows_of(name: str, pattern: PatternName, grid: Sequence[Case], seconds: float) -> list[Row]:
    """Measure rows and print each."""
    rows = []
    chosen = subject(name, pattern=pattern)
    for row in measured_rows(chosen, grid, seconds=seconds, begin=partial(tune_process, 1)):
        rows.append(row)
        best = row.best_rival
        factor = row.speed_up(best) if best else None
        print(
            f"{name:18} {pattern:7} {row.sparsity:4.0%} batch {row.batch:4} "
            f"threads {row.threads}  "
            + (f"{factor.value:6.2f}x {LABELS[best]}" if best and factor else "not timed"),
            flush=True,
        )
    return rows


def row_numbers(row: Row) -> dict[str, Any]:
    """Return a row as the file holds it: milliseconds with their quartiles, and factors."""
    timed = {one.name: one.latency for one in row.columns if one.latency}
    factors = {name: factor.value for name in RIVALS if (factor := row.speed_up(name))}
    return {
        "threads": row.threads,
        "batch": row.batch,
        "milliseconds": {name: _milliseconds(found.median) for name, found in timed.items()},
        "quartiles": {
            name: [_milliseconds(found.low), _milliseconds(found.high)]
            for name, found in timed.items()
        },
        "times_faster": {name: round(value, 2) for name, value in factors.items()},
        "absent": {one.name: one.absent for one in row.columns if one.absent},
    }


def layer_shares(name: str, batch: int, peak: float) -> dict[str, Any]:
    """Return what one core does in each layer as a share of its peak, at 90% scattered zeros."""
    chosen = subject(name)
    inputs = random_inputs((batch, *chosen.input_shape))
    network = compress(
        pruned_network(chosen, SPARSITY),
        torch.from_numpy(inputs),
        threads=1,
        seconds=CHOOSING_SECONDS,
    ).network
    if network is None:
        return {"batch": batch, "layers": []}
    seconds = Engine(network).layer_seconds(inputs, threads=1, repeats=50)
    layers = []
    for index, (taken, operations) in enumerate(zip(seconds, work(network), strict=True)):
        layer = network.layers[index]
        if isinstance(layer, Linear | Convolution) and taken > 0:
            weights = layer.weights
            layers.append(
                {
                    "layer": f"{type(layer).__name__.lower()} {weights.rows}x{weights.columns}",
                    "kind": weights.layout,
                    "stored": weights.stored,
                    "microseconds": round(1e6 * taken, 2),
                    "share_of_fma_peak": round(batch * operations / taken / peak, 3),
                    "gb_per_s_of_weights": round(
                        (weights.values.nbytes + weights.indices.nbytes) / taken / 1e9, 2
                    ),
                }
            )
    return {"batch": batch, "layers": layers}


def work(network: Network) -> list[int]:
    """Return the floating-point operations of each layer for one example, two a multiply-add."""
    shapes: dict[Value, Shape] = dict(enumerate(check_network(network)))
    found = []
    for layer in network.layers:
        positions = 1
        if isinstance(layer, Convolution):
            height, width = window_positions(
                shapes[layer.input][1:], layer.kernel, layer.stride, layer.padding, layer.dilation
            )
            positions = height * width
        if isinstance(layer, Recurrence):
            positions = shapes[layer.input][-1]
        weights = weights_of(layer)
        counts = isinstance(layer, Linear | Convolution | Recurrence)
        found.append(2 * weights.stored * positions if weights and counts else 0)
    return found


def units_removed(name: str, seconds: float) -> dict[str, float]:
    """Time ONNX Runtime on the dense network and on the one without 75% of its units."""
    chosen = subject(name, pattern="unit")
    dense, masked = pruned_network(chosen, 0), pruned_network(chosen, UNITS_REMOVED)
    example = torch.from_numpy(random_inputs((MIDDLE, *chosen.input_shape)))
    small = compact(masked, example)
    sessions = {}
    with TemporaryDirectory() as folder:
        for which, network in (("dense", dense), ("compact", small)):
            path = Path(folder) / f"{which}.onnx"
            export_onnx(network, example, path)
            sessions[which] = open_session(path.read_bytes(), threads=1, batch=MIDDLE)
    feed = {"input": example.numpy()}
    timings = time_alternately(
        {which: partial(session.run, None, feed) for which, session in sessions.items()},
        seconds=UNITS_SECONDS * seconds,
        threads=1,
    )
    found = {
        "batch": MIDDLE,
        "parameters": sum(one.numel() for one in dense.parameters()),
        "parameters_left": sum(one.numel() for one in small.parameters()),
        "dense_ms": _milliseconds(timings["dense"].median),
        "compact_ms": _milliseconds(timings["compact"].median),
        "times_faster": round(timings["dense"].median / timings["compact"].median, 2),
    }
    print(f"{name:18} units removed: {found['times_faster']:6.2f}x ONNX Runtime", flush=True)
    return found


def _milliseconds(seconds: float) -> float:
    return float(f"{1000 * seconds:.4g}")


if __name__ == "__main__":
    main()

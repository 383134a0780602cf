"""How fast the networks people know run at 90% zeros, beside the fastest dense ways.

    python -m benchmarks.network_speed [--threads 1] [--networks resnet18 lstm-2x256] [--batches 1]
        [--out network-speed-avx2]

Random weights, the smallest 90% of each layer zero (depthwise convolutions stay dense). One row is
one network, batch and number of threads; rows are written as they are measured and others in the
file stay, so that it can be run in pieces: those of one processor, another's go to another file.
All ways take turns in one process; medians.

Where zeros leave units empty, `compact` removes these. `spread` is the same network with as many
zeros so that no unit is empty: what is beyond it comes of removed units.
"""

import argparse
import json
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._common import RESULTS, write_result
from benchmarks._known_networks import KNOWN, TOKENS, Gpt2, Step, examples, made
from benchmarks._rivals import BF16, FLOAT32, Call, rivals
from benchmarks.sparse_speed import work
from gossamer import compress, prune
from gossamer.compression import Compressed
from gossamer.engine import Network, weights_of
from gossamer.engine.native import Engine, fma_peak
from gossamer.measures.functional.latency import Timing, threads_of_torch, time_alternately
from gossamer.records.environment import describe_environment
from gossamer.runtime.decoder import Decoder
from gossamer.studies.process_settings import tune_process

SPARSITY, BATCHES = 0.9, (1, 16)
NAME = "network-speed"
TOLERANCE = 1e-4
"""Largest difference of gossamer's answers from PyTorch's, relative to the largest."""


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8.0, help="for timing each row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="*", default=list(KNOWN), choices=list(KNOWN))
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES))
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", default=NAME, metavar="NAME", help="of the file of results")
    arguments = parser.parse_args()
    kept_rows(arguments)
    tune_process(arguments.threads)
    peak = fma_peak()
    for name in arguments.networks:
        for batch in arguments.batches:
            started = time.perf_counter()
            row = measured(name, batch, arguments, peak)
            row["seconds_for_the_row"] = round(time.perf_counter() - started, 1)
            write(f"{name}, batch {batch}, {arguments.threads} threads", row, arguments, peak)
            print(line(row), flush=True)


def write(key: str, row: dict[str, Any], arguments: argparse.Namespace, peak: float) -> None:
    """Put a row into the file, beside those that are there."""
    rows = kept_rows(arguments)
    rows[key] = row
    order = [f"{name}, batch {batch}" for name in KNOWN for batch in BATCHES]
    known = sorted(rows, key=lambda one: (rows[one]["threads"], order.index(place(rows[one]))))
    result = {
        "fma_peak_gflops": round(peak / 1e9, 1),
        "sparsity": SPARSITY,
        "rows": {one: rows[one] for one in known},
    }
    write_result(arguments.out, arguments.threads, result)


def kept_rows(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the file holds; end where another processor measured it."""
    path = RESULTS / f"{arguments.out}.json"
    if not path.exists():
        return {}
    kept = json.loads(path.read_text())
    there, here = kept["environment"]["processor"], describe_environment(1, "cpu").processor
    if there != here:
        raise SystemExit(f"{path} holds times of {there}, and this is {here}: pass another --out")
    return dict(kept["rows"])


def place(row: dict[str, Any]) -> str:
    """Return by which a row is sorted."""
    return f"{row['network']}, batch {row['batch']}"


def measured(name: str, batch: int, arguments: argparse.Namespace, peak: float) -> dict[str, Any]:
    """Return all that is measured of one network and batch."""
    threads = arguments.threads
    dense = made(name)
    given = inputs_of(name, dense, batch)
    with threads_of_torch(threads):
        calls: dict[str, Call] = dict(
            rivals(
                Step(dense) if isinstance(dense, Gpt2) and is_step(name) else dense,
                given,
                threads,
                compiled=not arguments.no_compile,
            )
        )
        calls["gossamer"], found = own(name, batch, threads, spread=False)
        if found.empty:
            calls["spread"], _ = own(name, batch, threads, spread=True)
    timings = time_alternately(calls, seconds=arguments.seconds, threads=threads)
    best = min((name for name in FLOAT32 if name in timings), key=lambda n: timings[n].median)
    taken = {name: timing.median for name, timing in timings.items()}
    return {
        "network": name,
        "batch": batch,
        "threads": threads,
        "milliseconds": {name: milliseconds(value) for name, value in taken.items()},
        "fastest_milliseconds": {name: milliseconds(t.fastest) for name, t in timings.items()},
        "quartiles": {name: quartiles(timing) for name, timing in timings.items()},
        "best_float32": best,
        "times_faster": round(taken[best] / taken["gossamer"], 2),
        "times_faster_without_removed_units": round(
            taken[best] / taken.get("spread", taken["gossamer"]), 2
        ),
        "times_faster_than_bf16": {
            name: round(taken[name] / taken["gossamer"], 2) for name in BF16 if name in taken
        },
        "seconds_to_compress": round(found.seconds, 1),
        **({} if is_step(name) else shares(found.network, examples(name, batch), peak, threads)),
    }


def is_step(name: str) -> bool:
    """Tell whether one token is computed, the keys and values of others kept."""
    return name.endswith("-token")


def inputs_of(name: str, model: nn.Module, batch: int) -> list[Any]:
    """Return the arguments of what rivals run."""
    if not is_step(name):
        return [examples(name, batch)]
    assert isinstance(model, Gpt2)
    kept = model.kept(batch, TOKENS)
    return [examples(name, batch)[:, :1].contiguous(), kept]


def pruned(name: str, *, spread: bool) -> tuple[nn.Module, bool]:
    """Return the network with 90% zeros in each layer, and whether they leave units empty.

    Where they are `spread`, each empty row and column gets its largest weight back.
    """
    model = made(name)
    depthwise = [n for n, one in model.named_modules() if getattr(one, "groups", 1) > 1]
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    mask = prune(
        model, SPARSITY, allocation="uniform", exclude=depthwise, example=examples(name, 2)
    )
    empty = False
    for key in mask:
        weight = dict(model.named_parameters())[key]
        for matrix, full in _matrices(weight, before[key]):
            lost = matrix.flatten(1).abs().sum(1) == 0
            empty |= bool(lost.any())
            if spread:
                largest = full.flatten(1).abs().argmax(1)
                for row in lost.nonzero()[:, 0].tolist():
                    at = torch.unravel_index(largest[row], matrix.shape[1:])
                    matrix[(row, *at)] = full[(row, *at)]
    return model, empty


def _matrices(weight: Tensor, before: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return a weight by its rows, and by its columns."""
    return [(weight, before), (weight.transpose(0, 1), before.transpose(0, 1))]


@dataclass(frozen=True, eq=False)
class Small:
    """A network that was pruned and compressed, whatever the batch."""

    model: nn.Module
    compressed: Compressed
    empty: bool
    """Whether its zeros left units empty."""
    seconds: float

    @property
    def network(self) -> Network:
        """The network as the engine holds it."""
        assert self.compressed.network is not None, str(self.compressed)
        return self.compressed.network


@lru_cache(maxsize=2)
def small(name: str, threads: int, *, spread: bool) -> Small:
    """Prune and compress a network; kept for its other batches."""
    model, empty = pruned(name, spread=spread)
    example, started = examples(name, 1), time.perf_counter()
    if is_step(name):
        tokens = torch.export.Dim("tokens", max=2 * TOKENS)
        found = compress(
            model,
            example[:, :8],
            threads=threads,
            choose="engine",
            dynamic_shapes={"tokens": {1: tokens}},
        )
    else:
        found = compress(model, example, threads=threads, choose="engine")
    return Small(model, found, empty, time.perf_counter() - started)


def own(name: str, batch: int, threads: int, *, spread: bool) -> tuple[Call, Small]:
    """Return gossamer's engine, ready to be called, as `gossamer.load` runs a file."""
    example, found = examples(name, batch), small(name, threads, spread=spread)
    if is_step(name):
        return stepping(found.compressed.decoder(batch=batch), example), found
    engine, given = Engine(found.network), laid_out(found.network, example)
    with torch.inference_mode():
        wanted = found.model(example)
    outputs = torch.from_numpy(engine(given, threads=threads)).reshape(wanted.shape)
    difference = float((outputs - wanted).abs().max() / wanted.abs().max())
    assert difference < TOLERANCE, f"{name} gives other answers, by {difference:.2g}"
    return partial(engine, given, threads=threads), found


def laid_out(network: Network, example: Tensor) -> Any:
    """Return inputs in the shape that the engine takes them in."""
    return example.numpy().reshape(len(example), *network.inputs[0])


def stepping(decoder: Decoder, example: Tensor) -> Call:
    """Return what computes one token behind so many."""
    tokens = example.numpy()
    decoder.step(tokens)
    last = tokens[:, -1:]

    def call() -> Any:
        decoder.lengths = [TOKENS] * decoder.batch
        return decoder.step(last)

    return call


def shares(network: Network, example: Tensor, peak: float, threads: int) -> dict[str, Any]:
    """Return what is reached in each layer with weights as a share of the peak of one core."""
    given, batch = laid_out(network, example), len(example)
    seconds = Engine(network).layer_seconds(given, threads=threads, repeats=3)
    layers, kinds = [], dict[str, float]()
    busy = done = 0.0
    for layer, taken, operations in zip(network.layers, seconds, work(network), strict=True):
        kinds[layer.name] = kinds.get(layer.name, 0.0) + taken
        weights = weights_of(layer)
        if weights is not None and taken > 0 and operations:
            busy, done = busy + taken, done + batch * operations
            layers.append(
                {
                    "layer": f"{layer.name} {weights.rows}x{weights.columns}",
                    "kind": weights.layout,
                    "microseconds": round(1e6 * taken, 1),
                    "share_of_fma_peak": round(batch * operations / taken / peak, 3),
                }
            )
    return {
        "share_of_fma_peak": round(done / busy / peak, 3),
        "layers": layers,
        "share_of_time": {
            kind: round(taken / sum(seconds), 3)
            for kind, taken in sorted(kinds.items(), key=lambda one: -one[1])
            if taken > 0.005 * sum(seconds)
        },
    }


def line(row: dict[str, Any]) -> str:
    """Return a row in words."""
    others = ", ".join(
        f"{name} {taken:g}" for name, taken in row["milliseconds"].items() if name != "gossamer"
    )
    bf16 = ", ".join(
        f"{factor:.1f}x {name}" for name, factor in row["times_faster_than_bf16"].items()
    )
    return (
        f"{row['network']:17} batch {row['batch']:2} {row['milliseconds']['gossamer']:8.4g} ms "
        f"{row['times_faster']:5.2f}x {row['best_float32']} "
        f"({row['times_faster_without_removed_units']:.2f}x without removed units; {bf16}) "
        f"[{others}] {row['seconds_for_the_row']:.0f} s"
    )


def quartiles(timing: Timing) -> list[float]:
    """Return the middle half of the repeats in milliseconds."""
    return [milliseconds(value) for value in timing.quartiles]


def milliseconds(seconds: float) -> float:
    """Return four digits that count."""
    return float(f"{1000 * seconds:.4g}")


if __name__ == "__main__":
    main()

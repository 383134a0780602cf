"""What a second thread brings to sparse inference on large batches.

    python -m benchmarks.thread_gain [--rounds 15] [--networks fashion-cnn mlp]

The four networks of `benchmarks.sparse_speed`, 90% scattered zeros, batch 1024. One thread and two
take turns of a quarter of a second each, after a tenth of that untimed: so it is batch after batch
that is compared, and not how long a sleeping thread takes to wake up.

A third turn is for comparison: two callers that know nothing of each other, each with one thread
and half of the batch. What they gain is about what the machine gives at that time.
"""

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._common import write_result
from benchmarks.sparse_speed import BATCHES, NETWORKS, SPARSITY
from gossamer.benchmarking.subjects import pruned_network, random_inputs, subject
from gossamer.compression import compress
from gossamer.engine.native import Engine
from gossamer.measures.functional.machine import machine
from gossamer.studies.process_settings import tune_process

BATCH = BATCHES[-1]
TURN, UNTIMED = 0.25, 0.025  # seconds


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    arguments = parser.parse_args()
    tune_process(1)
    result = {
        "machine": machine(2).model_dump(mode="json", exclude={"environment"}),
        "rounds": arguments.rounds,
        "batch": BATCH,
        "networks": {name: gain(name, arguments.rounds) for name in arguments.networks},
    }
    print(write_result("thread-gain", 2, result))


def gain(name: str, rounds: int) -> dict[str, Any]:
    """Time one thread and two in turn; the gain is the median over the rounds."""
    chosen = subject(name)
    inputs = random_inputs((BATCH, *chosen.input_shape))
    network = compress(
        pruned_network(chosen, SPARSITY), torch.from_numpy(inputs), threads=1, choose="engine"
    ).network
    assert network is not None
    engine = Engine(network)
    halves = np.split(inputs, 2)
    taken = [
        (turn(engine, inputs, 1), turn(engine, inputs, 2), turn_of_two(engine, halves))
        for _ in range(rounds)
    ]
    found = {
        "one_ms": _median_milliseconds(one for one, _, _ in taken),
        "two_ms": _median_milliseconds(two for _, two, _ in taken),
        **_spread("times_faster", [one / two for one, two, _ in taken]),
        "callers_ms": _median_milliseconds(callers for _, _, callers in taken),
        **_spread("callers_faster", [one / callers for one, _, callers in taken]),
    }
    print(
        f"{name:18} {found['times_faster']:.2f}x {found['times_faster_quartiles']}, "
        f"two callers {found['callers_faster']:.2f}x {found['callers_faster_quartiles']}",
        flush=True,
    )
    return found


def turn(engine: Engine, inputs: NDArray[np.float32], threads: int) -> float:
    """Return the seconds of one call, the mean of a turn."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < UNTIMED:
        engine(inputs, threads=threads)
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < TURN:
        engine(inputs, threads=threads)
        calls += 1
    return (time.perf_counter() - started) / calls


def turn_of_two(engine: Engine, halves: Sequence[NDArray[np.float32]]) -> float:
    """Return the seconds in which two callers, each for itself, are done with both halves."""
    finished: list[float] = []

    def call(half: NDArray[np.float32]) -> None:
        finished.append(turn(engine, half, 1))
        while len(finished) < len(halves):  # so that the other is not alone for its last call
            engine(half, threads=1)

    with ThreadPoolExecutor(len(halves)) as pool:
        list(pool.map(call, halves))
    return statistics.harmonic_mean(finished)  # each does so many halves a second


def _median_milliseconds(seconds: Iterable[float]) -> float:
    return round(1000 * statistics.median(seconds), 3)


def _spread(name: str, gains: list[float]) -> dict[str, Any]:
    quartiles = np.quantile(gains, (0.25, 0.75)).tolist()
    return {
        name: round(statistics.median(gains), 2),
        f"{name}_quartiles": [round(value, 2) for value in quartiles],
    }


if __name__ == "__main__":
    main()

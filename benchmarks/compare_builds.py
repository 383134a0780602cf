"""Whether one build of the compiled kernels is slower than another.

    python -m benchmarks.compare_builds OLD.so NEW.so [--seconds 6] [--networks fashion-cnn mlp]

Both run the same compressed networks (90% scattered zeros, and 90% in blocks of 4x1) in turn, each
in a process of its own, at batch 1, 64 and 1024 on one thread. Told are the fastest call of each,
and the ratio of their medians with a 95% interval, over resampled repeats: above 1 the new build is
faster. It fails where an interval ends below 0.97. Build the old one from its commit with

    git worktree add ../before COMMIT
    cmake -S ../before -B ../before/build -DPython_EXECUTABLE=$PWD/.venv/bin/python
    cmake --build ../before/build -j
"""

import argparse
import importlib.util
import multiprocessing
import sys
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from gossamer.benchmarking.subjects import PatternName, pruned_network, random_inputs, subject
from gossamer.compression import compress
from gossamer.measure.latency import Timing, block_of, time_blocks

NATIVE = "gossamer.kernels._native"
NETWORKS = ("fashion-cnn", "mlp", "cifar-dropout-cnn", "wide-head")
PATTERNS: tuple[PatternName, ...] = ("weight", "block")
BATCHES = (1, 64, 1024)
SPARSITY, LEAST = 0.9, 0.97
CHOOSING_SECONDS = 1.0


def main() -> None:
    """Measure and print; exit with 1 where the new build is slower."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    arguments = parser.parse_args()
    builds = [started(path.resolve()) for path in (arguments.old, arguments.new)]
    slower = False
    for name in arguments.networks:
        for pattern in PATTERNS:
            chosen = subject(name, pattern=pattern)
            masked = pruned_network(chosen, SPARSITY)
            for batch in BATCHES:
                inputs = random_inputs((batch, *chosen.input_shape))
                network = compress(
                    masked, torch.from_numpy(inputs), threads=1, seconds=CHOOSING_SECONDS
                ).network
                for build in builds:
                    build.send((network, inputs))
                blocks = {which: partial(asked, builds[which]) for which in (0, 1)}
                old, new = time_blocks(
                    {str(which): block for which, block in blocks.items()},
                    seconds=arguments.seconds,
                ).values()
                low, middle, high = ratio_of_medians(old, new)
                slower |= high < LEAST
                print(
                    f"{name:18} {pattern:7} batch {batch:4}  fastest {1e6 * old.fastest:9.1f} "
                    f"{1e6 * new.fastest:9.1f} us  old / new {middle:.3f} [{low:.3f}, {high:.3f}]",
                    flush=True,
                )
    sys.exit(slower)


def ratio_of_medians(old: Timing, new: Timing, resamples: int = 2000) -> NDArray[np.float64]:
    """Return the ratio of the medians between the ends of its interval."""
    random = np.random.default_rng(0)
    drawn = [
        np.median(random.choice(one.seconds, (resamples, len(one.seconds))), axis=1)
        for one in (old, new)
    ]
    low, high = np.quantile(drawn[0] / drawn[1], (0.025, 0.975))
    return np.array([low, old.median / new.median, high])


def started(build: Path) -> Connection:
    """Start a process that runs what it is sent on a build."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=serve, args=(build, theirs), daemon=True).start()
    return ours


def asked(build: Connection, calls: int) -> float:
    """Have a build make so many calls; return the seconds that they took."""
    build.send(calls)
    return cast("float", build.recv())


def serve(build: Path, asking: Connection) -> None:
    """Run networks on a build, each so often as asked."""
    spec = importlib.util.spec_from_file_location(NATIVE, build)
    if spec is None or spec.loader is None:
        raise ImportError(f"{build} is no compiled module")
    sys.modules[NATIVE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from gossamer.engine import Engine  # finds that module

    block: Any = None
    while True:
        match asking.recv():
            case int(calls):
                asking.send(block(calls))
            case network, inputs:
                block = block_of(partial(Engine(network), inputs))


if __name__ == "__main__":
    main()

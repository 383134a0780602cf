"""Whether one state of the engine is slower than another.

    python -m benchmarks.compare_builds OLD NEW NETWORK.gsm... [--batches 1 64 1024] [--seconds 6]

OLD and NEW are folders that hold the package with its compiled kernels, each from its own commit:

    git worktree add ../before COMMIT
    pip install --no-deps --target ../old ../before && pip install --no-deps --target ../new .

Both load the same compressed networks, each in a process of its own, and run them in turn on one
thread. Told are the fastest call of each, and the ratio of their medians with a 95% interval, over
resampled repeats: above 1 NEW is faster. It fails where an interval ends below 0.97.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from gossamer.measures.functional.latency import Timing, time_blocks

LEAST = 0.97
SERVE = """
import sys, time
import numpy as np
import gossamer
print(gossamer.__file__, flush=True)
for line in sys.stdin:
    path, batch, calls = line.rsplit(maxsplit=2)
    if calls == "0":
        network = gossamer.load(path)
        shape = (int(batch), *network.input_shape)
        inputs = np.random.default_rng(0).random(shape, np.float32)
    started = time.perf_counter()
    for _ in range(int(calls)):
        network(inputs, threads=1)
    print(time.perf_counter() - started, flush=True)
"""


def main() -> None:
    """Measure and print; exit with 1 where the new state is slower."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 64, 1024])
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row")
    arguments = parser.parse_args()
    ask = {name: started(getattr(arguments, name).resolve()) for name in ("old", "new")}
    slower = False
    for path in arguments.networks:
        for batch in arguments.batches:
            blocks = {name: partial(one, path.resolve(), batch) for name, one in ask.items()}
            for block in blocks.values():
                block(0)
            timings = time_blocks(blocks, seconds=arguments.seconds)
            low, middle, high = ratio_of_medians(timings["old"], timings["new"])
            slower |= high < LEAST
            fastest = "  ".join(f"{1e6 * one.fastest:9.1f}" for one in timings.values())
            print(
                f"{path.stem:24} batch {batch:5}  fastest {fastest} us"
                f"  old / new {middle:.3f} [{low:.3f}, {high:.3f}]",
                flush=True,
            )
    sys.exit(int(slower))


def ratio_of_medians(old: Timing, new: Timing, resamples: int = 2000) -> tuple[float, float, float]:
    """Return the ratio of the medians between the ends of its interval."""
    random = np.random.default_rng(0)
    drawn = [
        np.median(random.choice(one.seconds, (resamples, len(one.seconds))), axis=1)
        for one in (old, new)
    ]
    low, high = np.quantile(drawn[0] / drawn[1], (0.025, 0.975))
    return float(low), old.median / new.median, float(high)


def started(folder: Path) -> Callable[[Path, int, int], float]:
    """Start a process with the package of a folder; return what asks it for calls of a network.

    Another network or batch begins with no call.
    """
    places = os.pathsep.join((str(folder), sysconfig.get_path("purelib")))
    # -S leaves out the hook of an editable install, which would come first.
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", SERVE],
        env={**os.environ, "PYTHONPATH": places},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asking, told = process.stdin, process.stdout
    loaded = Path(told.readline().strip())
    if folder not in loaded.parents:
        raise SystemExit(f"{folder} holds no package gossamer: {loaded} was loaded")

    def ask(network: Path, batch: int, calls: int) -> float:
        asking.write(f"{network} {batch} {calls}\n")
        asking.flush()
        return float(told.readline())

    return ask


if __name__ == "__main__":
    main()

"""What an engine asks the system for concerns its own memory alone."""

from pathlib import Path

import numpy as np
import pytest

from gossamer.engine import Engine, Linear, Network, available_instruction_sets, pack_weights

USED = Path("/proc/self/smaps_rollup")
WHEN = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def in_large_pages() -> int:
    """Return how many kilobytes of this process lie in large pages."""
    (line,) = (one for one in USED.read_text().splitlines() if one.startswith("AnonHugePages:"))
    return int(line.split()[1])


@pytest.mark.skipif(
    available_instruction_sets() == ("numpy",)
    or not (USED.exists() and WHEN.exists())
    or "[always]" in WHEN.read_text(),
    reason="without kernels, or where the system puts all memory in large pages by itself",
)
def test_weights_that_fill_no_large_page_leave_those_of_others_as_they_are() -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((400, 800)).astype(np.float32)
    weights[random.random(weights.shape) < 0.8] = 0  # 64,000 numbers in 250 KB
    network = Network((800,), (Linear(0, pack_weights(weights, "csr")),), 1)
    inputs = np.zeros((40, 800), np.float32)
    Engine(network)(inputs)
    before = in_large_pages()
    engines = [Engine(network) for _ in range(12)]
    for engine in engines:
        engine(inputs[:1])
    assert in_large_pages() - before < 2 * 2048

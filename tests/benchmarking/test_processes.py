"""Processes that take turns: what they answer, that they are halted, how they end."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from gossamer.benchmarking.processes import CAN_HALT, Bench
from gossamer.benchmarking.subjects import Case, Subject, pruned_network, random_inputs
from gossamer.core.errors import GossamerError, InputError

SMALL = Subject("mlp", (2, 3))
PATIENCE = 60.0


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with closing(Bench(("eager", "channels_last"), SMALL)) as found:
        yield found


def state(bench: Bench) -> str:
    """Return the state of a process as Linux tells it: "T" is halted."""
    text = Path(f"/proc/{bench._process.pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0]


def wait_for_state(bench: Bench, expected: str) -> bool:
    """Whether the process comes to a state; a signal takes a moment to arrive."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if state(bench) == expected:
            return True
        time.sleep(0.01)
    return False


def test_a_process_answers_with_its_columns_and_why_others_are_not_there(bench: Bench) -> None:
    import torch

    ready = bench.prepare(Case(0.5, 1, 4))
    assert ready.achieved == pytest.approx(0.5, abs=0.01)
    assert ready.absent == {"channels_last": "the network has no convolution"}
    expected = pruned_network(SMALL, 0.5)(torch.from_numpy(random_inputs((4, 2, 3))))
    np.testing.assert_allclose(ready.outputs["eager"], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_it_times_itself_and_is_halted_afterwards(bench: Bench) -> None:
    bench.prepare(Case(0.9, 1, 1))
    block = bench.block("eager")
    started = time.perf_counter()
    seconds = block(3)
    assert 0 < seconds < time.perf_counter() - started
    if CAN_HALT and sys.platform == "linux":
        assert wait_for_state(bench, "T")
        assert block(1) > 0
        assert wait_for_state(bench, "T")


def test_a_network_that_cannot_be_is_complained_of_and_the_process_goes_on(bench: Bench) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        bench.prepare(Case(1.5, 1, 1))
    assert bench.prepare(Case(0.5, 1, 1)).outputs


def test_a_process_that_died_is_said_and_one_that_is_halted_can_be_closed() -> None:
    dying, halted = Bench(("eager",), SMALL), Bench(("eager",), SMALL)
    with closing(dying), closing(halted):
        assert dying._process.pid is not None
        os.kill(dying._process.pid, signal.SIGKILL)
        with pytest.raises(GossamerError, match=r"process of eager died \(killed"):
            dying.prepare(Case(0.5, 1, 1))
        halted.prepare(Case(0.5, 1, 1))
    assert not halted._process.is_alive()

"""The answer of a search does not flatter."""

from typing import Any

import pytest

from gossamer.records.shrinking import Timed, Tried
from gossamer.records.speed import Latency
from gossamer.shrinking.options import options_of
from gossamer.shrinking.wording import _gain


def some(kind: Any, **known: Any) -> Any:
    """Return a record of which only so much is known."""
    return kind.model_construct(**known)


def timed(network: str, runner: str, batch: int, milliseconds: float) -> Timed:
    latency = some(Latency, median=milliseconds)
    found: Timed = some(Timed, network=network, runner=runner, batch=batch, latency=latency)
    return found


@pytest.mark.parametrize(("rival", "expected"), [(1.5, "1.5"), (9.0, "9.0")])
def test_speed_is_told_beside_the_fastest_that_runs_the_dense_network(
    rival: float, expected: str
) -> None:
    times = [
        timed("dense", "PyTorch", 64, 10.0), timed("dense", "ONNX Runtime", 64, rival),
        timed("shrunk", "gossamer", 64, 1.0), timed("dense", "PyTorch", 1, 0.1),
    ]  # fmt: skip
    chosen: Tried = some(Tried, speed_up=10.0)
    said = _gain(chosen, options_of(target="latency", batch=64), times)
    assert said == (
        f"{expected} times as fast as the dense network where that is fastest, in ONNX Runtime, at "
        "batch 64"
    )

"""The answer of a search does not flatter."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from gossamer.records.shrinking import Timed, Tried, Weighed
from gossamer.records.speed import Latency
from gossamer.shrinking.data import Data
from gossamer.shrinking.options import options_of
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification
from gossamer.shrinking.wording import _gain, coverage_remarks, widths_kept


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


def test_what_is_slower_than_the_dense_network_is_called_so() -> None:
    options = options_of(batch=8)
    times = [timed("dense", "PyTorch", 8, 1.0), timed("shrunk", "gossamer", 8, 2.5)]
    said = _gain(some(Tried, speed_up=1.1), options, times)
    assert said.startswith("Not faster: a batch of 8 takes 2.5 times as long")


def test_modules_that_stay_wide_though_units_are_pruned_are_told() -> None:
    def weighed(parameters: int, nonzero: int) -> Weighed:
        found: Weighed = some(Weighed, parameters=parameters, nonzero=nonzero)
        return found

    before = weighed(100, 100)
    assert "as wide as it was" in widths_kept("unit", before, weighed(100, 60))
    assert "as wide as it was" in widths_kept("unit+weight", before, weighed(100, 60))
    assert not widths_kept("unit", before, weighed(70, 60))
    assert not widths_kept("weight", before, weighed(100, 60))
    assert not widths_kept("unit", before, before)  # the dense network stayed


def test_classes_that_a_part_of_the_data_lacks_are_told() -> None:
    def part(labels: list[int]) -> Split:
        return Split(torch.zeros(len(labels), 2), torch.tensor(labels))

    whole, lacking = part([0, 1, 2]), part([0, 0, 1])
    assert coverage_remarks(Data(whole, whole, whole), classification()) == []
    (said,) = coverage_remarks(Data(whole, lacking, whole), classification())
    assert said == (
        "No example of 1 class that other parts hold is in validation (2): the bound says nothing "
        "of them."
    )
    (said,) = coverage_remarks(Data(lacking, whole, None), classification())
    assert "fine-tuning may unlearn" in said
    values = Data(part([0]), part([1]), None)
    assert coverage_remarks(values, replace(classification(), is_classification=False)) == []

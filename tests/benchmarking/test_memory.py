import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.benchmarking import memory
from gossamer.benchmarking.memory import (
    Footprint,
    check_memory,
    file_footprint,
    network_footprint,
)
from gossamer.core.errors import InputError
from gossamer.engine import Linear, Network, pack_weights
from gossamer.runtime import Predictor

PROCESSES = 3


class Widest(nn.Module):
    """Widens five numbers to 24, and to 96 in between, of which 24 are views of other ones."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(5, 24)
        self.tied = self.widen.weight
        self.register_buffer("scale", torch.ones(7))

    def forward(self, inputs: Tensor) -> Tensor:
        wide = self.widen(inputs)
        return torch.cat([wide, wide.view_as(wide), wide], dim=1).sum(dim=1)


@pytest.mark.parametrize("examples", [1, 2, 7])
def test_the_largest_operation_counts_and_weights_count_once(examples: int) -> None:
    found = network_footprint(Widest(), torch.ones(examples, 5))
    assert found.weights == PROCESSES * 4 * (5 * 24 + 24 + 7)
    assert found.example == PROCESSES * 4 * (5 + 24 + 3 * 24)  # reads 24 once, writes 72
    assert found.of_batch(10) == found.weights + 10 * found.example


def test_a_convolution_takes_its_maps_and_padding_takes_them_again() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.ReLU())
    found = network_footprint(network.eval(), torch.ones(2, 1, 6, 6))
    assert found.example >= PROCESSES * 4 * (36 + 2 * 8 * 36)
    assert found.example <= PROCESSES * 4 * (36 + 3 * 8 * 36)


def test_a_compressed_file_holds_inputs_and_outputs() -> None:
    network = Network((3,), (Linear(0, pack_weights(np.ones((4, 3)), "dense")),), 1)
    assert file_footprint(Predictor(network, {})) == Footprint(4 * 12, 4 * (3 + 4))


def test_the_largest_batch_that_fits_is_said_and_does_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    takes = Footprint(weights=1000, example=10)
    monkeypatch.setattr(memory, "available_memory", lambda: 1999)
    check_memory(takes, [1, 99])
    with pytest.raises(InputError, match=r"--batch 100: .* are available; give at most 99"):
        check_memory(takes, [1, 100, 3])
    monkeypatch.setattr(memory, "available_memory", lambda: 1009)
    with pytest.raises(InputError, match="no batch is small enough for this network"):
        check_memory(takes, [1])
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    check_memory(takes, [10**12])

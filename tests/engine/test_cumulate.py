"""Cumulated sums, products and logarithms of sums are PyTorch's, on NumPy and in kernels."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gossamer
from gossamer.core.errors import InputError
from gossamer.engine import Engine, Network, Shape, run_portable
from gossamer.engine.check import check_network
from gossamer.engine.ops.cumulate import Cumulate, CumulationName

PYTORCH = {"sum": torch.cumsum, "product": torch.cumprod, "log-sum-exp": torch.logcumsumexp}


def both(inputs: np.ndarray, cumulation: CumulationName, axis: int) -> list[np.ndarray]:
    network = Network(inputs.shape[1:], (Cumulate(0, cumulation, axis),), 1)
    return [run_portable(network, inputs), Engine(network)(inputs)]


@pytest.mark.parametrize("shape", [(6,), (3, 1, 4), (2, 3, 5)])
@pytest.mark.parametrize("cumulation", PYTORCH)
def test_every_axis_is_pytorchs_in_float64(shape: Shape, cumulation: CumulationName) -> None:
    inputs = np.random.default_rng(0).standard_normal((9, *shape)).astype(np.float32)
    for axis in range(len(shape)):
        exact = PYTORCH[cumulation](torch.from_numpy(inputs).double(), axis + 1).numpy()
        for found in both(inputs, cumulation, axis):
            np.testing.assert_allclose(found, exact, rtol=3e-7, atol=3e-7)


def test_long_sums_keep_their_digits() -> None:
    inputs = np.full((1, 50_000), 0.1, np.float32)
    exact = np.arange(1, 50_001) * np.float64(np.float32(0.1))
    for found in both(inputs, "sum", 0):
        np.testing.assert_allclose(found[0], exact, rtol=1e-7)


def test_what_is_infinite_or_no_number_is_pytorchs() -> None:
    inf, nan = math.inf, math.nan
    rows = [
        [-inf, -inf, 1, 200],
        [1, inf, 2, -inf],
        [1, nan, 2, inf],
        [0, inf, 3, 1],
        [-200, 200, 0, 0],
    ]
    inputs = np.array(rows, np.float32)
    for cumulation, function in PYTORCH.items():
        expected = function(torch.from_numpy(inputs), 1).numpy()
        with np.errstate(invalid="ignore"):
            for found in both(inputs, cumulation, 0):  # type: ignore[arg-type]
                np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="axis is 2, expected at most 1"):
        check_network(Network((4, 3), (Cumulate(0, "sum", 2),), 1))


class Tally(nn.Module):
    """What the tokens up to each add up to."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.score = nn.Embedding(20, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.relu(self.score(self.words(tokens))).cumsum(1)


def test_a_network_that_cumulates_takes_every_length() -> None:
    torch.manual_seed(0)
    model, tokens = Tally().eval(), torch.randint(0, 20, (3, 7))
    lengths = {"input": {1: torch.export.Dim("length", min=1, max=16)}}
    small = gossamer.compress(model, tokens, choose="engine", threads=1, dynamic_shapes=lengths)
    assert not small.remaining
    for length in (1, 5, 16):
        given = torch.randint(0, 20, (2, length))
        np.testing.assert_allclose(small(given), model(given).detach(), rtol=1e-5, atol=1e-6)

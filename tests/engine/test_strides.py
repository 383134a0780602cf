"""Strided convolutions of one example: rows are dealt out in whole vectors and in what is left."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from gossamer.engine import Convolution, Network, pack_weights
from gossamer.engine.native import Engine, available_instruction_sets


@pytest.mark.parametrize("set_name", available_instruction_sets())
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(
    ("groups", "rows", "channels"), [(1, 5, 3), (7, 7, 7), (5, 5, 10), (4, 8, 4)]
)
def test_rows_of_every_length_are_dealt_out(
    set_name: str, threads: int, stride: int, groups: int, rows: int, channels: int
) -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((rows, channels // groups, 3, 3), np.float32)
    for size in (*range(3, 20), 31, 33, 66):
        inputs = generator.standard_normal((1, channels, 5, size), np.float32)
        layer = Convolution(
            0,
            pack_weights(weight.reshape(rows, -1), "dense"),
            (3, 3),
            (stride, stride),
            (1, 1),
            (1, 1),
            groups,
            np.zeros(rows, np.float32),
        )
        engine = Engine(Network((channels, 5, size), (layer,), 1), set_name)
        (found,) = engine.run([inputs], threads)
        given, kernel = torch.tensor(inputs).double(), torch.tensor(weight).double()
        exact = functional.conv2d(given, kernel, None, stride, 1, 1, groups)
        assert np.abs(found - exact.numpy()).max() < 1e-5 * exact.abs().max(), size

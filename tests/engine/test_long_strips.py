"""Sums of sparse convolutions in strips of every length, and columns in slices, against float64."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine_answers import COMPILED, allowed_error
from gossamer.engine import Activation, Convolution, Epilogue, Network, pack_weights, run_portable
from gossamer.engine.native import Engine

pytestmark = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")


def network_of(channels: int, rows: int, width: int, stride: int, density: float) -> Network:
    random = np.random.default_rng(width)

    def layer(value: int, inputs: int, step: int, residual: int | None) -> Convolution:
        matrix = random.standard_normal((rows, inputs * 9))
        matrix *= random.random(matrix.shape) < density
        matrix[rows // 2] = 0.0
        bias = random.standard_normal(rows).astype(np.float32)
        epilogue = Epilogue(residual=residual, activation=Activation("relu"))
        weights = pack_weights(matrix.astype(np.float32), "csr")
        return Convolution(value, weights, (3, 3), (step, step), (1, 1), (1, 1), 1, bias, epilogue)

    layers = (layer(0, channels, stride, None), layer(1, rows, 1, 1))
    return Network((channels, 3 * stride, width * stride), layers, 2)


def assert_side_by_side(network: Network, inputs: NDArray[np.float32]) -> None:
    expected = run_portable(network, inputs, dtype=np.float64)
    allowed = allowed_error(network, inputs, expected)
    for name in COMPILED:
        found = Engine(network, name)(inputs, threads=2)
        assert np.abs(found - expected).max() <= allowed, name


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strips_of_every_length(stride: int) -> None:
    for width in (*range(1, 19), 31, 33):
        network = network_of(3, 5, width, stride, 0.5)
        shape = (17, *network.input_shape)
        assert_side_by_side(
            network, np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        )


@pytest.mark.parametrize(("channels", "rows"), [(48, 7), (130, 20)])
@pytest.mark.parametrize("density", [0.1, 0.9])
def test_slices_of_the_columns(channels: int, rows: int, density: float) -> None:
    for width in (7, 16, 29):
        network = network_of(channels, rows, width, 1, density)
        shape = (16, *network.input_shape)
        assert_side_by_side(
            network, np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        )

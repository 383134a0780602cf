"""Averages of many pixels keep their digits, also where all of them are alike."""

import numpy as np
import pytest

from engine_answers import COMPILED
from gossamer.engine import Network, Pool, Pooling, Shape, run_portable
from gossamer.engine.native import Engine


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("shape", [(3, 112, 112), (3, 1, 12_544), (2, 57, 61)], ids=str)
@pytest.mark.parametrize("examples", [1, 5])
def test_constant_and_random_channels_are_averaged_as_in_float64(
    shape: Shape, instruction_set: str, examples: int
) -> None:
    random = np.random.default_rng(0)
    inputs = random.uniform(0.0, 1.0, (examples, *shape)).astype(np.float32)
    inputs[:, 0] = random.uniform(0.0, 1.0, (examples, 1, 1)).astype(np.float32)
    window = (shape[1], shape[2])
    network = Network(shape, (Pool(0, Pooling("average", window, window)),), 1)
    exact = run_portable(network, inputs.astype(np.float64), np.float64)
    found = Engine(network, instruction_set)(inputs)
    np.testing.assert_allclose(found, exact, rtol=3e-7)


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("examples", [1, 5])
def test_the_average_of_infinity_is_infinite(instruction_set: str, examples: int) -> None:
    inputs = np.ones((examples, 2, 40, 40), np.float32)
    inputs[:, 0, 3, 5] = np.inf
    network = Network((2, 40, 40), (Pool(0, Pooling("average", (40, 40), (40, 40))),), 1)
    found = Engine(network, instruction_set)(inputs)
    assert found[:, 0].tolist() == [[[np.inf]]] * examples
    assert found[:, 1].tolist() == [[[1.0]]] * examples

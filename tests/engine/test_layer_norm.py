"""Normalisation over the last axes in the compiled kernels: one example, and some side by side."""

import numpy as np
import pytest

from engine_answers import COMPILED, assert_right
from gossamer.engine import LayerNorm, Network, Shape, run_portable
from gossamer.engine.native import Engine

SHAPES: list[Shape] = [(1,), (7,), (64,), (131,), (3, 5), (4, 1, 100), (5, 7, 7), (2, 33, 17),
                       (2, 3, 4, 21), (2, 3, 2, 2, 5)]  # fmt: skip


def layer_of(shape: Shape, axes: int, plain: bool) -> Network:
    random = np.random.default_rng(len(shape) + axes)
    scale, shift = random.standard_normal((2, *shape[-axes:])).astype(np.float32)
    layer = LayerNorm(0, axes) if plain else LayerNorm(0, axes, 0.01, scale, shift)
    return Network(shape, (layer,), 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("plain", [False, True])
def test_one_example_is_normalised_as_in_float64_with_any_number_of_threads(
    shape: Shape, plain: bool
) -> None:
    inputs = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for axes in range(1, len(shape) + 1):
        assert_right(layer_of(shape, axes, plain), inputs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_examples_side_by_side_keep_their_digits_far_from_zero(
    shape: Shape, instruction_set: str, far: float
) -> None:
    random = np.random.default_rng(1)
    inputs = (random.standard_normal((37, *shape)) + far).astype(np.float32)
    for axes in range(1, len(shape) + 1):
        network = layer_of(shape, axes, plain=False)
        exact = run_portable(network, inputs.astype(np.float64), np.float64)
        found = Engine(network, instruction_set)(inputs)
        np.testing.assert_allclose(found, exact, atol=2e-5 * np.abs(exact).max(), rtol=0)


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("shape", [(20_000,), (9, 64, 65)], ids=str)
def test_threads_share_out_large_values_and_find_the_same(
    shape: Shape, instruction_set: str
) -> None:
    inputs = np.random.default_rng(2).standard_normal((1, *shape)).astype(np.float32)
    for axes in range(1, len(shape) + 1):
        engine = Engine(layer_of(shape, axes, plain=False), instruction_set)
        for threads in (2, 3):
            np.testing.assert_array_equal(engine(inputs, threads), engine(inputs))

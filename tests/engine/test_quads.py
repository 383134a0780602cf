"""Sparse layers over neighbouring positions, such as tokens, and examples, against float64."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.engine import (
    Activation,
    Convolution,
    Epilogue,
    Floats,
    Linear,
    Network,
    pack_weights,
    run_portable,
    unpack_weights,
)
from gossamer.engine.native import Engine, available_instruction_sets

COMPILED = tuple(name for name in available_instruction_sets() if name != "numpy")
pytestmark = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")


def layer(weights: Floats, positions: int, epilogue: Epilogue | None = None) -> Network:
    """Return a layer that reads each position by itself, with a bias of each row's number."""
    rows, columns = weights.shape
    bias = np.arange(rows, dtype=np.float32) / rows
    convolution = Convolution(
        0, pack_weights(weights, "csr"), (1, 1), bias=bias, epilogue=epilogue or Epilogue()
    )
    return Network((columns, 1, positions), (convolution,), 1)


def sparse(random: np.random.Generator, rows: int, columns: int, density: float) -> Floats:
    values = random.standard_normal((rows, columns)).astype(np.float32)
    return np.where(random.random((rows, columns)) < density, values, np.float32(0))


def _absolute(layer: Convolution | Linear) -> Convolution | Linear:
    """Return a layer whose sums are of the sizes of what another adds up."""
    end = layer.epilogue
    sizes = {
        name: None if one is None else np.abs(one)
        for name, one in (("scale", end.scale), ("shift", end.shift))
    }
    return replace(
        layer,
        weights=pack_weights(np.abs(unpack_weights(layer.weights)), "csr"),
        bias=None if layer.bias is None else np.abs(layer.bias),
        epilogue=Epilogue(end.residual, scale=sizes["scale"], shift=sizes["shift"]),
    )


def rounding(network: Network, inputs: Floats) -> Floats:
    """Return how far sums in float32 may lie from exact ones.

    That is the unit of rounding times the root of the terms of a sum times the sizes of what is
    added (Higham and Mary 2019, SIAM Journal on Scientific Computing 41), and a few units for what
    is computed of it.
    """
    layers = [one for one in network.layers if isinstance(one, Convolution | Linear)]
    assert len(layers) == len(network.layers)
    sizes = replace(network, layers=tuple(map(_absolute, layers)))
    terms = [np.count_nonzero(unpack_weights(one.weights), axis=1).max() for one in layers]
    reach = run_portable(sizes, np.abs(inputs), dtype=np.float64)
    found: Floats = 2.0**-24 * sum(np.sqrt(one) + 8 for one in terms) * reach
    return found


def assert_right(network: Network, inputs: Floats) -> None:
    expected, bound = run_portable(network, inputs, dtype=np.float64), rounding(network, inputs)
    for instruction_set in COMPILED:
        engine = Engine(network, instruction_set)
        found = engine(inputs)
        assert (np.abs(found - expected) <= bound).all()
        np.testing.assert_array_equal(engine(inputs, threads=2), found)


@settings(max_examples=25)
@given(
    rows=st.sampled_from((1, 3, 4, 7, 64, 66, 130)),
    columns=st.sampled_from((1, 5, 90, 700, 1300)),
    positions=st.sampled_from((1, 15, 16, 17, 47, 48, 81)),
    density=st.sampled_from((0.0, 0.01, 0.1, 0.5)),
    activation=st.sampled_from(("identity", "relu", "gelu", "gelu-tanh")),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_of_any_length_give_what_float64_gives(
    rows: int,
    columns: int,
    positions: int,
    density: float,
    activation: Literal["identity", "relu", "gelu", "gelu-tanh"],
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    scale, shift = random.standard_normal((2, rows)).astype(np.float32)
    epilogue = Epilogue(
        residual=0 if rows == columns else None,
        activation=Activation(activation),
        scale=scale,
        shift=shift,
    )
    network = layer(sparse(random, rows, columns, density), positions, epilogue)
    inputs = random.standard_normal((2, *network.inputs[0])).astype(np.float32)
    assert_right(network, inputs)


def test_rows_that_are_much_longer_than_others() -> None:
    random = np.random.default_rng(0)
    weights = np.tril(random.standard_normal((131, 131))).astype(np.float32)
    weights[::5] = 0
    network = layer(weights, 40, Epilogue(residual=0))
    assert_right(network, random.standard_normal((1, *network.inputs[0])).astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_the_rows_that_read_it_and_no_others(value: float) -> None:
    random = np.random.default_rng(0)
    weights = np.abs(sparse(random, 70, 300, 0.1))
    weights[:, [0, 150, 299]] = 0
    weights[np.array([1, 30, 69])[:, None], [0, 150, 299]] = 2.0
    network = layer(weights, 33)
    inputs = np.ones((1, 300, 1, 33), np.float32)
    inputs[0, [0, 150, 299], 0, [0, 16, 32]] = value
    expected = layer(weights, 33)
    finite = run_portable(expected, np.ones_like(inputs), dtype=np.float64)
    for column, position in ((0, 0), (150, 16), (299, 32)):
        finite[0, weights[:, column] != 0, 0, position] = value
    for instruction_set in COMPILED:
        found = Engine(network, instruction_set)(inputs)
        np.testing.assert_allclose(found, finite, rtol=1e-6)


@pytest.mark.parametrize("examples", [9, 16, 33, 64, 70])
def test_features_of_many_examples_are_read_by_their_own_rows_alone(examples: int) -> None:
    random = np.random.default_rng(examples)
    weights = sparse(random, 131, 700, 0.1)
    weights[::7] = 0
    bias = random.standard_normal(131).astype(np.float32)
    first = Linear(0, pack_weights(weights, "csr"), bias, Epilogue(activation=Activation("gelu")))
    second = Linear(1, pack_weights(sparse(random, 131, 131, 0.2), "csr"), bias, Epilogue(1))
    inputs = random.standard_normal((examples, 700)).astype(np.float32)
    assert_right(Network((700,), (first, second), 2), inputs)
    inputs[3, 5] = np.nan
    expected = np.zeros((examples, 131), bool)
    expected[3] = weights[:, 5] != 0
    for instruction_set in COMPILED:
        found = Engine(Network((700,), (first,), 1), instruction_set)(inputs)
        np.testing.assert_array_equal(np.isnan(found), expected)


@pytest.mark.parametrize("examples", [1, 33])
@pytest.mark.parametrize("least", [1.0, 1e-38, 1e-44])
def test_rows_of_very_unequal_length_keep_what_is_infinite(examples: int, least: float) -> None:
    weights = np.zeros((66, 600), np.float32)
    weights[::4] = 0.5  # 17 rows, of which one shares its quad with short ones
    weights[np.arange(66), np.arange(66) * 9] = least
    inputs = np.ones((examples, 600, 1, 32), np.float32)
    inputs[0, :, 0, 3] = np.inf
    inputs[0, ::2, 0, 5] = -np.inf
    exact = np.empty((examples, 66, 1, 32))
    for row, stored in enumerate(weights):  # of what is stored alone, as the engine reads no other
        read = np.flatnonzero(stored)
        exact[:, row] = np.einsum("c,ncyx->nyx", np.float64(stored[read]), inputs[:, read])
    exact += (np.arange(66) / 66)[:, None, None]
    features = Linear(0, pack_weights(weights, "csr"), np.arange(66, dtype=np.float32) / 66)
    for network, read_by_it, expected in (
        (layer(weights, 32), inputs, exact),
        (Network((600,), (features,), 1), inputs[:, :, 0, 3].copy(), exact[..., 0, 3]),
    ):
        for instruction_set in COMPILED:
            found = Engine(network, instruction_set)(read_by_it)
            np.testing.assert_allclose(found, expected, rtol=1e-6)

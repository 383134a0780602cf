"""Images of one example whose tiles lie in the lanes of vectors, against float64."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_answers import COMPILED, assert_right
from gossamer.engine import (
    Activation,
    Convolution,
    Epilogue,
    Floats,
    Network,
    Pair,
    Pooling,
    Reshape,
    pack_weights,
    window_positions,
)
from gossamer.engine.native import Engine

pytestmark = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")

RELU = Activation("relu")
SIZES = (7, 8, 14, 16, 23, 28, 30, 32, 56, 57)


def convolution(
    random: np.random.Generator,
    value: int,
    channels: Pair,
    kernel: Pair = (3, 3),
    stride: Pair = (1, 1),
    padding: Pair = (1, 1),
    dilation: Pair = (1, 1),
    epilogue: Epilogue | None = None,
) -> Convolution:
    matrix = random.standard_normal((channels[1], channels[0] * kernel[0] * kernel[1]))
    matrix *= random.random(matrix.shape) < 0.3
    return Convolution(
        value,
        pack_weights(matrix.astype(np.float32), "csr"),
        kernel,
        stride,
        padding,
        dilation,
        1,
        random.standard_normal(channels[1]).astype(np.float32),
        epilogue or Epilogue(activation=RELU),
    )


def inputs_of(network: Network, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    return random.standard_normal(network.input_shape, dtype=np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_blocks_with_residuals_and_strides(size: int) -> None:
    """Two blocks of a residual network: the second halves the image, whose tiles then differ."""
    random = np.random.default_rng(size)
    one = convolution
    layers = (
        one(random, 0, (3, 20)),
        one(random, 1, (20, 20)),
        one(random, 2, (20, 20), epilogue=Epilogue(activation=RELU, residual=1)),
        one(random, 3, (20, 70), stride=(2, 2)),
        one(random, 3, (20, 70), (1, 1), (2, 2), (0, 0), epilogue=Epilogue()),
        one(random, 4, (70, 70), epilogue=Epilogue(activation=RELU, residual=5)),
        one(random, 6, (70, 33), (1, 1), padding=(0, 0)),
        one(random, 7, (33, 5)),
    )
    network = Network((3, size, size), layers, len(layers))
    assert_right(network, inputs_of(network))


@pytest.mark.parametrize(
    "pooling",
    [
        Pooling("max", (3, 3), (2, 2), (1, 1)),
        Pooling("max", (2, 2), (2, 2)),
        Pooling("max", (3, 2), (1, 3), (1, 0), (1, 2)),
        Pooling("max", (3, 3), (2, 2), (1, 1), ceil=True),
        Pooling("average", (2, 2), (2, 2)),
    ],
)
@pytest.mark.parametrize("size", [20, 57, 112])
def test_the_maximum_of_what_lies_around_a_tile(pooling: Pooling, size: int) -> None:
    """Of negative numbers too, which the zeros around an image are no maximum of."""
    random = np.random.default_rng(size)
    pooled = Epilogue(pooling=pooling)
    layers = (
        convolution(random, 0, (3, 20), (7, 7), (2, 2), (3, 3), epilogue=pooled),
        convolution(random, 1, (20, 20)),
        convolution(random, 2, (20, 20)),
    )
    assert_right(network := Network((3, size, size), layers, 3), inputs_of(network))


@pytest.mark.parametrize("size", [7, 14, 20])
def test_averages_of_whole_images(size: int) -> None:
    """Not of what lies in the tiles beside them."""
    random = np.random.default_rng(size)
    whole = Pooling("average", (size, size), (size, size))
    layers = (
        convolution(random, 0, (3, 20)),
        convolution(random, 1, (20, 20)),
        convolution(random, 2, (20, 20), (1, 1), padding=(0, 0), epilogue=Epilogue(residual=1)),
        convolution(random, 3, (20, 20), epilogue=Epilogue(residual=3, pooling=whole)),
    )
    assert_right(network := Network((3, size, size), layers, 4), inputs_of(network))


def test_values_that_others_read_do_not_lie_in_tiles() -> None:
    random = np.random.default_rng(0)
    layers = (
        convolution(random, 0, (4, 20)),
        convolution(random, 1, (20, 20)),
        convolution(random, 2, (20, 20), epilogue=Epilogue(activation=RELU, residual=1)),
        Reshape(3, (20 * 784,)),
    )
    for outputs in ((4,), (2, 4)):
        network = Network((4, 28, 28), layers, outputs=outputs)
        x = inputs_of(network)[None]
        expected = Engine(network, "numpy").run((x,))
        for instruction_set in COMPILED:
            found = Engine(network, instruction_set).run((x,))
            for one, other in zip(found, expected, strict=True):
                assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_its_windows_alone(value: float) -> None:
    random = np.random.default_rng(0)
    layers = tuple(convolution(random, n, (6, 6), epilogue=Epilogue()) for n in range(2))
    network = Network((6, 30, 30), layers, 2)
    inputs = inputs_of(network)
    for at in ((0, 0), (7, 15), (29, 29)):
        broken = inputs.copy()
        broken[(slice(None), *at)] = value
        found = Engine(network)(broken[None])[0]
        rows, columns = np.ogrid[:30, :30]
        near = (abs(rows - at[0]) <= 2) & (abs(columns - at[1]) <= 2)
        assert np.isfinite(found[:, ~near]).all()
        np.testing.assert_array_equal(found[:, ~near], Engine(network)(inputs[None])[0][:, ~near])
        assert not np.isfinite(found[:, near]).all()


@st.composite
def networks(draw: st.DrawFn) -> Network:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = size = draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES))
    layers: list[Convolution] = []
    channels = 2
    for value in range(draw(st.integers(2, 4))):
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 3), (2, 4)]))
        stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)]))
        padding = draw(st.sampled_from([(0, 0), (1, 1), (2, 1)]))
        dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1)]))
        rows = draw(st.sampled_from([3, 20, 40]))
        layer = convolution(random, value, (channels, rows), kernel, stride, padding, dilation)
        found = window_positions((height, width), kernel, stride, padding, dilation)
        if min(found) < 1:
            break
        (height, width), channels = found, rows
        layers.append(layer)
    last = layers[-1] if layers else convolution(random, 0, (2, 2))
    layers = [*layers[:-1], replace(last, epilogue=Epilogue())]
    return Network((2, *size), tuple(layers), len(layers))


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1))
def test_random_chains(network: Network, seed: int) -> None:
    assert_right(network, inputs_of(network, seed))


def test_threads_at_strips_of_other_lengths_leave_each_others_sums_alone() -> None:
    """Sums of a slice of the columns wait in memory, more of them for a longer strip."""
    random = np.random.default_rng(0)
    layers = tuple(convolution(random, number, (40, 40)) for number in range(2))
    network = Network((40, 8, 57), layers, 2)
    inputs = inputs_of(network)[None]
    engine = Engine(network, COMPILED[0])
    expected = engine(inputs)
    for _ in range(1000):
        np.testing.assert_array_equal(engine(inputs, threads=2), expected)

"""The compiled engine against the portable one in float64, over random networks."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine_answers import COMPILED, allowed_error
from gossamer.engine import (
    Activation,
    Convolution,
    Epilogue,
    Layout,
    Linear,
    Network,
    Operator,
    Pair,
    Pooling,
    pack_weights,
    run_portable,
    window_positions,
)
from gossamer.engine.native import Engine

pytestmark = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")

ACTIVATIONS = (
    "identity", "relu", "relu6", "leaky-relu", "elu", "gelu", "gelu-tanh", "silu", "hardswish",
    "sigmoid", "tanh",
)  # fmt: skip
KINDS: tuple[Layout, ...] = ("dense", "csr", "block")
BATCHES = st.integers(0, 130)


def sparse_matrix(
    random: np.random.Generator, rows: int, columns: int, density: float
) -> NDArray[np.float32]:
    values = random.standard_normal((rows, columns)) / np.sqrt(max(1.0, density * columns))
    return np.where(random.random((rows, columns)) < density, values, 0.0).astype(np.float32)


def assert_equal_to_float64(
    network: Network, inputs: NDArray[np.float32], threads: int = 1, tolerance: float = 1e-5
) -> None:
    expected = run_portable(network, inputs, dtype=np.float64)
    allowed = allowed_error(network, inputs, expected, tolerance)
    for instruction_set in COMPILED:
        given_back = Engine(network, instruction_set)(inputs, threads)
        assert given_back.shape == expected.shape
        assert given_back.dtype == np.float32
        # The maximum of a window that lies outside of the image is -inf.
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(given_back[~finite], expected[~finite])
        error = np.abs(given_back[finite] - expected[finite]).max(initial=0.0)
        assert error <= allowed, (instruction_set, error, allowed)


@st.composite
def epilogues(draw: st.DrawFn, channels: int, residual: int | None) -> Epilogue:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, shift = random.standard_normal((2, channels)).astype(np.float32)
    return Epilogue(
        residual=residual if residual is not None and draw(st.booleans()) else None,
        activation=Activation(
            draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from((0.1, 1.0)))
        ),
        scale=scale if draw(st.booleans()) else None,
        shift=shift if draw(st.booleans()) else None,
    )


POOLING_KINDS: tuple[Literal["max", "average"], ...] = ("max", "average")


@st.composite
def poolings(draw: st.DrawFn) -> Pooling:
    kind = draw(st.sampled_from(POOLING_KINDS))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2))) if kind == "max" else (1, 1)
    return draw(
        st.sampled_from(
            (
                Pooling(
                    kind,
                    kernel,
                    stride,
                    padding,
                    dilation,
                    draw(st.booleans()),
                    draw(st.booleans()),
                ),
                Pooling(kind, (2, 2), (2, 2)),
            )
        )
    )


def fits(shape: tuple[int, ...], pooling: Pooling) -> bool:
    found = window_positions(
        shape[1:], pooling.kernel, pooling.stride, pooling.padding, pooling.dilation, pooling.ceil
    )
    return min(found) >= 1


@st.composite
def linear_networks(draw: st.DrawFn) -> Network:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    widths = draw(st.lists(st.integers(1, 70), min_size=2, max_size=4))
    layers: list[Operator] = []
    shapes = [widths[0]]
    for rows, columns in zip(widths[1:], widths, strict=False):
        density = draw(st.sampled_from((0.0, 0.02, 0.1, 0.5, 1.0)))
        matrix = sparse_matrix(random, rows, columns, density)
        bias = random.standard_normal(rows).astype(np.float32) if draw(st.booleans()) else None
        same = [number for number, size in enumerate(shapes) if size == rows]
        epilogue = draw(epilogues(rows, same[0] if same else None))
        weights = pack_weights(matrix, draw(st.sampled_from(KINDS)))
        layers.append(Linear(len(layers), weights, bias, epilogue))
        shapes.append(rows)
    return Network((widths[0],), tuple(layers), len(layers))


@settings(max_examples=25)
@given(linear_networks(), BATCHES, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_linear_networks(network: Network, examples: int, threads: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((examples, *network.input_shape)).astype(np.float32)
    assert_equal_to_float64(network, inputs, threads)


@st.composite
def convolutions(draw: st.DrawFn) -> Network:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.sampled_from((1, 1, 2, 3, 4)))
    depthwise = draw(st.integers(0, 4)) == 0
    channels = groups * (1 if depthwise else draw(st.integers(1, 6)))
    kind = draw(st.sampled_from(KINDS))
    # The 4 rows of a block may not lie in different groups.
    rows_a_group = draw(st.integers(1, 9)) if kind != "block" or groups == 1 else 4
    rows = groups * rows_a_group
    kernel: Pair = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride: Pair = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding: Pair = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    dilation: Pair = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [dilation[axis] * (kernel[axis] - 1) + 1 - 2 * padding[axis] for axis in (0, 1)]
    size = [draw(st.integers(max(1, reach[axis]), max(1, reach[axis]) + 18)) for axis in (0, 1)]
    density = draw(st.sampled_from((0.0, 0.05, 0.2, 1.0)))
    taps = channels // groups * kernel[0] * kernel[1]
    matrix = sparse_matrix(random, rows, taps, density)
    sums = (rows, *window_positions(size, kernel, stride, padding, dilation))
    bias = draw(st.sampled_from((None, (rows,), sums)))
    values = None if bias is None else random.standard_normal(bias).astype(np.float32)
    epilogue = draw(epilogues(rows, 0 if sums == (channels, *size) else None))
    pooling = draw(st.none() | poolings())
    if pooling is not None and fits(sums, pooling):
        epilogue = Epilogue(
            epilogue.residual, epilogue.activation, epilogue.scale, epilogue.shift, pooling
        )
    layer = Convolution(
        0,
        pack_weights(matrix, kind),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        values,
        epilogue,
    )
    return Network((channels, size[0], size[1]), (layer,), 1)


@settings(max_examples=80)
@given(convolutions(), st.integers(0, 40), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_convolutions(network: Network, examples: int, threads: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((examples, *network.input_shape)).astype(np.float32)
    assert_equal_to_float64(network, inputs, threads)

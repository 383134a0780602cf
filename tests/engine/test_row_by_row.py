"""Convolutions of large images that follow each other, which the engine computes row by row."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gossamer.engine import (
    Activation,
    Convolution,
    Epilogue,
    Layout,
    Network,
    Pair,
    Pooling,
    pack_weights,
    run_portable,
    window_positions,
)
from gossamer.engine.native import Engine, available_instruction_sets

COMPILED = tuple(name for name in available_instruction_sets() if name != "numpy")
pytestmark = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")
on_every_set = pytest.mark.parametrize("instruction_set", COMPILED)

RELU = Activation("relu")
PAIRS = {kind: Pooling(kind, (2, 2), (2, 2)) for kind in ("max", "average")}
TALL: Pair = (100, 90)
"""Of 8 channels, 8 examples side by side are larger than the second cache; ten rows of it fit."""
WIDE: Pair = (9, 1300)
"""Not even the rows that one window needs are smaller than the cache."""


def assert_like_float64(
    network: Network, inputs: NDArray[np.float32], *instruction_sets: str
) -> None:
    expected = run_portable(network, inputs, dtype=np.float64)
    for one in instruction_sets:
        found = Engine(network, one)(inputs)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), one


def random_inputs(network: Network, examples: int, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return random.standard_normal((examples, *network.input_shape), dtype=np.float32)


@dataclass(frozen=True)
class One:
    """A convolution but for its weights."""

    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    epilogue: Epilogue = field(default_factory=lambda: Epilogue(activation=RELU))


def chain(size: Pair, *ones: One, kind: Layout = "csr", seed: int = 0) -> Network:
    """Return convolutions of 8 channels, each of which reads what the one before gives."""
    random = np.random.default_rng(seed)
    layers = []
    for number, one in enumerate(ones):
        matrix = random.standard_normal((8, 8 // one.groups * one.kernel[0] * one.kernel[1]))
        matrix *= random.random(matrix.shape) < 0.4
        layers.append(
            Convolution(
                number,
                pack_weights(matrix.astype(np.float32), kind),
                one.kernel,
                one.stride,
                one.padding,
                one.dilation,
                one.groups,
                random.standard_normal(8).astype(np.float32),
                one.epilogue,
            )
        )
    return Network((8, *size), tuple(layers), len(layers))


PLAIN = One()
POOLED = One(epilogue=Epilogue(activation=RELU, pooling=PAIRS["max"]))
AVERAGED = One(epilogue=Epilogue(pooling=PAIRS["average"]))
LATER = Pooling("max", (3, 3), (2, 2), (1, 1))
IN_A_SECOND_PASS = (
    LATER,
    Pooling("average", (3, 2), (1, 3), (1, 1)),
    Pooling("max", (2, 3), (3, 2), (0, 1), (2, 2)),
    Pooling("average", (1, 1), (4, 5)),
)
CHAINS = {
    "two": (PLAIN, PLAIN),
    "pooled at the end": (PLAIN, POOLED),
    "pooled throughout": (POOLED, AVERAGED, PLAIN),
    "longer than a stage": (PLAIN,) * 7,
    "no padding": (One(padding=(0, 0)),) * 3,
    "rows that are left out": (PLAIN, One((1, 1), (3, 2), (0, 0)), PLAIN),
    "windows that lie outside": (PLAIN, One((1, 1), padding=(3, 2)), PLAIN),
    "far apart": (One((5, 3), padding=(4, 0), dilation=(2, 3)), PLAIN) * 2,
    "windows as tall as half of the image": (PLAIN, One(dilation=(24, 1), padding=(24, 1)), PLAIN),
    "zeros far above and below": (PLAIN, One((1, 1), padding=(40, 0)), PLAIN),
    "groups": (One(groups=4), One(groups=8), PLAIN),
    "a residual from before": (PLAIN, PLAIN, One(epilogue=Epilogue(residual=0))),
    "a residual from within": (PLAIN, PLAIN, One(epilogue=Epilogue(residual=1))),
    "pooled in a second pass": (One(epilogue=Epilogue(pooling=LATER)), PLAIN),
    "inverted residuals": (
        One((1, 1), padding=(0, 0)),
        One(groups=8),
        One((1, 1), padding=(0, 0)),
        One((1, 1), padding=(0, 0)),
        One(stride=(2, 2), groups=8),
        PLAIN,
    ),
}


@pytest.mark.parametrize("size", [TALL, WIDE], ids=["tall", "wide"])
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_convolutions(name: str, size: Pair) -> None:
    network = chain(size, *CHAINS[name], kind="block" if name == "two" else "csr")
    assert_like_float64(network, random_inputs(network, 11), *COMPILED)


@on_every_set
def test_a_value_between_that_is_read_again(instruction_set: str) -> None:
    first, second = chain(TALL, PLAIN, PLAIN).layers
    network = Network((8, *TALL), (first, second), 1)
    assert_like_float64(network, random_inputs(network, 8), instruction_set)


@on_every_set
@pytest.mark.parametrize("name", ["two", "pooled throughout", "windows that lie outside"])
def test_nothing_is_left_of_the_examples_before(instruction_set: str, name: str) -> None:
    network = chain(TALL, *CHAINS[name])
    engine = Engine(network, instruction_set)
    inputs = random_inputs(network, 20)
    expected = engine(inputs)
    assert np.isnan(engine(np.full_like(inputs, np.nan))).any()
    np.testing.assert_array_equal(engine(inputs), expected)
    np.testing.assert_array_equal(engine(inputs, threads=2), expected)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    first: Pair = draw(st.sampled_from((TALL, WIDE, (400, 20))))
    size, ones = first, []
    for _ in range(draw(st.integers(2, 7))):
        kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
        stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
        padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 2)))
        dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        sums = window_positions(size, kernel, stride, padding, dilation)
        if min(sums) < 2:
            break
        later = IN_A_SECOND_PASS if min(sums) >= 5 else ()
        pooling = draw(st.sampled_from((None, None, *PAIRS.values(), *later)))
        activation = draw(st.sampled_from((Activation(), RELU)))
        epilogue = Epilogue(activation=activation, pooling=pooling)
        ones.append(One(kernel, stride, padding, dilation, epilogue=epilogue))
        height, width = pooling.infer_shape((8, *sums))[1:] if pooling else sums
        size = (height, width)
    kind: Layout = draw(st.sampled_from(("csr", "block", "dense")))
    return chain(first, *(ones or [PLAIN]), kind=kind, seed=draw(st.integers(0, 2**32 - 1)))


@settings(max_examples=25)
@given(networks(), st.integers(1, 20))
def test_random_chains(network: Network, examples: int) -> None:
    assert_like_float64(network, random_inputs(network, examples), *COMPILED)

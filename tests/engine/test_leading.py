"""Large images: the first layers one example after the other, the others side by side."""

import numpy as np
import pytest

from engine_answers import COMPILED
from gossamer.engine import (
    Activation,
    Convolution,
    Epilogue,
    Linear,
    Network,
    Operator,
    Pair,
    Pooling,
    Reshape,
    pack_weights,
)
from gossamer.engine.native import Engine
from gossamer.engine.portable import run_portable_all

pytestmark = pytest.mark.skipif("avx512" not in COMPILED, reason="without AVX-512")

SIDE, WIDE = 60, 80
MOST = 29


def convolution(
    random: np.random.Generator,
    value: int,
    channels: Pair,
    kernel: int = 1,
    stride: int = 1,
    epilogue: Epilogue | None = None,
) -> Convolution:
    matrix = random.standard_normal((channels[1], channels[0] * kernel**2))
    matrix *= random.random(matrix.shape) < 0.05
    matrix[:, 0] = 1.0
    weights = pack_weights(matrix.astype(np.float32), "csr")
    bias = random.standard_normal(channels[1]).astype(np.float32)
    return Convolution(
        value,
        weights,
        (kernel, kernel),
        (stride, stride),
        (kernel // 2, kernel // 2),
        bias=bias,
        epilogue=epilogue or Epilogue(activation=Activation("relu")),
    )


def network_of(*outputs: int) -> Network:
    """Values 1 to 3 are large, value 4 lies between both parts."""
    random = np.random.default_rng(0)
    pooled = Epilogue(residual=5, pooling=Pooling("average", (15, 15), (15, 15)))
    layers: tuple[Operator, ...] = (
        convolution(random, 0, (3, WIDE)),
        convolution(random, 1, (WIDE, WIDE)),
        convolution(random, 2, (WIDE, WIDE), epilogue=Epilogue(residual=1)),
        convolution(random, 3, (WIDE, 8)),
        convolution(random, 4, (8, 20), 3, 2),
        convolution(random, 5, (20, 20), 3, epilogue=pooled),
        Reshape(6, (80,)),
        Linear(7, pack_weights(random.standard_normal((5, 80)).astype(np.float32), "dense")),
    )
    reached = max(outputs)
    return Network((3, SIDE, SIDE), layers[:reached], outputs)


def examples(count: int) -> np.ndarray:
    shape = (count, 3, SIDE, SIDE)
    return np.random.default_rng(count).standard_normal(shape, dtype=np.float32)


def leading(network: Network) -> int:
    compiled = Engine(network, "avx512")._compiled
    assert compiled is not None
    return compiled.leading


@pytest.fixture(scope="module")
def exact() -> dict[int, np.ndarray]:
    """Every value that may be an output, of all examples, in float64."""
    values = (4, 5, 6, 8)
    found = run_portable_all(network_of(*values), (examples(MOST),), np.float64)
    return dict(zip(values, found, strict=True))


@pytest.mark.parametrize(("outputs", "alone"), [((8,), 6), ((4, 8), 4), ((6, 5), 5)])
def test_both_parts_are_float64(
    outputs: tuple[int, ...], alone: int, exact: dict[int, np.ndarray]
) -> None:
    network = network_of(*outputs)
    assert leading(network) == alone
    inputs = examples(MOST)
    engine = Engine(network, "avx512")
    for count in (12, 13, MOST):
        found = engine.run([inputs[:count]])
        for one, value in zip(found, outputs, strict=True):
            expected = exact[value][:count]
            assert np.abs(one - expected).max() <= 1e-5 * np.abs(expected).max(), (count, value)
        for threads in (2, 3):
            for one, again in zip(found, engine.run([inputs[:count]], threads), strict=True):
                np.testing.assert_array_equal(one, again)


def test_layers_of_both_parts_are_timed() -> None:
    network = network_of(8)
    seconds = Engine(network, "avx512").layer_seconds(examples(16), repeats=1)
    taken = [
        one for one, layer in zip(seconds, network.layers, strict=True) if layer.name != "reshape"
    ]
    assert min(taken) > 0


def test_a_value_that_is_read_later_keeps_its_layers_together() -> None:
    random = np.random.default_rng(0)
    layers = (
        convolution(random, 0, (3, WIDE)),
        convolution(random, 1, (WIDE, WIDE)),
        convolution(random, 2, (WIDE, WIDE)),
        convolution(random, 3, (WIDE, WIDE), 3, 2),
        convolution(random, 1, (WIDE, WIDE), 1, 2, Epilogue(residual=4)),
    )
    assert leading(Network((3, SIDE, SIDE), layers, 5)) in (0, 1)


def test_small_images_are_computed_side_by_side() -> None:
    random = np.random.default_rng(0)
    layers = tuple(convolution(random, value, (3 if value == 0 else 16, 16)) for value in range(5))
    assert leading(Network((3, 32, 32), layers, 5)) == 0

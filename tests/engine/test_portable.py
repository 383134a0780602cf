import math
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.engine import (
    Activation,
    ActivationName,
    Concatenate,
    Convolution,
    Epilogue,
    Layout,
    Linear,
    Network,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Softmax,
    pack_weights,
    run_portable,
    unpack_rows,
)
from gossamer.engine import weights as packing

ALPHA = 0.3
TORCH: dict[ActivationName, Any] = {
    "identity": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky-relu": lambda x: functional.leaky_relu(x, ALPHA),
    "elu": lambda x: functional.elu(x, ALPHA),
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "hardswish": functional.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}

kinds = st.sampled_from(["dense", "csr", "block"])
seeds = st.integers(0, 2**32 - 1)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def scattered(generator: np.random.Generator, *shape: int, density: float = 0.5) -> NDArray[Any]:
    numbers = generator.standard_normal(shape) * (generator.random(shape) < density)
    return numbers.astype(np.float32)


def ran(network: Network, inputs: NDArray[Any]) -> NDArray[Any]:
    return run_portable(network, inputs, np.float64)


def assert_close(found: NDArray[Any], expected: torch.Tensor) -> None:
    wanted = expected.numpy()
    assert found.shape == wanted.shape
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13 * (1 + np.abs(wanted).max()))


@given(seeds, kinds, st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_linear_is_pytorchs(
    seed: int, kind: Layout, rows: int, columns: int, density: float
) -> None:
    generator = np.random.default_rng(seed)
    matrix = scattered(generator, rows, columns, density=density)
    bias = scattered(generator, rows)
    inputs = generator.standard_normal((5, columns))
    network = Network((columns,), (Linear(0, pack_weights(matrix, kind), bias),), 1)
    expected = functional.linear(*(torch.tensor(a).double() for a in (inputs, matrix, bias)))
    assert_close(ran(network, inputs), expected)


@settings(max_examples=300)
@given(st.data())
def test_convolution_is_pytorchs(data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(seeds))
    kind = cast("Layout", data.draw(kinds))
    groups = data.draw(st.integers(1, 3))
    rows = groups * data.draw(st.sampled_from([4, 8] if kind == "block" else [1, 2, 5]))
    channels = groups * data.draw(st.integers(1, 3))
    kernel, stride, dilation = data.draw(pairs), data.draw(pairs), data.draw(pairs)
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    height, width = (
        max(1, r - 2 * p) + data.draw(st.integers(0, 4))
        for r, p in zip(reach, padding, strict=True)
    )
    weight = scattered(generator, rows, channels // groups, *kernel, density=generator.random())
    inputs = generator.standard_normal((3, channels, height, width))
    expected = functional.conv2d(
        torch.tensor(inputs), torch.tensor(weight).double(), None, stride, padding, dilation, groups
    )
    per_position = data.draw(st.booleans())
    bias = scattered(generator, *(expected.shape[1:] if per_position else (rows,)))
    weights = pack_weights(weight.reshape(rows, -1), kind)
    layer = Convolution(0, weights, kernel, stride, padding, dilation, groups, bias)
    found = ran(Network((channels, height, width), (layer,), 1), inputs)
    assert_close(found, expected + torch.tensor(bias if per_position else bias[:, None, None]))


@st.composite
def poolings(draw: st.DrawFn, kind: Literal["max", "average"]) -> Pooling:
    kernel, stride = draw(pairs), draw(pairs)
    dilation = draw(pairs) if kind == "max" else (1, 1)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return Pooling(
        kind, kernel, stride, cast("tuple[int, int]", padding), dilation,
        ceil=draw(st.booleans()), counts_padding=draw(st.booleans()),
    )  # fmt: skip


@settings(max_examples=300)
@given(seeds, poolings("max"), st.integers(1, 9), st.integers(1, 9))
def test_max_pooling_is_pytorchs(seed: int, pooling: Pooling, height: int, width: int) -> None:
    inputs = np.random.default_rng(seed).standard_normal((2, 3, height, width))
    network = Network((3, height, width), (Pool(0, pooling),), 1)
    try:
        expected = functional.max_pool2d(
            torch.tensor(inputs), pooling.kernel, pooling.stride, pooling.padding,
            pooling.dilation, pooling.ceil,
        )  # fmt: skip
    except RuntimeError:
        with pytest.raises(InputError, match="kernel reaches"):
            ran(network, inputs)
    else:
        np.testing.assert_array_equal(ran(network, inputs), expected.numpy())


@settings(max_examples=300)
@given(seeds, poolings("average"), st.integers(1, 9), st.integers(1, 9))
def test_average_pooling_is_pytorchs(seed: int, pooling: Pooling, height: int, width: int) -> None:
    inputs = np.random.default_rng(seed).standard_normal((2, 3, height, width))
    network = Network((3, height, width), (Pool(0, pooling),), 1)
    try:
        expected = functional.avg_pool2d(
            torch.tensor(inputs), pooling.kernel, pooling.stride, pooling.padding, pooling.ceil,
            pooling.counts_padding,
        )  # fmt: skip
    except RuntimeError:
        with pytest.raises(InputError, match="kernel reaches"):
            ran(network, inputs)
    else:
        assert_close(ran(network, inputs), expected)


@pytest.mark.parametrize("name", TORCH)
def test_activations_are_pytorchs(name: ActivationName) -> None:
    inputs = np.concatenate([np.linspace(-40, 40, 4001), [0.0, -0.0, 1e-30, -1e-30, 3, -3, 6]])
    network = Network((1,), (Pointwise(0, Epilogue(activation=Activation(name, ALPHA))),), 1)
    found = ran(network, inputs[:, None])
    assert_close(found, TORCH[name](torch.tensor(inputs[:, None])))


@pytest.mark.parametrize("name", TORCH)
def test_activations_in_single_precision_stay_there(name: ActivationName) -> None:
    inputs = np.linspace(-120, 120, 4001, dtype=np.float32)[:, None]
    network = Network((1,), (Pointwise(0, Epilogue(activation=Activation(name, ALPHA))),), 1)
    found = run_portable(network, inputs)
    expected = TORCH[name](torch.tensor(inputs).double()).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("shape", [(7,), (7, 2, 3)])
def test_softmax_is_pytorchs(logarithm: bool, shape: tuple[int, ...]) -> None:
    inputs = 100 * np.random.default_rng(1).standard_normal((4, *shape))
    function: Any = functional.log_softmax if logarithm else functional.softmax
    found = ran(Network(shape, (Softmax(0, logarithm),), 1), inputs)
    assert_close(found, function(torch.tensor(inputs), dim=1))


def residual_network(generator: np.random.Generator) -> Network:
    """Two branches, joined in every way there is, that end in three classes."""
    weight = [scattered(generator, 4, 9 * channels) for channels in (2, 4)]
    numbers = [scattered(generator, 4, density=1) for _ in range(4)]
    head = pack_weights(scattered(generator, 3, 8 * 9), "block")
    return Network(
        (2, 6, 6),
        (
            Convolution(
                0, pack_weights(weight[0], "csr"), (3, 3), padding=(1, 1), bias=numbers[0]
            ),
            Convolution(
                1, pack_weights(weight[1], "block"), (3, 3), padding=(1, 1),
                epilogue=Epilogue(
                    1, Activation("relu"), numbers[1], numbers[2], Pooling("max", (2, 2), (2, 2))
                ),
            ),
            Pool(1, Pooling("average", (2, 2), (2, 2))),
            Concatenate((2, 3)),
            Reshape(4, (72,)),
            Linear(5, head),
        ),
        6,
    )  # fmt: skip


def test_a_whole_network_is_pytorchs() -> None:
    generator = np.random.default_rng(3)
    network = residual_network(generator)
    inputs = generator.standard_normal((5, 2, 6, 6))
    first, second, *_, last = network.layers
    assert isinstance(first, Convolution)
    assert isinstance(second, Convolution)
    assert isinstance(last, Linear)

    def tensor(array: Any) -> torch.Tensor:
        return torch.tensor(array).double()

    def kernel(layer: Convolution) -> torch.Tensor:
        return tensor(unpack_rows(layer.weights, 0, 4)).view(4, -1, 3, 3)

    x1 = functional.conv2d(tensor(inputs), kernel(first), tensor(first.bias), padding=1)
    x2 = functional.relu(functional.conv2d(x1, kernel(second), padding=1) + x1)
    affine = [tensor(a)[:, None, None] for a in (second.epilogue.scale, second.epilogue.shift)]
    x2 = functional.max_pool2d(x2 * affine[0] + affine[1], 2)
    joined = torch.cat([x2, functional.avg_pool2d(x1, 2)], 1).flatten(1)
    expected = functional.linear(joined, tensor(unpack_rows(last.weights, 0, 3)))
    assert_close(ran(network, inputs), expected)


def test_small_parts_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    network = residual_network(generator)
    inputs = generator.standard_normal((5, 2, 6, 6))
    whole = ran(network, inputs)
    monkeypatch.setattr(packing, "NUMBERS_AT_ONCE", 1)
    np.testing.assert_allclose(ran(network, inputs), whole, rtol=1e-12, atol=1e-12)


def test_values_between_may_be_the_output_and_nothing_may_read_a_value() -> None:
    relu = Pointwise(0, Epilogue(activation=Activation("relu")))
    tanh = Pointwise(0, Epilogue(activation=Activation("tanh")))
    inputs = np.array([[-1.0, 2.0]])
    assert ran(Network((2,), (relu, tanh), 1), inputs).tolist() == [[0, 2]]
    assert ran(Network((2,), (relu,), 0), inputs).tolist() == inputs.tolist()
    assert ran(Network((2,), (), 0), inputs).tolist() == inputs.tolist()


def test_no_examples_give_no_results() -> None:
    network = residual_network(np.random.default_rng(5))
    assert run_portable(network, np.zeros((0, 2, 6, 6))).shape == (0, 3)


def test_overflow_is_silent_as_in_pytorch() -> None:
    weights = pack_weights(np.full((1, 1), 3e38), "dense")
    found = run_portable(Network((1,), (Linear(0, weights),), 1), np.array([[1e10]]))
    assert found[0, 0] == math.inf


@pytest.mark.parametrize("shape", [(2, 3), (2,), (), (2, 2, 6), (2, 2, 6, 6, 1)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    network = residual_network(np.random.default_rng(6))
    with pytest.raises(InputError, match=r"expected \[examples, 2, 6, 6\]"):
        run_portable(network, np.zeros(shape))


def test_inputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="expected real numbers"):
        run_portable(Network((1,), (), 0), np.array([["a"]]))

"""The engine on networks whose answers are known, and on what it must refuse."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine import (
    Activation,
    Concatenate,
    Convolution,
    Epilogue,
    Floats,
    Layout,
    Linear,
    Network,
    Permute,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Shape,
    Softmax,
    Weights,
    pack_weights,
    run_portable,
)
from gossamer.engine import native as engine_module
from gossamer.engine.native import Engine, available_instruction_sets

COMPILED = tuple(name for name in available_instruction_sets() if name != "numpy")
compiled = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")
on_every_set = pytest.mark.parametrize("instruction_set", available_instruction_sets())


def drawn(shape: Shape, density: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    numbers = random.standard_normal(shape)
    return np.where(random.random(shape) < density, numbers, 0.0).astype(np.float32)


def assert_near(outputs: NDArray[np.float32], expected: NDArray[np.floating]) -> None:
    assert outputs.shape == expected.shape
    error = np.abs(outputs - expected).max(initial=0.0)
    assert error <= 1e-5 * np.abs(expected).max(initial=0.0)


def convolution(
    reads: int, rows: int, channels: int, kind: Layout = "csr", epilogue: Epilogue | None = None
) -> Convolution:
    """Return one of 3 x 3, padded to keep the size, with a third of its weights."""
    weights = pack_weights(drawn((rows, 9 * channels), 1 / 3, seed=rows) / np.sqrt(channels), kind)
    bias = drawn((rows,), seed=1)
    epilogue = epilogue or Epilogue()
    return Convolution(reads, weights, (3, 3), padding=(1, 1), bias=bias, epilogue=epilogue)


def branching_network() -> Network:
    """Return one with every kind of layer, residuals, halves joined, images after features."""
    scale, shift = drawn((12,), seed=5), drawn((12,), seed=6)
    layers = (
        convolution(0, 8, 3, epilogue=Epilogue(activation=Activation("relu"))),  # 1: 8 x 9 x 7
        convolution(1, 8, 8, "block", Epilogue(1, Activation("gelu"))),  # 2
        Concatenate((2, 0, 1)),  # 3: 19 x 9 x 7
        convolution(3, 12, 19, "dense", Epilogue(scale=scale, shift=shift)),  # 4: 12 x 9 x 7
        Pool(4, Pooling("max", (3, 3), (2, 2), (1, 1))),  # 5: 12 x 5 x 4
        Reshape(5, (240,)),  # 6
        Linear(6, pack_weights(drawn((60, 240), 0.2) / 7, "csr")),  # 7
        Pointwise(7, Epilogue(activation=Activation("tanh"))),  # 8
        Reshape(8, (3, 5, 4)),  # 9
        convolution(9, 12, 3, epilogue=Epilogue(residual=5)),  # 10: 12 x 5 x 4
        Reshape(10, (240,)),  # 11
        Concatenate((8, 11, 7)),  # 12: 360
        Linear(12, pack_weights(drawn((9, 360), 0.1) / 9, "block"), drawn((9,))),  # 13
        Softmax(13),  # 14
    )
    return Network((3, 9, 7), layers, 14)


@on_every_set
@pytest.mark.parametrize("examples", [0, 1, 2, 3, 8, 9, 63, 64, 65, 130])
def test_a_network_with_every_kind_of_layer(instruction_set: str, examples: int) -> None:
    network = branching_network()
    inputs = drawn((examples, 3, 9, 7), seed=2)
    expected = run_portable(network, inputs, dtype=np.float64)
    for threads in (1, 2, 3):
        outputs = Engine(network, instruction_set)(inputs, threads)
        assert_near(outputs, expected)


@on_every_set
def test_any_value_may_be_the_output(instruction_set: str) -> None:
    network = branching_network()
    inputs = drawn((70, 3, 9, 7), seed=3)
    for output in range(len(network.layers) + 1):
        part = replace(network, outputs=(output,))
        expected = run_portable(part, inputs, dtype=np.float64)
        assert_near(Engine(part, instruction_set)(inputs), expected)


@on_every_set
def test_the_corner_of_a_padded_convolution(instruction_set: str) -> None:
    ones = pack_weights(np.ones((1, 9)), "csr")
    network = Network((1, 5, 4), (Convolution(0, ones, (3, 3), padding=(1, 1)),), 1)
    outputs = Engine(network, instruction_set)(np.ones((17, 1, 5, 4), np.float32))
    expected = np.full((5, 4), 9.0)
    expected[[0, -1]] = 6.0
    expected[:, [0, -1]] = 6.0
    expected[np.ix_([0, -1], [0, -1])] = 4.0
    assert (outputs == expected).all()


@on_every_set
@pytest.mark.parametrize("kind", ["dense", "csr", "block"])
def test_inputs_of_large_dynamic_range(instruction_set: str, kind: Layout) -> None:
    inputs = drawn((40, 600)) * np.logspace(-12, 12, 600, dtype=np.float32)
    matrix = drawn((30, 600), 0.3) * np.logspace(12, -12, 600, dtype=np.float32)
    network = Network((600,), (Linear(0, pack_weights(matrix, kind)),), 1)
    expected = inputs.astype(np.float64) @ matrix.T.astype(np.float64)
    outputs = Engine(network, instruction_set)(inputs)
    assert np.abs(outputs - expected).max() <= 1e-5 * np.abs(expected).max()


@cache
def many_channels(kind: Layout, pooled: bool, stride: int) -> tuple[Network, Floats, Floats]:
    """Return a network, its inputs, and what it computes of them in float64."""
    rows, channels, size = 52, 120, (13, 18)
    random = np.random.default_rng(1)
    density = random.choice((0.0, 0.1, 0.6), (rows, 1))
    matrix = np.where(random.random((rows, 9 * channels)) < density, drawn((rows, 9 * channels)), 0)
    epilogue = Epilogue(
        residual=None if pooled or stride > 1 else 1,
        activation=Activation("relu"),
        pooling=Pooling("max", (2, 2), (2, 2)) if pooled else None,
    )
    weights = pack_weights(matrix, kind)
    sliced = Convolution(
        0, weights, (3, 3), (stride, stride), (1, 1), bias=drawn((rows,)), epilogue=epilogue
    )
    network = Network((channels, *size), (convolution(0, rows, channels), sliced), 2)
    inputs = drawn((17, channels, *size), seed=3)
    return network, inputs, run_portable(network, inputs, dtype=np.float64)


@on_every_set
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", ["csr", "block"])
def test_images_of_more_channels_than_a_cache_holds(
    instruction_set: str, kind: Layout, pooled: bool, stride: int
) -> None:
    network, inputs, expected = many_channels(kind, pooled, stride)
    assert_near(Engine(network, instruction_set)(inputs), expected)


@on_every_set
@pytest.mark.parametrize("examples", [64, 100])
@pytest.mark.parametrize("kind", ["dense", "csr", "block"])
@pytest.mark.parametrize(("rows", "columns"), [(4301, 1500), (100, 9001)])
def test_inputs_that_no_cache_holds_at_once(
    instruction_set: str, rows: int, columns: int, kind: Layout, examples: int
) -> None:
    bias = drawn((rows,), seed=1)
    # From rows without a weight to rows that have most, in no order, and weights that lie together.
    random = np.random.default_rng(2)
    density = random.choice((0.0, 0.01, 0.1, 0.8), (rows, 1))
    matrix = np.where(random.random((rows, columns)) < density, drawn((rows, columns)), 0)
    matrix[5, :], matrix[5, 300:900] = 0, 1
    inputs = drawn((examples, columns), seed=3)
    relu = Epilogue(activation=Activation("relu"))
    layer = Linear(0, pack_weights(matrix, kind), bias, relu)
    expected = np.maximum(inputs.astype(np.float64) @ matrix.T.astype(np.float64) + bias, 0)
    assert_near(Engine(Network((columns,), (layer,), 1), instruction_set)(inputs), expected)


@on_every_set
@pytest.mark.parametrize("shape", [(1,), (7,), (514,), (1031,), (1, 1, 1), (3, 5, 7), (2, 4, 16)])
def test_numbers_come_out_as_they_went_in(instruction_set: str, shape: tuple[int, ...]) -> None:
    engine = Engine(Network(shape, (Pointwise(0, Epilogue()),), 1), instruction_set)
    for examples in (17, 31, 32, 64, 67, 127):
        inputs = drawn((examples, *shape), seed=examples)
        assert (engine(inputs) == inputs).all()


@on_every_set
@pytest.mark.parametrize(
    "name",
    ["relu", "relu6", "leaky-relu", "elu", "gelu", "gelu-tanh", "silu", "hardswish", "sigmoid",
     "tanh"],
)  # fmt: skip
def test_each_activation_to_the_last_digits(instruction_set: str, name: str) -> None:
    activation = Activation(name, 0.3)  # type: ignore[arg-type]
    network = Network((64,), (Pointwise(0, Epilogue(activation=activation)),), 1)
    small = np.logspace(-30, 1.5, 32, dtype=np.float32)
    inputs = np.concatenate([-small, small])[None].repeat(9, axis=0)
    expected = run_portable(network, inputs, dtype=np.float64)
    outputs = Engine(network, instruction_set)(inputs)
    near = np.abs(inputs) < 5
    np.testing.assert_allclose(outputs[near], expected[near], rtol=3e-6)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-9)


@on_every_set
@pytest.mark.parametrize("name", ["gelu", "gelu-tanh"])
def test_gelu_everywhere(instruction_set: str, name: str) -> None:
    x = np.linspace(-7, 7, 16 * 2001, dtype=np.float32).reshape(-1, 16)
    layer = Pointwise(0, Epilogue(activation=Activation(name)))  # type: ignore[arg-type]
    network = Network((16,), (layer,), 1)
    found = Engine(network, instruction_set)(x)
    expected = run_portable(network, x, dtype=np.float64)
    near = np.abs(x) < 4
    np.testing.assert_allclose(found[near], expected[near], rtol=2e-6, atol=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)
    edges = [np.nan, np.inf, 1e30, -0.0] * 4
    ends = Engine(network, instruction_set)(np.array([edges], np.float32).repeat(9, axis=0))
    np.testing.assert_array_equal(ends[0, :4], [np.nan, np.inf, np.float32(1e30), 0.0])


@on_every_set
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1, 3), (40, 1, 33), (17, 5, 50), (64, 2, 16)])
@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_axes_in_another_order_are_the_output(
    instruction_set: str, shape: tuple[int, int, int], order: tuple[int, int, int]
) -> None:
    turned = Network(shape, (Pointwise(0, Epilogue()), Permute(1, order)), (2, 1))
    for examples, threads in ((1, 1), (3, 2), (19, 1)):
        inputs = drawn((examples, *shape), seed=examples)
        found, same = Engine(turned, instruction_set).run((inputs,), threads)
        np.testing.assert_array_equal(found, inputs.transpose(0, *(axis + 1 for axis in order)))
        np.testing.assert_array_equal(same, inputs)


@on_every_set
def test_nan_and_infinity_spread(instruction_set: str) -> None:
    inputs = np.ones((9, 1, 4, 4), np.float32)
    inputs[0, 0, 0, 0] = np.nan
    inputs[1, 0, 3, 3] = np.inf
    pooled = Epilogue(activation=Activation("relu"), pooling=Pooling("max", (2, 2), (2, 2)))
    weights = pack_weights(np.ones((1, 1)), "csr")
    network = Network((1, 4, 4), (Convolution(0, weights, (1, 1), epilogue=pooled),), 1)
    outputs = Engine(network, instruction_set)(inputs)
    assert np.isnan(outputs[0, 0, 0, 0])
    assert np.isposinf(outputs[1, 0, 1, 1])
    assert np.isnan(outputs).sum() + np.isinf(outputs).sum() == 2


@on_every_set
def test_a_pruned_weight_skips_its_input(instruction_set: str) -> None:
    weights = pack_weights(np.array([[0.0, 1.0]]), "csr")
    network = Network((2,), (Linear(0, weights),), 1)
    inputs = np.array([[np.nan, 3.0]] * 8, np.float32)
    if instruction_set != "numpy":
        assert Engine(network, instruction_set)(inputs).tolist() == [[3.0]] * 8


def test_softmax_does_not_overflow() -> None:
    network = Network((3,), (Softmax(0),), 1)
    inputs = np.array([[1e4, 1e4, -1e4], [-3e38, 0.0, 0.0]] * 4, np.float32)
    expected = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]] * 4
    np.testing.assert_allclose(Engine(network)(inputs), expected, atol=1e-7)


@on_every_set
@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("examples", [1, 16])
def test_softmax_of_many_numbers(instruction_set: str, logarithm: bool, examples: int) -> None:
    network = Network((30_000,), (Softmax(0, logarithm),), 1)
    inputs = drawn((examples, 30_000)) / 10
    expected = run_portable(network, inputs, dtype=np.float64)
    found = Engine(network, instruction_set)(inputs)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@compiled
def test_memory_of_large_outputs_is_used_again_once_nobody_holds_it() -> None:
    engine = Engine(Network((2**18,), (Pointwise(0, Epilogue()),), 1))
    ones, twos = (np.full((1, 2**18), value, np.float32) for value in (1, 2))
    first = engine(ones)
    assert (engine(twos) == 2).all()
    assert (first == 1).all()
    part = first[0, 5:7]
    del first
    again = engine(twos)
    assert part.tolist() == [1, 1]
    place = again.ctypes.data
    del again
    assert engine(ones).ctypes.data == place
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine, [ones, twos] * 8))
    assert all((one == value).all() for one, value in zip(found, [1, 2] * 8, strict=True))


def small_network() -> Network:
    return Network((40,), (Linear(0, pack_weights(drawn((30, 40), 0.3), "csr")),), 1)


def test_many_callers_of_one_engine() -> None:
    engine = Engine(small_network())
    batches = [drawn((size, 40), seed=size) for size in range(1, 90)]
    expected = [engine(batch) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            found = list(pool.map(lambda batch: engine(batch, threads=3), batches))
            for given, wanted in zip(found, expected, strict=True):
                np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-5)


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_an_engine_works_on_in_a_child_process() -> None:
    program = """
import os
import numpy as np
from gossamer.engine.native import Engine
from gossamer.engine import Linear, Network
from gossamer.engine import pack_weights
engine = Engine(Network((40,), (Linear(0, pack_weights(np.ones((30, 40)), "csr")),), 1))
inputs = np.ones((200, 40), np.float32)
assert (engine(inputs, threads=2) == 40).all()
child = os.fork()
if child == 0:
    os._exit(0 if (engine(inputs, threads=2) == 40).all() else 1)
assert os.waitpid(child, 0)[1] == 0
assert (engine(inputs, threads=2) == 40).all()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_inputs_are_converted_where_nothing_is_lost() -> None:
    engine = Engine(small_network())
    inputs = np.arange(120, dtype=np.uint8).reshape(40, 3).T
    np.testing.assert_array_equal(engine(inputs), engine(inputs.astype(np.float32)))


@pytest.mark.parametrize(
    ("inputs", "threads", "message"),
    [
        (np.zeros((2, 41), np.float32), 1, r"shape \(2, 41\), but this network takes \(N, 40\)"),
        (np.zeros(40, np.float32), 1, r"shape \(40,\)"),
        (np.zeros((2, 40)), 1, "inputs are float64"),
        (np.zeros((2, 40), np.float32), 0, "threads is 0"),
        (np.zeros((2, 40), np.float32), 10**6, "threads is 1000000"),
        (np.zeros((2, 40), np.float32), 2.5, "threads is 2.5, expected a whole number from 1"),
        (np.zeros((2, 40), np.float32), "2", "threads is '2'"),
        (np.zeros((2, 40), np.float32), None, "threads is None"),
        (np.zeros((2, 40), np.float32), True, "threads is True"),
    ],
)
def test_inputs_that_do_not_fit(inputs: NDArray[np.generic], threads: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Engine(small_network())(inputs, threads)


@compiled
@pytest.mark.parametrize("repeats", [0, -1, 2.5, None])
def test_repeats_of_the_timing_that_cannot_be(repeats: Any) -> None:
    with pytest.raises(InputError, match="repeats is"):
        Engine(small_network()).layer_seconds(drawn((2, 40)), repeats=repeats)


@on_every_set
def test_an_engine_may_be_copied_and_pickled(instruction_set: str) -> None:
    engine = Engine(small_network(), instruction_set)
    inputs = drawn((9, 40))
    for again in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert again.instruction_set == instruction_set
        np.testing.assert_array_equal(again(inputs), engine(inputs))


def test_a_pickled_engine_runs_where_its_instruction_set_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(small_network())
    monkeypatch.setattr(engine, "_asked", "avx4096")
    again = pickle.loads(pickle.dumps(engine))
    assert again.instruction_set == Engine(small_network()).instruction_set
    np.testing.assert_array_equal(again(drawn((9, 40))), engine(drawn((9, 40))))


@pytest.mark.skipif("avx512" not in COMPILED, reason="without AVX-512")
@pytest.mark.parametrize(
    ("asked", "examples", "threads", "expected"),
    [
        (None, 4, 1, "avx512"), (None, 5, 1, "avx2"), (None, 8, 1, "avx2"), (None, 9, 1, "avx512"),
        (None, 6, 2, "avx512"), (None, 7, 2, "avx2"), ("avx512", 8, 1, "avx512"),
    ],
)  # fmt: skip
def test_vectors_of_16_are_not_half_empty(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, examples: int, threads: int, expected: str
) -> None:
    monkeypatch.delenv("GOSSAMER_INSTRUCTION_SET", raising=False)
    ran = []

    class Recording:
        def __init__(self, compiled: Any) -> None:
            self.compiled, self.leading = compiled, compiled.leading

        def run(self, *arguments: Any) -> None:
            ran.append(self.compiled.instruction_set)
            self.compiled.run(*arguments)

        def layer_seconds(self, *arguments: Any) -> Any:
            ran.append(self.compiled.instruction_set)
            return self.compiled.layer_seconds(*arguments)

    compiled = engine_module._compiled
    monkeypatch.setattr(engine_module, "_compiled", lambda *of: Recording(compiled(*of)))
    network = small_network()
    engine = Engine(network, asked)
    inputs = drawn((examples, 40))
    assert_near(engine(inputs, threads), run_portable(network, inputs, dtype=np.float64))
    engine.layer_seconds(inputs, threads, repeats=1)
    assert ran == [expected, expected]


def test_an_instruction_set_that_is_not_there() -> None:
    with pytest.raises(InputError, match="instruction_set is 'mmx'"):
        Engine(small_network(), "mmx")


def test_the_environment_may_choose_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSAMER_INSTRUCTION_SET", "numpy")
    assert Engine(small_network()).instruction_set == "numpy"
    monkeypatch.setenv("GOSSAMER_INSTRUCTION_SET", "mmx")
    with pytest.raises(InputError, match="GOSSAMER_INSTRUCTION_SET is 'mmx'"):
        Engine(small_network())


def test_without_kernels_it_says_so_once(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(engine_module, "_native", None)
    monkeypatch.setattr(engine_module, "_warned", False)
    monkeypatch.delenv("GOSSAMER_INSTRUCTION_SET", raising=False)
    engine = Engine(small_network())
    Engine(small_network())
    assert engine.instruction_set == "numpy"
    assert [warning.category for warning in recwarn] == [RuntimeWarning]
    inputs = drawn((5, 40))
    np.testing.assert_allclose(engine(inputs), run_portable(small_network(), inputs), rtol=1e-6)


@compiled
def test_each_layer_is_timed() -> None:
    network = branching_network()
    seconds = Engine(network, COMPILED[0]).layer_seconds(drawn((64, 3, 9, 7)), repeats=3)
    assert len(seconds) == len(network.layers)
    assert seconds[0] > 0
    assert seconds[7] > 0
    assert all(second >= 0 for second in seconds)


@compiled
def test_the_module_trusts_no_number() -> None:
    """The checks in C++, which stand even where those in Python are passed by."""
    kernels = engine_module._kernels()

    def refused(change: dict[str, object], message: str) -> None:
        values = {
            "kind": "csr",
            "rows": 2,
            "columns": 3,
            "values": np.ones(2, np.float32),
            "starts": np.array([0, 1, 2]),
            "indices": np.array([0, 2], np.int32),
        }
        plan = kernels.Plan([3])
        epilogue = kernels.Epilogue(None, "identity", 1.0, None, None, None)
        weights = kernels.Weights(**(values | change))
        plan.add("linear", [0], {"weights": weights, "epilogue": epilogue})
        plan.outputs = [1]
        with pytest.raises(ValueError, match=message):
            kernels.Engine(plan, COMPILED[0])

    refused({"indices": np.array([0, 3], np.int32)}, "indices of a row must ascend")
    refused({"indices": np.array([-1, 0], np.int32)}, "indices of a row must ascend")
    refused({"starts": np.array([0, 5, 2])}, "starts must ascend")
    refused({"starts": np.array([0, 2])}, "one for each row")
    refused({"starts": np.array([0, -(2**62), 2])}, "starts must ascend")
    refused({"values": np.ones(1, np.float32)}, "as many values")
    refused({"rows": 2**62}, "weights must have 1 to 2.28 rows")
    refused({"columns": 4}, "must read a value of 4 features")


@compiled
@pytest.mark.parametrize(
    "weights",
    [
        Weights("dense", 2, 3, np.ones((2, 3), np.float32)),
        Weights(
            "block", 4, 3, np.ones((1, 4), np.float32), np.array([0, 1]), np.array([2], np.int32)
        ),
    ],
)
def test_weights_written_by_hand(weights: Weights) -> None:
    network = Network((3,), (Linear(0, weights),), 1)
    expected = run_portable(network, drawn((9, 3)), dtype=np.float64)
    np.testing.assert_allclose(Engine(network)(drawn((9, 3))), expected, rtol=1e-6)

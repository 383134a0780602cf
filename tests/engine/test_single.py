"""One example at a time through the compiled engine, against the portable one in float64."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine_answers import COMPILED, assert_right
from gossamer.engine import (
    Activation,
    ActivationName,
    Concatenate,
    Convolution,
    Epilogue,
    Floats,
    Layout,
    Linear,
    Network,
    Operator,
    Pair,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Shape,
    Softmax,
    pack_weights,
    run_portable,
    window_positions,
)
from gossamer.engine.native import Engine

pytestmark = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")

ACTIVATIONS: tuple[ActivationName, ...] = (
    "identity", "relu", "relu6", "leaky-relu", "elu", "gelu", "gelu-tanh", "silu", "hardswish",
    "sigmoid", "tanh",
)  # fmt: skip
KINDS: tuple[Layout, ...] = ("csr", "block", "dense")
DENSITIES = (0.0, 0.02, 0.1, 0.4, 1.0)
SIDES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33, 70)
FEW = st.integers(1, 3)
SEEDS = st.integers(0, 2**32 - 1)


def matrix(random: np.random.Generator, rows: int, columns: int, density: float) -> Floats:
    values = random.standard_normal((rows, columns)) / math.sqrt(max(1.0, density * columns))
    return np.where(random.random((rows, columns)) < density, values, 0.0).astype(np.float32)


def numbers(random: np.random.Generator, *shape: int) -> Floats:
    return random.standard_normal(shape).astype(np.float32)


@st.composite
def epilogues(draw: st.DrawFn, sums: Shape, shapes: list[Shape]) -> Epilogue:
    random = np.random.default_rng(draw(SEEDS))
    scale, shift = numbers(random, 2, sums[0]) if draw(st.booleans()) else (None, None)
    alike = [number for number, shape in enumerate(shapes) if shape == sums]
    return Epilogue(
        residual=draw(st.sampled_from((None, *alike))),
        activation=Activation(
            draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from((0.1, 1.0)))
        ),
        scale=scale,
        shift=shift,
    )


@st.composite
def poolings(draw: st.DrawFn, image: Pair) -> Pooling | None:
    """Draw a pooling of which at least one window fits, or none."""
    kind: Literal["max", "average"] = draw(st.sampled_from(("max", "average")))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    dilation = draw(st.tuples(FEW, FEW)) if kind == "max" else (1, 1)
    strides = draw(st.tuples(FEW, FEW))
    general = Pooling(
        kind, kernel, strides, padding, dilation, draw(st.booleans()), draw(st.booleans())
    )
    pooling = draw(st.sampled_from((general, Pooling(kind, (2, 2), (2, 2)))))
    return pooling if min(pooled((1, *image), pooling)) >= 1 else None


def may_miss(layer: Operator | None) -> bool:
    """Whether a window may lie outside of the image, where its maximum is -inf.

    What follows from that is another matter: the kernels skip zeros, float64 multiplies by them.
    """
    pooling = layer.pooling if isinstance(layer, Pool) else None
    if isinstance(layer, Convolution):
        pooling = layer.epilogue.pooling
    return pooling is not None and pooling.dilation != (1, 1) and pooling.padding != (0, 0)


def pooled(shape: Shape, pooling: Pooling | None) -> Shape:
    if pooling is None:
        return shape
    return shape[0], *window_positions(
        (shape[1], shape[2]), pooling.kernel, pooling.stride, pooling.padding, pooling.dilation,
        pooling.ceil,
    )  # fmt: skip


@st.composite
def convolutions(
    draw: st.DrawFn, value: int, shapes: list[Shape]
) -> tuple[Convolution, Shape] | None:
    channels, *image = shapes[value]
    random = np.random.default_rng(draw(SEEDS))
    plain = ((3, 3), (1, 1), (1, 1), (1, 1))
    pairs = [draw(st.tuples(FEW, FEW)) for _ in range(2)]
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    kernel, stride, padding, dilation = draw(
        st.sampled_from(
            (plain, (kernel, pairs[0], padding, pairs[1]), (kernel, (1, 1), padding, (1, 1)))
        )
    )
    positions = window_positions(image, kernel, stride, padding, dilation)
    if min(positions) < 1:
        return None
    groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    per_group = draw(st.integers(1, 9))
    rows, columns = groups * per_group, channels // groups * math.prod(kernel)
    kinds = KINDS if groups == 1 or per_group % 4 == 0 else ("csr", "dense")
    weights = pack_weights(
        matrix(random, rows, columns, draw(st.sampled_from(DENSITIES))),
        draw(st.sampled_from(kinds)),
    )
    sums = (rows, *positions)
    bias = draw(st.sampled_from((None, numbers(random, rows), numbers(random, *sums))))
    epilogue = replace(draw(epilogues(sums, shapes)), pooling=draw(st.none() | poolings(positions)))
    layer = Convolution(value, weights, kernel, stride, padding, dilation, groups, bias, epilogue)
    return layer, pooled(sums, epilogue.pooling)


@st.composite
def linears(draw: st.DrawFn, value: int, shapes: list[Shape]) -> tuple[Linear, Shape]:
    random = np.random.default_rng(draw(SEEDS))
    rows = draw(st.integers(1, 40))
    values = matrix(random, rows, shapes[value][0], draw(st.sampled_from(DENSITIES)))
    bias = numbers(random, rows) if draw(st.booleans()) else None
    weights = pack_weights(values, draw(st.sampled_from(KINDS)))
    return Linear(value, weights, bias, draw(epilogues((rows,), shapes))), (rows,)


@st.composite
def image_networks(draw: st.DrawFn) -> Network:
    """Draw up to five layers over images, each reading one of the last two values."""
    sides = st.sampled_from(SIDES)
    shapes: list[Shape] = [(draw(st.integers(1, 9)), draw(sides), draw(sides))]
    layers: list[Operator] = []
    for _ in range(draw(st.integers(1, 5))):
        value = draw(st.integers(max(0, len(shapes) - 2), len(shapes) - 1))
        shape = shapes[value]
        kind = (
            draw(st.sampled_from("cccccpaosf")) if len(shape) == 3 else draw(st.sampled_from("las"))
        )
        layer: Operator | None = None
        found: Shape = shape
        if kind == "c":
            drawn = draw(convolutions(value, shapes))
            layer, found = drawn if drawn is not None else (None, shape)
        elif kind == "l":
            layer, found = draw(linears(value, shapes))
        elif kind == "p":
            pooling = draw(poolings((shape[1], shape[2])))
            layer = Pool(value, pooling) if pooling is not None else None
            found = pooled(shape, pooling)
        elif kind == "a":
            layer = Pointwise(value, draw(epilogues(shape, shapes)))
        elif kind == "o":
            beside = [
                n for n, other in enumerate(shapes) if other[1:] == shape[1:] and len(other) == 3
            ]
            inputs = tuple(draw(st.lists(st.sampled_from(beside), min_size=1, max_size=3)))
            layer = Concatenate(inputs)
            found = (sum(shapes[n][0] for n in inputs), *shape[1:])
        elif kind == "s":
            layer = Softmax(value, draw(st.booleans()))
        else:
            found = (math.prod(shape),)
            layer = Reshape(value, found)
        if layer is not None:
            layers.append(layer)
            shapes.append(found)
        if may_miss(layer):
            break
    assume(layers)
    return Network(shapes[0], tuple(layers), len(layers))


@settings(max_examples=150)
@given(image_networks(), SEEDS)
def test_random_networks_give_what_float64_gives(network: Network, seed: int) -> None:
    assert_right(network, numbers(np.random.default_rng(seed), *network.input_shape))


@settings(max_examples=40)
@given(st.lists(st.integers(1, 300), min_size=2, max_size=5), st.sampled_from(KINDS), SEEDS)
def test_random_perceptrons_give_what_float64_gives(
    widths: list[int], kind: Layout, seed: int
) -> None:
    random = np.random.default_rng(seed)
    layers = tuple(
        Linear(
            number,
            pack_weights(matrix(random, rows, columns, random.choice(DENSITIES)), kind),
            numbers(random, rows),
            Epilogue(activation=Activation("relu")),
        )
        for number, (columns, rows) in enumerate(pairwise(widths))
    )
    assert_right(Network((widths[0],), layers, len(layers)), numbers(random, widths[0]))


@pytest.mark.parametrize("image", [(1, 1), (1, 70), (70, 1), (2, 9), (8, 8), (33, 34)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 3)])
def test_each_border_pixel_sees_its_own_neighbours(image: Pair, stride: Pair) -> None:
    """Counting how many neighbours are inside shows at once where a halo is not zero."""
    ones = Convolution(0, pack_weights(np.ones((1, 25)), "csr"), (5, 5), (1, 1), (2, 2))
    again = Convolution(1, pack_weights(np.ones((1, 25)), "csr"), (5, 5), stride, (2, 2))
    network = Network((1, *image), (ones, again), 2)
    inputs = np.ones((1, *image), np.float32)
    expected = run_portable(network, inputs[None], dtype=np.float64)
    for instruction_set in COMPILED:
        np.testing.assert_array_equal(Engine(network, instruction_set)(inputs[None]), expected)


@pytest.mark.parametrize("columns", [65534, 65535, 65536])
@pytest.mark.parametrize("kind", KINDS)
def test_columns_beyond_16_bits(columns: int, kind: Layout) -> None:
    random = np.random.default_rng(columns)
    values = matrix(random, 13, columns, 0.001)
    values[:, -1] = 1.0
    network = Network((columns,), (Linear(0, pack_weights(values, kind)),), 1)
    assert_right(network, numbers(random, columns))


@pytest.mark.parametrize("density", [0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.8])
@pytest.mark.parametrize(("rows", "columns"), [(16, 31), (5, 62), (33, 63), (160, 93), (47, 500)])
def test_rows_of_any_density_read_their_own_columns(
    rows: int, columns: int, density: float
) -> None:
    """Whole numbers, whose sums are exact in any order: a wrong column shows."""
    random = np.random.default_rng(rows)
    values = random.integers(1, 9, (rows, columns)) * random.choice([-1, 1], (rows, columns))
    values[random.random(values.shape) >= density] = 0
    values[0] = 1  # a full row
    values[-1] = 0  # and an empty one
    inputs = random.integers(-99, 100, columns)
    weights = pack_weights(values.astype(np.float32), "csr")
    network = Network((columns,), (Linear(0, weights),), 1)
    for instruction_set in COMPILED:
        found = Engine(network, instruction_set)(inputs[None].astype(np.float32))[0]
        np.testing.assert_array_equal(found, values @ inputs)


def test_threads_that_share_a_sparse_layer_add_to_the_same_rows() -> None:
    """So many weights that threads share them; rows of very different lengths."""
    random = np.random.default_rng(0)
    values = random.integers(1, 9, (1003, 2000))
    share = random.permutation(np.linspace(0.02, 0.4, 1003))[:, None]
    values[random.random(values.shape) >= share] = 0
    inputs = random.integers(-99, 100, 2000)
    weights = pack_weights(values.astype(np.float32), "csr")
    network = Network((2000,), (Linear(0, weights),), 1)
    for instruction_set in COMPILED:
        engine = Engine(network, instruction_set)
        for threads in (1, 2, 3, 4):
            for _ in range(20):
                found = engine(inputs[None].astype(np.float32), threads)[0]
                np.testing.assert_array_equal(found, values @ inputs)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.4])
def test_what_is_not_finite_stays_in_its_column(density: float) -> None:
    random = np.random.default_rng(0)
    values = random.integers(1, 9, (80, 130)).astype(np.float32)
    values[random.random(values.shape) >= density] = 0
    inputs = np.ones(130, np.float32)
    bad = [0, 30, 31, 61, 62, 93, 129]
    inputs[bad] = np.nan
    expected = np.where(values[:, bad].any(axis=1), np.nan, values.sum(axis=1))
    assert 0 < np.isnan(expected).sum() < 80
    network = Network((130,), (Linear(0, pack_weights(values, "csr")),), 1)
    for instruction_set in COMPILED:
        found = Engine(network, instruction_set)(inputs[None])[0]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_the_rows_that_read_it_and_no_others(value: float) -> None:
    """Rows of unequal length are filled up with zeros; these must not be multiplied by it."""
    values = np.eye(19, dtype=np.float32)
    values[3] = 1.0
    inputs = np.ones(19, np.float32)
    inputs[[0, 18]] = value
    network = Network((19,), (Linear(0, pack_weights(values, "csr")),), 1)
    expected = np.ones(19, np.float32)
    expected[[0, 3, 18]] = value
    for instruction_set in COMPILED:
        found = Engine(network, instruction_set)(inputs[None])[0]
        np.testing.assert_array_equal(found, expected)


def test_relu_and_maximum_pass_nan_on() -> None:
    identity = pack_weights(np.ones((1, 1)), "csr")
    epilogue = Epilogue(activation=Activation("relu"), pooling=Pooling("max", (2, 2), (2, 2)))
    network = Network((1, 18, 18), (Convolution(0, identity, (1, 1), epilogue=epilogue),), 1)
    for number in range(4):
        inputs = np.full((1, 18, 18), -1.0, np.float32)
        inputs[0, 4 + number // 2, 16 + number % 2] = np.nan
        for instruction_set in COMPILED:
            found = Engine(network, instruction_set)(inputs[None])[0, 0]
            assert np.argwhere(np.isnan(found)).tolist() == [[2, 8]]
            assert np.nansum(found) == 0.0


@pytest.mark.parametrize(
    "pooling",
    [
        Pooling("max", (2, 1), (1, 1), (1, 0), (5, 1)),
        Pooling("max", (1, 2), (1, 1), (0, 1), (1, 7)),
        Pooling("max", (2, 2), (1, 1), (1, 1), (5, 7)),
    ],
)
def test_the_maximum_of_no_pixel_is_minus_infinity(pooling: Pooling) -> None:
    random = np.random.default_rng(2)
    inputs = numbers(random, 2, 4, 6)
    expected = run_portable(Network((2, 4, 6), (Pool(0, pooling),), 1), inputs[None])[0]
    assert np.isneginf(expected).all()
    assert_right(Network((2, 4, 6), (Pool(0, pooling),), 1), inputs)
    layer = Convolution(0, pack_weights(np.eye(2), "csr"), (1, 1))
    layer = replace(layer, epilogue=Epilogue(pooling=pooling))
    assert_right(Network((2, 4, 6), (layer,), 1), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lay_behind_a_vector_before_is_not_read(kind: Layout) -> None:
    """Value 2 takes the place of the input, of which no weight reads what is not finite."""
    random = np.random.default_rng(3)
    first = matrix(random, 19, 60, 0.5)
    first[:, 19:] = 0.0
    last = np.tril(matrix(random, 19, 19, 1.0))
    layers = (
        Linear(0, pack_weights(first, "csr")),
        Pointwise(1, Epilogue(activation=Activation("tanh"))),
        Linear(2, pack_weights(last, kind)),
    )
    inputs = numbers(random, 60)
    expected = last.astype(np.float64) @ np.tanh(first[:, :19].astype(np.float64) @ inputs[:19])
    inputs[19:] = np.inf
    for instruction_set in COMPILED:
        found = Engine(Network((60,), layers, 3), instruction_set)(inputs[None])[0]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_values_share_memory() -> None:
    """Of a chain no more than two values are needed at once: 32 MB here, rather than 800."""
    program = f"""
import resource
import numpy as np
from gossamer.engine.native import Engine
from gossamer.engine import Activation, Epilogue, Network, Pointwise
relu = Epilogue(activation=Activation("relu"))
layers = tuple(Pointwise(number, relu) for number in range(50))
engine = Engine(Network((1, 2**11, 2**11), layers, 50), "{COMPILED[0]}")
inputs = np.ones((1, 1, 2**11, 2**11), np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert (engine(inputs) == 1).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    pytest.importorskip("resource", reason="this system does not tell how much memory is used")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert int(done.stdout) < 200_000  # kilobytes


def test_large_dynamic_range() -> None:
    random = np.random.default_rng(0)
    values = matrix(random, 32, 27, 0.3)
    layer = Convolution(0, pack_weights(values, "csr"), (3, 3), padding=(1, 1))
    inputs = (numbers(random, 3, 16, 16) * 10.0 ** random.integers(-15, 15, (3, 16, 16))).astype(
        "f4"
    )
    assert_right(Network((3, 16, 16), (layer,), 1), inputs)


def test_calls_leave_nothing_behind() -> None:
    """The scratch is used again as it was left, by networks of other shapes too."""
    random = np.random.default_rng(1)
    layer = Convolution(0, pack_weights(matrix(random, 8, 9, 0.5), "csr"), (3, 3), padding=(1, 1))
    network = Network(
        (1, 9, 9),
        (
            layer,
            replace(layer, input=1, weights=pack_weights(matrix(random, 4, 72, 0.5), "csr")),
        ),
        2,
    )
    engine = Engine(network, COMPILED[0])
    inputs = numbers(random, 1, 1, 9, 9)
    first = engine(inputs)
    engine(np.full((1, 1, 9, 9), np.nan, np.float32))
    np.testing.assert_array_equal(engine(inputs), first)

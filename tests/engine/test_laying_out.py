"""Reshapes and permutations that are put off, and what is left of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.engine import (
    Activation,
    Concatenate,
    Constant,
    Convolution,
    LayerNorm,
    Matmul,
    Operator,
    Permute,
    Pointwise,
    Program,
    Reshape,
    Shape,
    Slice,
    Value,
    dense,
    lay_out,
)
from gossamer.engine.ops.binary import Binary
from gossamer.engine.ops.pointwise import activate, add, affine
from gossamer.engine.passes.folding import fold
from gossamer.engine.passes.rearrangement import Rearrangement, unchanged

LENGTHS = st.sampled_from((1, 2, 3, 4, 6))


@st.composite
def reshaped(draw: st.DrawFn, numbers: int) -> Shape:
    """Return a shape of so many numbers."""
    shape: list[int] = []
    while numbers > 1 and len(shape) < 3:
        divisors = [n for n in range(1, numbers + 1) if numbers % n == 0]
        shape.append(draw(st.sampled_from(divisors)))
        numbers //= shape[-1]
    return (*shape, numbers)


@settings(max_examples=150)
@given(st.data())
def test_a_rearrangement_does_what_numpy_does(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(LENGTHS, min_size=1, max_size=4)))
    base = np.arange(float(math.prod(shape))).reshape(shape)
    expected, found = base, unchanged(shape)
    for _ in range(data.draw(st.integers(0, 5))):
        following: Rearrangement | None
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(expected.ndim)))
            turned, following = expected.transpose(order), found.permuted(order)
        else:
            wanted = data.draw(reshaped(base.size))
            turned, following = expected.reshape(wanted), found.reshaped(wanted)
        if following is not None:
            expected, found = turned, following
    np.testing.assert_array_equal(found.run(base), expected)
    np.testing.assert_array_equal(found.inverse(shape).run(expected), base)
    assert found.plain == bool((expected.ravel() == base.ravel()).all())
    assert found.then(found.inverse(shape)) == unchanged(shape)


def run(program: Program, inputs: np.ndarray) -> np.ndarray:
    values: dict[Value, np.ndarray] = {next(iter(program.inputs)): inputs}
    for name, operator in program.operators.items():
        values[name] = operator.run(values)
    return values[program.outputs[0]]


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Return operators of sequences in any order, among permutations and reshapes."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes: dict[Value, Shape] = {"x": tuple(draw(st.lists(LENGTHS, min_size=3, max_size=3)))}
    operators: dict[Value, Operator] = {}
    for number in range(draw(st.integers(1, 8))):
        last = list(shapes)[-1]
        operator = draw(_operator(random, last, shapes))
        operators[number] = operator
        shapes[number] = operator.infer_shape(shapes)
    return Program({"x": shapes["x"]}, operators, (list(shapes)[-1],))


@st.composite
def _operator(
    draw: st.DrawFn, random: np.random.Generator, last: Value, shapes: dict[Value, Shape]
) -> Operator:
    shape = shapes[last]
    axis = draw(st.integers(0, len(shape) - 1))
    like = [value for value in shapes if shapes[value] == shape]
    other = draw(st.sampled_from(like))
    constant = Constant(last, random.standard_normal(shape), shape)
    kinds: list[Operator] = [
        Permute(last, tuple(draw(st.permutations(range(len(shape)))))),
        Reshape(last, draw(reshaped(math.prod(shape)))),
        activate(last, Activation("tanh")),
        affine(last, *random.standard_normal((2, shape[0]))),
        add(last, other),
        LayerNorm(last, 1, 0.1, *random.standard_normal((2, shape[-1]))),
        Slice(last, axis, draw(st.integers(0, shape[axis] - 1)), 1),
        Concatenate((other, last), axis),
        constant,
        Binary(last, other, "multiply"),
        Binary(other, last, "subtract"),
    ]
    single = [value for value in shapes if _repeats(shapes[value], shape)]
    kinds.append(Binary(last, draw(st.sampled_from(single)), "multiply"))
    if len(shape) > 1:
        kinds.append(Matmul(last, other, draw(st.booleans()), draw(st.booleans())))
        kinds = [one for one in kinds if not isinstance(one, Matmul) or _fits(one, shapes)]
    if len(shape) == 3:
        kinds.append(Convolution(last, dense(random.standard_normal((3, shape[0]))), (1, 1)))
    return draw(st.sampled_from(kinds))


def _repeats(one: Shape, shape: Shape) -> bool:
    """Tell whether a value is repeated along axes of length 1 to have a shape."""
    return len(one) == len(shape) and all(a in (1, b) for a, b in zip(one, shape, strict=True))


def _fits(product: Matmul, shapes: dict[Value, Shape]) -> bool:
    try:
        product.infer_shape(shapes)
    except InputError:
        return False
    return True


@settings(max_examples=250)
@given(programs(), st.integers(1, 2))
def test_a_program_that_is_laid_out_computes_the_same(program: Program, examples: int) -> None:
    inputs = np.random.default_rng(0).standard_normal((examples, *program.inputs["x"]))
    expected = run(program, inputs)
    for found in (lay_out(program), fold(lay_out(program))):
        result = run(found, inputs)
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)


def test_what_is_stacked_along_a_new_axis_lies_between_its_neighbours() -> None:
    """Turn pairs of neighbouring features, as rotary embeddings do: heads stay features."""
    turned: dict[Value, Operator] = {
        "heads": Reshape("x", (2, 6, 5)),
        "queries": Permute("heads", (0, 2, 1)),
        "even": Slice("queries", 2, 0, 3, 2),
        "odd": Slice("queries", 2, 1, 3, 2),
        "one": Reshape("odd", (2, 5, 3, 1)),
        "two": Reshape("even", (2, 5, 3, 1)),
        "stacked": Concatenate(("one", "two"), 3),
        "joined": Reshape("stacked", (2, 5, 6)),
        "back": Permute("joined", (0, 2, 1)),
        "out": Reshape("back", (12, 1, 5)),
    }
    program = Program({"x": (12, 1, 5)}, turned, ("out",))
    laid = lay_out(program)
    assert not any(isinstance(operator, Permute) for operator in laid.operators.values())
    inputs = np.arange(120.0).reshape(2, 12, 1, 5)
    np.testing.assert_array_equal(run(laid, inputs), run(program, inputs))


def test_permutations_around_products_and_sums_fall_away() -> None:
    turned: dict[Value, Operator] = {
        "first": Permute("x", (2, 1, 0)),
        "product": Convolution("first", dense(np.ones((4, 4))), (1, 1)),
        "back": Permute("product", (2, 1, 0)),
        "relu": activate("back", Activation("relu")),
        "heads": Reshape("relu", (5, 2, 2)),
        "parted": Permute("heads", (1, 2, 0)),
        "joined": Reshape("parted", (4, 1, 5)),
        "again": Convolution("joined", dense(np.ones((4, 4))), (1, 1)),
        "last": Permute("again", (2, 1, 0)),
        "sum": add("last", "x"),
    }
    laid = lay_out(Program({"x": (5, 1, 4)}, turned, ("sum",)))
    kinds = [type(operator) for operator in laid.operators.values()]
    assert kinds == [Permute, Convolution, Pointwise, Convolution, Pointwise, Permute]


def test_a_value_that_is_repeated_beside_a_moved_one_is_left_where_it_lies() -> None:
    operators: dict[Value, Operator] = {
        "turned": Permute("x", (1, 0)),
        "some": Slice("turned", 0, 0, 1),
        "product": Binary("turned", "some", "multiply"),
    }
    program = Program({"x": (6, 8)}, operators, ("product",))
    inputs = np.random.default_rng(0).standard_normal((3, 6, 8))
    np.testing.assert_allclose(run(lay_out(program), inputs), run(program, inputs), rtol=1e-12)


@pytest.mark.parametrize("start", [0, 4, 8])
def test_parts_of_the_channels_of_a_product_are_products(start: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((12, 3))
    operators: dict[Value, Operator] = {
        "all": Convolution("x", dense(matrix), (1, 1), bias=np.arange(12.0)),
        **{f"part{at}": Slice("all", 0, at, 4) for at in (0, 4, 8)},
    }
    program = Program({"x": (3, 1, 5)}, operators, (f"part{start}", "part8"))
    folded = fold(program)
    assert {type(one) for one in folded.operators.values()} == {Convolution}
    inputs = np.random.default_rng(1).standard_normal((2, 3, 1, 5))
    np.testing.assert_allclose(run(folded, inputs), run(program, inputs), rtol=1e-12)

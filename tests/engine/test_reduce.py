"""Reductions in the compiled kernels: one example, and some side by side."""

from itertools import chain, combinations
from typing import get_args

import numpy as np
import pytest

from engine_answers import COMPILED, allowed_error
from gossamer.engine import Floats, Network, Shape, run_portable
from gossamer.engine.native import Engine
from gossamer.engine.ops.reduce import Reduce, ReductionName

SHAPES: list[Shape] = [(1,), (37,), (3, 5), (6, 40), (4, 1, 21), (5, 6, 7), (2, 33, 17),
                       (2, 3, 4, 19), (2, 3, 2, 2, 5)]  # fmt: skip
NAMES = get_args(ReductionName)


def axes_of(shape: Shape, name: str) -> list[tuple[int, ...]]:
    axes, most = range(len(shape)), 1 if name.startswith("arg") else len(shape)
    return list(chain.from_iterable(combinations(axes, n) for n in range(1, most + 1)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_numbers_along_any_axes_are_reduced_as_in_float64(
    shape: Shape, name: ReductionName
) -> None:
    inputs = np.random.default_rng(2).standard_normal((19, *shape)).astype(np.float32)
    if name == "product":
        inputs = 1 + inputs / np.float32(10)  # whose products are numbers of float32
    for axes in axes_of(shape, name):
        network = Network(shape, (Reduce(0, name, axes),), 1)
        exact = run_portable(network, inputs.astype(np.float64), np.float64)
        allowed = allowed_error(network, inputs, exact)
        for instruction_set in COMPILED:
            engine = Engine(network, instruction_set)
            one_by_one = np.concatenate([engine(one[None]) for one in inputs[:3]])
            np.testing.assert_array_equal(engine(inputs[:1], 3), one_by_one[:1])
            for found, right in ((engine(inputs), exact), (one_by_one, exact[:3])):
                assert np.abs(found - right).max() <= allowed, (axes, instruction_set)


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("name", ["sum", "mean", "norm", "maximum", "minimum", "argmax", "argmin"])
@pytest.mark.parametrize("examples", [1, 5])
def test_what_is_no_number_comes_out_as_numpy_has_it(
    name: ReductionName, instruction_set: str, examples: int
) -> None:
    random = np.random.default_rng(3)
    inputs = random.integers(-2, 3, (examples, 5, 40)).astype(np.float32)  # with many alike
    inputs[0, 0, 7] = np.inf
    inputs[0, 1, 20] = -np.inf
    inputs[0, 2, [3, 30]] = np.nan
    inputs[0, 3] = -np.inf
    for axis in (0, 1):
        network = Network((5, 40), (Reduce(0, name, (axis,)),), 1)
        with np.errstate(invalid="ignore"):
            expected = run_portable(network, inputs.astype(np.float64), np.float64)
        found = Engine(network, instruction_set)(inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("examples", [1, 3])
def test_sums_of_many_numbers_and_spreads_far_from_zero_keep_their_digits(
    instruction_set: str, examples: int
) -> None:
    inputs = np.random.default_rng(4).standard_normal((examples, 4, 50_000)).astype(np.float32)
    cases: tuple[tuple[ReductionName, Floats], ...] = (
        ("sum", np.abs(inputs)),
        ("variance", inputs + np.float32(1000.0)),
    )
    for name, given in cases:
        for axes in ((0, 1), (1,)):
            network = Network((4, 50_000), (Reduce(0, name, axes),), 1)
            exact = run_portable(network, given.astype(np.float64), np.float64)
            np.testing.assert_allclose(Engine(network, instruction_set)(given), exact, rtol=1e-6)


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("examples", [1, 3])
def test_norms_of_tiny_large_and_no_numbers_are_what_they_are(
    instruction_set: str, examples: int
) -> None:
    inputs = np.random.default_rng(5).standard_normal((examples, 5, 20)).astype(np.float32)
    inputs *= np.array([1e-30, 1.0, 1e30, 0.0, 1e-44], np.float32)[:, None]
    for axes in ((1,), (0,), (0, 1)):
        network = Network((5, 20), (Reduce(0, "norm", axes),), 1)
        exact = run_portable(network, inputs.astype(np.float64), np.float64)
        found = Engine(network, instruction_set)(inputs)
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=2e-45)


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("name", NAMES)
def test_threads_share_out_large_values_and_find_the_same(
    name: ReductionName, instruction_set: str
) -> None:
    inputs = np.random.default_rng(6).uniform(0.9, 1.1, (1, 9, 64, 257)).astype(np.float32)
    for axes in axes_of((9, 64, 257), name):
        engine = Engine(Network((9, 64, 257), (Reduce(0, name, axes),), 1), instruction_set)
        for threads in (2, 3):
            np.testing.assert_array_equal(engine(inputs, threads), engine(inputs))

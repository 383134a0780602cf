"""Networks of several inputs and outputs: in every run, in files, and where they do not fit."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer
from gossamer.core.errors import InputError
from gossamer.engine import (
    Activation,
    Concatenate,
    Convolution,
    Engine,
    Epilogue,
    Linear,
    Network,
    Operator,
    Pointwise,
    Reshape,
    Shape,
    Signature,
    TensorSpec,
    available_instruction_sets,
    check_network,
    pack_weights,
    run_portable,
    run_portable_all,
)
from gossamer.engine.gsm import read_network, write_network

ADDED = Network(((2,), (2,)), (Pointwise(0, Epilogue(residual=1)),), 2)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Return operators that read any of the values before them, inputs of any kind first."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds: list[Shape] = [(12,), (12,), (3, 2, 2), (3, 2, 2), (12, 1, 1)]
    inputs = tuple(draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)))
    shapes, layers = list(inputs), list[Operator]()
    for _ in range(draw(st.integers(0, 6))):
        value = draw(st.integers(0, len(shapes) - 1))
        layers.append(_layer(draw, random, value, shapes))
        shapes.append(check_network(Network(inputs, tuple(layers), 0))[-1])
    numbers = st.integers(0, len(shapes) - 1)
    return Network(inputs, tuple(layers), tuple(draw(st.lists(numbers, min_size=1, max_size=4))))


def _layer(
    draw: st.DrawFn, random: np.random.Generator, value: int, shapes: list[Shape]
) -> Operator:
    shape = shapes[value]
    alike = [other for other, one in enumerate(shapes) if one == shape]
    other = draw(st.sampled_from(alike))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return Pointwise(value, Epilogue(other, Activation("relu")))
    if kind == 1 and math.prod(shape) == 12:
        turned: list[Shape] = [(12,), (3, 2, 2), (12, 1, 1)]
        return Reshape(value, draw(st.sampled_from(turned)))
    matrix = random.standard_normal((12, shape[0])) * (random.random((12, shape[0])) < 0.5)
    if kind == 2 and len(shape) == 1:
        return Linear(value, pack_weights(matrix, "csr"), epilogue=Epilogue())
    if kind == 2:
        return Convolution(value, pack_weights(matrix[:3], "csr"), (1, 1))
    return Concatenate((value, other) if shape[0] < 30 else (value,))


@settings(max_examples=60)
@given(networks(), st.integers(0, 70), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_every_run_gives_every_output(
    network: Network, examples: int, threads: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    inputs = [random.standard_normal((examples, *shape), np.float32) for shape in network.inputs]
    expected = run_portable_all(network, inputs, np.float64)
    for value, exact in zip(network.outputs, expected, strict=True):
        if len(network.inputs) == 1:  # as a network of this output alone
            alone = run_portable(Network(network.inputs, network.layers, value), inputs[0])
            np.testing.assert_allclose(alone, exact, rtol=1e-4, atol=1e-4)
    for name in available_instruction_sets():
        found = Engine(network, name).run(inputs, threads)
        for one, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, exact, rtol=1e-4, atol=1e-4)


def test_files_keep_names_types_and_containers(tmp_path: Path) -> None:
    network = Network(((2,), (2,)), ADDED.layers, (2, 0))
    signature = Signature(
        (TensorSpec("tokens", (2, 1), "int64"), TensorSpec("kept", (2,), "bool")),
        (TensorSpec("sum", (1, 2)), TensorSpec("same", (2,), "int32")),
        "dict",
    )
    write_network(tmp_path / "n.gsm", network, signature=signature)
    found, _, read = read_network(tmp_path / "n.gsm")
    assert (found.inputs, found.outputs, read) == (network.inputs, network.outputs, signature)
    predictor = gossamer.load(tmp_path / "n.gsm")
    tokens, kept = np.array([[[3], [2**24]]], np.uint32), np.array([[True, False]])
    for answer in (
        predictor(tokens, kept), predictor(tokens, kept=kept),
        predictor({"kept": kept, "tokens": tokens}),
    ):  # fmt: skip
        assert {name: one.tolist() for name, one in answer.items()} == {
            "sum": [[[4.0, 2.0**24]]], "same": [[3, 2**24]],
        }  # fmt: skip
        assert [str(one.dtype) for one in answer.values()] == ["float32", "int32"]
    assert repr(predictor) == "Predictor([2, 1], [2] -> [1, 2], [2], 1 layers)"
    refused: list[tuple[Any, Any, str]] = [
        (tokens, None, "kept: shape [], expected [examples, 2]"),
        (tokens + 0.5, kept, "tokens: of type float64, expected whole numbers"),
        (tokens + 1, kept, "inputs hold 16777217, expected whole numbers of at most 16777216"),
        (tokens, kept + 0, "kept: of type int64, expected truth values"),
        (tokens, kept[:0], "kept: 0 examples, expected 1, as many as of tokens"),
    ]
    for first, second, complaint in refused:
        with pytest.raises(InputError) as caught:
            predictor(first, second)
        assert complaint in str(caught.value)
    for args, named, complaint in (
        ((tokens,), {}, "kept is missing, expected tokens, kept"),
        ((tokens, kept, 2), {}, "3 are given, expected 2 (tokens, kept)"),
        ((tokens,), {"tokens": tokens}, "'tokens' is one too many"),
    ):
        with pytest.raises(InputError) as caught:
            predictor(*args, **named)  # type: ignore[arg-type]
        assert complaint in str(caught.value)


def test_outputs_in_a_tuple_are_returned_so() -> None:
    predictor = gossamer.runtime.Predictor(Network(((1,), (2,)), (), (1, 0)), {})
    assert [one.tolist() for one in predictor([[1.0]], [[2.0, 3.0]])] == [[[2.0, 3.0]], [[1.0]]]


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (Network(((2,), (0,)), (), 0), "input 1 is (0,)"),
        (Network(((2,), (3,)), ADDED.layers, 2), "residual has shape [3], expected [2]"),
        (Network(((2,), (3,)), (), (0, 2)), "output is 2, expected the number of a value, from 0"),
        (Network((2,), (), ()), "outputs must be 1 to 1024"),
        (Network(((2,),) * 1025, (), 0), "inputs must be 1 to 1024"),
    ],
)
def test_what_does_not_fit_is_refused(network: Network, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        check_network(network)
    assert complaint in str(caught.value)


def test_arrays_that_do_not_fit_are_refused() -> None:
    one, two = np.zeros((3, 2), np.float32), np.zeros((2, 2), np.float32)
    for given_arrays, complaint in (
        ((one,), "inputs: 1 array, expected 2"),
        ((one, two), "input 1: 2 examples, expected 3"),
        ((one, one[:, :1]), "input 1: shape [3, 1], expected [examples, 2]"),
    ):
        for name in available_instruction_sets():
            with pytest.raises(InputError, match=complaint.replace("[", r"\[")):
                Engine(ADDED, name).run(given_arrays)
    with pytest.raises(InputError, match="this network has 2 inputs and 1 output; call `run`"):
        Engine(ADDED)(one)

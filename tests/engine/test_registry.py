"""What follows from an operator's own file, for every one that is registered, and for a toy."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gossamer
from gossamer.compression.lowering.parts import divide
from gossamer.compression.lowering.tracing import trace
from gossamer.core.errors import InputError
from gossamer.engine import (
    OPERATORS,
    ROW_BY_ROW,
    RULES,
    Array,
    Call,
    Engine,
    LayerNorm,
    Lowered,
    Network,
    Operator,
    Shape,
    Value,
    available_instruction_sets,
    check_network,
    read_by,
    register,
    run_portable,
)
from gossamer.engine.gsm import read_network, write_network
from gossamer.engine.native import has_kernels

PAGE = Path(__file__).parents[2] / "docs" / "gsm-format.md"


def assert_same(found: Any, expected: Any) -> None:
    """Compare values field by field, arrays bit by bit."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
    elif is_dataclass(expected):
        for field in fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    else:
        assert found == expected


def network_of(operator: type[Operator], seed: int) -> Network:
    """Return a network of one operator with random fields, which reads the input."""
    shape, drawn = operator.sampled(np.random.default_rng(seed))
    assert set(read_by(drawn)) == {0}
    return Network(shape, (drawn,), 1)


def assert_all_follows(operator: type[Operator], seed: int, folder: Path) -> None:
    network = network_of(operator, seed)
    shapes = check_network(network)
    shape = (5, *network.input_shape)
    inputs = network.layers[0].drawn(np.random.default_rng(seed), shape)
    exact = run_portable(network, inputs, np.float64)
    assert exact.shape == (5, *shapes[1])
    close = {"rtol": 1e-5, "atol": 1e-5 * (1 + np.abs(exact).max())}
    given = inputs.astype(np.float32)
    np.testing.assert_allclose(run_portable(network, given), exact, **close)
    write_network(folder / "one.gsm", network)
    assert_same(read_network(folder / "one.gsm")[0].layers[0], network.layers[0])
    if has_kernels(network.layers[0]):
        for instruction_set in available_instruction_sets():
            np.testing.assert_allclose(Engine(network, instruction_set)(given), exact, **close)
    elif available_instruction_sets() != ("numpy",):
        with pytest.warns(RuntimeWarning, match="runs on NumPy alone"):
            found = Engine(network)(given)
        np.testing.assert_allclose(found, exact, **close)


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_check_file_and_every_run_follow(
    name: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert_all_follows(OPERATORS[name], seed, tmp_path_factory.mktemp("gsm"))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_page_on_the_file_has_every_operator_and_its_fields(name: str) -> None:
    (row,) = (line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    for field in fields(OPERATORS[name]):  # type: ignore[arg-type]
        assert f"`{field.name}`" in row


# --- an operator that one file adds


class Normalised(nn.Module):
    def __init__(self, *shape: int, axes: int) -> None:
        super().__init__()
        self.first = nn.Linear(shape[-1], shape[-1])
        self.norm = nn.LayerNorm(shape[-axes:])
        with torch.no_grad():
            for parameter in self.norm.parameters():
                parameter.normal_()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.norm(self.first(inputs))  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", [(6,), (3, 4), (2, 3, 4), (2, 3, 2, 4)])
@pytest.mark.parametrize("plain", [False, True])
def test_layer_norm_is_pytorchs(shape: Shape, plain: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(5, *shape, dtype=torch.float64)
    for axes in range(1, len(shape) + 1):
        scale, shift = torch.randn(2, *shape[-axes:])
        arrays = (None, None) if plain else (scale.numpy(), shift.numpy())
        network = Network(shape, (LayerNorm(0, axes, 0.01, *arrays),), 1)
        weight, bias = (None, None) if plain else (scale.double(), shift.double())
        expected = nn.functional.layer_norm(inputs, shape[-axes:], weight, bias, 0.01)
        found = run_portable(network, inputs.numpy(), np.float64)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-12)


def test_layer_norm_far_from_zero_keeps_its_digits() -> None:
    inputs = np.random.default_rng(0).standard_normal((4, 50)) + 1e4
    network = Network((50,), (LayerNorm(0),), 1)
    exact = run_portable(network, inputs.astype(np.float32).astype(np.float64), np.float64)
    assert np.abs(run_portable(network, inputs.astype(np.float32)) - exact).max() < 1e-3


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LayerNorm(0, 2), "axes is 2, expected at most 1"),
        (LayerNorm(0, 0), "axes is 0, expected a whole number from 1 on"),
        (LayerNorm(0, epsilon=-1.0), "epsilon is -1.0"),
        (LayerNorm(0, epsilon=np.nan), "epsilon is nan"),
        (LayerNorm(0, scale=np.ones(3, np.float32)), "scale is float32 [3], expected float32 [4]"),
        (LayerNorm(1), "input is 1"),
    ],
)
def test_a_layer_norm_that_does_not_fit_is_refused(layer: LayerNorm, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        check_network(Network((4,), (layer,), 1))
    assert str(caught.value).startswith("layer 0 (LayerNorm): ")
    assert complaint in str(caught.value)


# --- an operator that no file adds


@dataclass(frozen=True)
class Threshold(Operator):
    """Numbers above a bound; another number in place of the others."""

    name = "threshold"

    input: Value
    bound: float
    otherwise: float = 0.0

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        return shapes[self.input]

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        return np.where(given > self.bound, given, given.dtype.type(self.otherwise))

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Threshold"]:
        return (7,), cls(0, float(random.random()))


def _threshold(call: Call) -> Lowered:
    given = call.given("self")
    bounds = (float(call.arguments["threshold"]), float(call.arguments["value"]))
    return () if given is None else (Threshold(given.value, *bounds),)


@pytest.fixture
def toy() -> Iterator[None]:
    register(Threshold, {"threshold": _threshold}, row_by_row=("threshold",))
    yield
    del OPERATORS["threshold"], RULES["threshold"]
    ROW_BY_ROW.remove("threshold")


@pytest.mark.usefixtures("toy")
def test_check_file_and_every_run_follow_for_a_toy(tmp_path: Path) -> None:
    for seed in range(5):
        assert_all_follows(Threshold, seed, tmp_path)
    with pytest.raises(InputError, match="bound is nan, expected a finite number"):
        check_network(Network((4,), (Threshold(0, np.nan),), 1))


def test_a_toy_that_is_not_registered_is_no_layer() -> None:
    with pytest.raises(InputError, match="is no layer that gossamer knows"):
        check_network(Network((4,), (Threshold(0, 1.0),), 1))


def test_what_cannot_follow_is_refused_when_it_is_registered() -> None:
    @dataclass(frozen=True)
    class Odd(Operator):
        name = "odd"

        input: Value
        table: dict[str, float]

    with pytest.raises(TypeError, match=r"Odd.table: a field may not be of type dict"):
        register(Odd)
    with pytest.raises(TypeError, match="Threshold: relu is registered already"):
        register(Threshold, {"relu": _threshold})
    assert not {"odd", "threshold"} & OPERATORS.keys()


@pytest.mark.usefixtures("toy")
def test_lowering_follows_for_a_toy() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Threshold(0.1, 20.0), nn.Linear(8, 3)).eval()
    example = torch.randn(5, 6)
    traced = trace(model, example)
    assert "1 (threshold)" in divide(traced.graph).rest  # there is no compiled kernel
    whole = divide(traced.graph, portable=True).whole(traced.graph)
    assert whole is not None
    found = run_portable(whole.network, example.numpy(), np.float64)
    expected = model.double()(example.double()).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 2, 2, 4), (2, 3, 1, 2, 2)])
def test_networks_of_any_rank_are_lowered_for_numpy(shape: Shape, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (nn.ELU(), nn.LayerNorm(shape[1:]), nn.Flatten(), nn.Linear(math.prod(shape), 5))
    model = nn.Sequential(*layers).eval()
    example = torch.randn(4, *shape)
    small = gossamer.compress(model, example, choose="engine")  # in kernels from Flatten on
    expected = model(example).detach().numpy()
    np.testing.assert_allclose(small(example).numpy(), expected, rtol=1e-5, atol=1e-6)
    small.save(tmp_path / "n.gsm")
    network, _, shapes = read_network(tmp_path / "n.gsm")
    assert (network.input_shape, shapes.inputs[0].shape) == (shape, shape)
    np.testing.assert_allclose(
        run_portable(network, example.numpy()), expected, rtol=1e-5, atol=1e-6
    )


# --- what has no compiled kernel is still saved, loaded and run


class Branched(nn.Module):
    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Linear(6, 8), between, nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = torch.relu(self.first(inputs))
        return self.last(self.between(found) + found)  # type: ignore[no-any-return]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("between", "name"), [
    (nn.Threshold(0.1, 2.0), "threshold"), (nn.LayerNorm(8), "layer_norm"),
])  # fmt: skip
def test_a_network_is_compressed_saved_and_loaded(
    between: nn.Module, name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, example = Branched(between).eval(), torch.randn(5, 6)
    small = gossamer.compress(model, example, choose="engine")
    expected = model(example).detach().numpy()
    np.testing.assert_allclose(small(example).numpy(), expected, rtol=1e-5, atol=1e-6)
    small.save(tmp_path / "n.gsm")
    (operator,) = (
        layer for layer in read_network(tmp_path / "n.gsm")[0].layers if layer.name == name
    )
    assert bool(small.remaining) != has_kernels(operator)
    with (
        contextlib.nullcontext()
        if has_kernels(operator)
        else pytest.warns(
            RuntimeWarning, match=f"{type(operator).__name__} has no compiled kernel yet"
        )
    ):
        network = gossamer.load(tmp_path / "n.gsm")
    np.testing.assert_allclose(network(example.numpy()), expected, rtol=1e-5, atol=1e-6)

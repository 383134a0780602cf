"""Chance and change in evaluation mode are found, wherever they come from; nothing else is."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression import compaction_report, compress
from gossamer.compression.onnx import export_onnx
from gossamer.core.errors import InputError
from gossamer.measures.functional import effective_weights
from gossamer.measures.functional.repeatable import (
    CHANGES,
    DRAWS,
    check_answers_repeat,
    why_answers_change,
)


class Own:
    """Sources of chance that belong to a network."""

    def __init__(self) -> None:
        self.torch = torch.Generator().manual_seed(1)
        self.numpy = np.random.default_rng(1)
        self.python = random.Random(1)


class Odd(nn.Module):
    """A network with something at its end."""

    def __init__(self, end: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.end = nn.Linear(6, 20), nn.Linear(20, 4), end
        self.own, self.calls = Own(), 0
        self.register_buffer("held", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.end(self, torch.relu(self.first(x))))  # type: ignore[no-any-return]


def stochastic_depth(_net: Any, x: Tensor) -> Tensor:
    """Skips one call in twenty."""
    return x * (torch.rand(()) > 0.05)


def counted_in_buffer(net: Any, x: Tensor) -> Tensor:
    net.held += 1
    return x * net.held  # type: ignore[no-any-return]


DRAWING: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "dropout": lambda _net, x: functional.dropout(x),
    "dropout literal": lambda _net, x: functional.dropout(x, 0.1, training=True),
    "alpha dropout": lambda _net, x: functional.alpha_dropout(x, training=True),
    "stochastic depth": stochastic_depth,
    "noise": lambda _net, x: x + 1e-4 * torch.randn_like(x),
    "rrelu": lambda _net, x: functional.rrelu(x - 1, training=True),
    "gumbel": lambda _net, x: functional.gumbel_softmax(x),
    "order": lambda _net, x: x[:, torch.randperm(x.shape[1])],
    "python": lambda _net, x: x * random.random(),
    "rarely by python": lambda _net, x: x * (random.random() > 0.05),
    "numpy": lambda _net, x: x * float(np.random.rand()),  # noqa: NPY002
    "own torch": lambda net, x: x + torch.rand(x.shape, generator=net.own.torch),
    "rarely by own torch": lambda net, x: x * (torch.rand((), generator=net.own.torch) > 0.05),
}
CHANGING: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "own numpy": lambda net, x: x * net.own.numpy.random(),
    "own python": lambda net, x: x * net.own.python.random(),
    "counter": lambda net, x: x * net.calls,
    "every tenth call": lambda net, x: x * (net.calls % 10 > 0),
    "buffer": counted_in_buffer,
}
STEADY: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "plain": lambda _net, x: x,
    "dropout in training": lambda net, x: functional.dropout(x, training=net.training),
    "draws in vain": lambda _net, x: x + 0 * torch.randn_like(x),
    "seeded": lambda _net, x: x + torch.rand(x.shape, generator=torch.Generator().manual_seed(3)),
    "not a number": lambda _net, x: x / 0,
}
EXAMPLE = torch.linspace(-1, 2, 18).reshape(3, 6)


@pytest.mark.parametrize("name", [*DRAWING, *CHANGING])
def test_chance_and_change_are_found(name: str) -> None:
    torch.manual_seed(0)
    random.seed(0)
    ends, why = (DRAWING, DRAWS) if name in DRAWING else (CHANGING, CHANGES)
    assert why_answers_change(Odd(ends[name]), EXAMPLE) == why


@pytest.mark.parametrize("name", STEADY)
def test_what_always_gives_the_same_passes(name: str) -> None:
    assert why_answers_change(Odd(STEADY[name]), EXAMPLE) == ""


def drawn_by_numpy() -> Any:
    state: Any = np.random.get_state()  # noqa: NPY002
    return state[1].tolist()


def test_generators_modes_and_the_network_stay_as_they_were() -> None:
    torch.manual_seed(3)
    states = torch.get_rng_state(), random.getstate(), drawn_by_numpy()
    network = Odd(counted_in_buffer)
    with pytest.raises(InputError, match=r"different answers .* \(what it holds changes"):
        check_answers_repeat(network, EXAMPLE, "so it cannot be used")
    assert (network.calls, float(network.get_buffer("held")), network.training) == (0, 0, True)
    torch.manual_seed(3)
    check_answers_repeat(Odd(STEADY["draws in vain"]), EXAMPLE, "")
    torch.manual_seed(3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), drawn_by_numpy())


def test_numbers_inside_of_objects_are_compared() -> None:
    @dataclass
    class Output:
        logits: Tensor
        hidden: Any = None

    class Gives(nn.Module):
        def forward(self, x: Tensor) -> list[Output]:
            return [Output(x, {"noise": functional.dropout(x).numpy()})]

    assert why_answers_change(Gives(), EXAMPLE) == DRAWS


@pytest.mark.parametrize("name", ["dropout", "python", "own numpy", "counter"])
def test_nothing_is_computed_from_answers_that_change(name: str, tmp_path: Path) -> None:
    network = Odd({**DRAWING, **CHANGING}[name])
    with pytest.raises(InputError, match="different answers for the same inputs"):
        effective_weights(network, EXAMPLE)
    with pytest.raises(InputError, match="different answers for the same inputs"):
        compress(network, EXAMPLE)
    report = compaction_report(network, EXAMPLE)
    assert report.unfollowed[""].startswith("it gives different answers for the same inputs")
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="different answers for the same inputs"):
        export_onnx(network, EXAMPLE, tmp_path / "network.onnx")


def test_a_network_that_answers_always_the_same_is_measured_as_before() -> None:
    found = effective_weights(Odd(STEADY["dropout in training"]), EXAMPLE)
    assert all(bool(reached.all()) for reached in found.values())

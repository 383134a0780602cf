"""Units of recurrent cells that a forward writes out, gates and first states with them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import compact, prune
from gossamer.compression.compaction import compaction_report

STEPS = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
FILMS = torch.randn(2, 3, 2, 5, 5, generator=torch.Generator().manual_seed(1))

Gates = Callable[[Tensor, int], Any]
GATES: dict[str, Gates] = {
    "chunks": lambda gates, _: gates.chunk(4, 1),
    "split": lambda gates, n: torch.split(gates, n, dim=1),
    "slices": lambda gates, n: (
        gates[:, :n], gates[:, n : 2 * n], gates[:, 2 * n : 3 * n], gates[:, 3 * n :],
    ),
    "narrowed": lambda gates, n: [gates.narrow(1, number * n, n) for number in range(4)],
}  # fmt: skip


def stepped(gates: Any, cell: Tensor) -> tuple[Tensor, Tensor]:
    keep, take, new, show = gates
    cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
    return show.sigmoid() * cell.tanh(), cell


class Films(nn.Module):
    """A convolutional LSTM (Shi et al. 2015), which begins from zeros."""

    def __init__(self, gates: Gates) -> None:
        super().__init__()
        self.hidden, self.gates = 8, gates
        self.cell, self.head = nn.Conv2d(2 + 8, 32, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, times, _, height, width = x.shape
        state = x.new_zeros(batch, self.hidden, height, width)
        cell = torch.zeros_like(state)
        for time in range(times):
            gates = self.cell(torch.cat([x[:, time], state], 1))
            state, cell = stepped(self.gates(gates, self.hidden), cell)
        return self.head(state)  # type: ignore[no-any-return]


class Written(nn.Module):
    """An LSTM whose two products are added, and whose states are collected in some way."""

    def __init__(self, collected: str) -> None:
        super().__init__()
        self.hidden, self.collected = 8, collected
        self.of_input, self.of_state = nn.Linear(6, 32), nn.Linear(8, 32, bias=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.size(0), self.hidden, device=x.device).to(x)
        cell = state
        states = [state]
        made = torch.empty if self.collected == "empty" else torch.zeros
        kept = made(len(x), x.shape[1], self.hidden, dtype=x.dtype)
        for time, step in enumerate(x.unbind(1)):
            gates = self.of_input(step) + self.of_state(state)
            state, cell = stepped(gates.chunk(4, -1), cell)
            states.append(state)
            kept[:, time] = state
        found = torch.stack(states, 1) if self.collected == "stack" else kept
        return self.head(found)  # type: ignore[no-any-return]


def half(network: nn.Module, example: Tensor) -> nn.Module:
    prune(
        network, 0.5, pattern="unit", example=example, allocation="uniform", exclude="output layer"
    )
    return network


def check_alike(network: nn.Module, small: nn.Module, example: Tensor) -> None:
    for given in (example, torch.randn(3, *example.shape[1:])):
        with torch.no_grad():
            exact = copy.deepcopy(network).double()(given.double())
            found = copy.deepcopy(small).double()(given.double())
        assert float((found - exact).abs().max() / exact.abs().max()) < 1e-12
    small.train()(example).square().mean().backward()


@pytest.mark.parametrize("gates", GATES)
def test_channels_of_a_convolutional_lstm_go_with_all_their_gates(gates: str) -> None:
    torch.manual_seed(0)
    network = half(Films(GATES[gates]).eval(), FILMS)
    small: Any = compact(network, FILMS)
    assert (small.cell.in_channels, small.cell.out_channels, small.hidden) == (2 + 4, 16, 4)
    check_alike(network, small, FILMS)


@pytest.mark.parametrize("collected", ["stack", "zeros", "empty"])
def test_units_of_a_cell_that_is_written_out_go_however_states_are_collected(
    collected: str,
) -> None:
    torch.manual_seed(0)
    network = half(Written(collected).eval(), STEPS)
    small: Any = compact(network, STEPS)
    assert (small.of_state.in_features, small.of_state.out_features) == (4, 16)
    assert small.head.in_features == 4
    check_alike(network, small, STEPS)


class Taken(nn.Module):
    """Some channels of a layer by fixed places, others up to where they end."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 12), nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x).tanh()
        return self.head(y[..., 2:-1]) + y[..., :1] + y[:, :, -1, None]  # type: ignore[no-any-return]


def test_channels_beside_fixed_places_stay_and_the_others_go() -> None:
    torch.manual_seed(0)
    network = Taken().eval()
    with torch.no_grad():
        for gone in (0, 3, 5, 7, 11):
            network.layer.weight[gone] = network.layer.bias[gone] = 0.0
    report = compaction_report(network, STEPS)
    assert report.layers["layer"].outputs.logical_not().nonzero().flatten().tolist() == [3, 5, 7]
    check_alike(network, report.network, STEPS)

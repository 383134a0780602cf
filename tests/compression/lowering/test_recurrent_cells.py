"""Cells that a forward calls step by step: in the engine as one layer over the steps."""

import copy

import pytest
import torch
from torch import Tensor, nn

from gossamer import compress
from gossamer.compression.lowering.recurrent_cells import with_joined_cells
from gossamer.compression.lowering.tracing import operation_name, trace

INPUTS = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
Kind = type[nn.LSTMCell | nn.GRUCell | nn.RNNCell]


class Steps(nn.Module):
    """Two cells on top of each other, of which the last states are read."""

    def __init__(self, kind: Kind, *, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = kind(6, 4, bias=bias), kind(4, 7, bias=bias)
        self.head = nn.Linear(7, 2)

    def step(self, cell: nn.Module, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what a cell gives, and its state."""
        state = cell(x, state)
        return (state[0] if isinstance(state, tuple) else state), state

    def forward(self, x: Tensor) -> Tensor:
        lower: Tensor | None = None
        upper: Tensor | None = None
        for step in range(x.shape[1]):
            out, lower = self.step(self.first, x[:, step], lower)
            out, upper = self.step(self.second, torch.relu(out), upper)
        return self.head(out)  # type: ignore[no-any-return]


class Everything(Steps):
    """The first states are computed, and the states of all steps given, newest first."""

    def forward(self, x: Tensor) -> Tensor:
        start = x.mean(1)[:, :4]
        state: object = (start, start.tanh()) if isinstance(self.first, nn.LSTMCell) else start
        found = []
        for one in x.unbind(1)[::-1]:
            out, state = self.step(self.first, one, state)  # type: ignore[arg-type]
            found += [out, state[1] if isinstance(state, tuple) else out]
        return torch.stack(found, 1)


class Feeding(Steps):
    """Each step reads what the one before gave."""

    def forward(self, x: Tensor) -> Tensor:
        state: Tensor | None = None
        given = x[:, 0]
        for _ in range(4):
            out, state = self.step(self.first, given, state)
            given = torch.cat([out, x[:, 0, :2]], 1)
        return given


class Crossing(Steps):
    """Late steps of each of two chains read early ones of the other."""

    def forward(self, x: Tensor) -> Tensor:
        a, lower = self.step(self.first, x[:, 0], None)
        b, upper = self.step(self.second, x[:, 0, :4], None)
        a, lower = self.step(self.first, x[:, 1] + b[:, :6], lower)
        b, upper = self.step(self.second, a.tanh(), upper)
        return torch.cat([a, b], 1)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("network", [Steps, Everything, Feeding, Crossing])
def test_cells_run_in_the_engine(network: type[Steps], kind: Kind) -> None:
    torch.manual_seed(0)
    model = network(kind, bias=network is not Everything).eval()
    found = compress(model, INPUTS, choose="engine")
    assert not found.remaining
    more = torch.randn(2, 5, 6)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(more.double())
    assert torch.allclose(torch.as_tensor(found(more)).double(), exact, atol=1e-6)


@pytest.mark.parametrize(("network", "layers"), [(Steps, 2), (Everything, 1), (Feeding, 4)])
def test_steps_that_can_be_are_one_layer(network: type[Steps], layers: int) -> None:
    graph = with_joined_cells(trace(network(nn.LSTMCell).eval(), INPUTS)).graph
    names = [operation_name(node) for node in graph.graph.nodes]
    assert names.count("gossamer::recurrence") == layers
    assert "lstm_cell" not in names

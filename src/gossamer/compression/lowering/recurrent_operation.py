"""One direction of one recurrent layer as an operation of PyTorch, steps and all."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CELLS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "tanh", "rnn_relu": "relu"}
"""The engine's name of each kind of layer."""


@torch.library.custom_op("gossamer::recurrence", mutates_args=())
def _recurrence(
    gates: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    state: Tensor | None,
    cells: Tensor | None,
    cell: str,
    reverse: bool,
    gives_cells: bool,
) -> Tensor:
    """Run one direction of one layer; see `engine.ops.recurrence`, with the axes [batch, steps]."""
    units = weights.shape[1]
    zeros = gates.new_zeros(len(gates), units)
    hidden, memory = (zeros if one is None else one for one in (state, cells))
    found = []
    for given in gates.unbind(1)[:: -1 if reverse else 1]:
        if cell == "lstm":
            i, f, g, o = (given + functional.linear(hidden, weights, bias)).chunk(4, 1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * memory.tanh()
        elif cell == "gru":
            more = functional.linear(hidden, weights, bias).chunk(3, 1)
            r, z, n = given.chunk(3, 1)
            z = (z + more[1]).sigmoid()
            hidden = (1 - z) * (n + (r + more[0]).sigmoid() * more[2]).tanh() + z * hidden
        else:
            hidden = given + functional.linear(hidden, weights, bias)
            hidden = hidden.tanh() if cell == "tanh" else hidden.relu()
        found.append(torch.cat((hidden, memory), 1) if gives_cells else hidden)
    return torch.stack(found[:: -1 if reverse else 1], 1)


@_recurrence.register_fake
def _(gates: Tensor, weights: Tensor, *others: Any) -> Tensor:
    units = weights.shape[1] * (2 if others[-1] else 1)
    return gates.new_empty(gates.shape[0], gates.shape[1], units)

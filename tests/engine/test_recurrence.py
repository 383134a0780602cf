"""Recurrent layers against PyTorch in float64, in every run there is."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossamer.core.errors import InputError
from gossamer.engine import (
    Doubles,
    Engine,
    Layout,
    Network,
    Recurrence,
    available_instruction_sets,
    check_network,
    pack_weights,
    run_portable_all,
)
from gossamer.engine.ops.recurrence import GATES, CellName

LAYOUTS: tuple[Layout, ...] = ("dense", "csr", "block")
CELLS: tuple[CellName, ...] = ("lstm", "gru", "tanh", "relu")
Drawn = tuple[Network, tuple[Doubles, ...], Doubles]


@st.composite
def recurrences(draw: st.DrawFn) -> Drawn:
    """Return a network of one direction of a layer, its inputs, and what PyTorch gives for them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cell = draw(st.sampled_from(CELLS))
    units, steps = draw(st.sampled_from((1, 5, 16, 33))), draw(st.sampled_from((1, 2, 17)))
    rows, count = GATES[cell] * units, draw(st.sampled_from((0, 1, 3, 18)))
    spread = draw(st.sampled_from((0.01, 1.0, 1e4)))
    matrix = random.standard_normal((rows, units)) * (random.random((rows, units)) < 0.4)
    matrix = (matrix / np.sqrt(units)).astype("f4")
    bias = random.standard_normal(rows).astype("f4") if draw(st.booleans()) else None
    given, states = (
        spread * random.standard_normal((count, steps, rows)),
        2 if cell == "lstm" else 1,
    )
    initial = random.standard_normal((states, count, units)) if draw(st.booleans()) else None
    reverse, cells = draw(st.booleans()), cell == "lstm" and draw(st.booleans())
    inputs = tuple(
        one.astype("f4").astype(float)
        for one in (given.swapaxes(1, 2)[:, :, None], *([] if initial is None else initial))
    )
    names = None if initial is None else tuple(range(1, 1 + states))
    weights = pack_weights(matrix, draw(st.sampled_from(LAYOUTS)))
    layer = Recurrence(0, weights, cell, bias, reverse, cells, names)
    shapes = tuple(one.shape[1:] for one in inputs)
    return Network(shapes, (layer,), len(inputs)), inputs, expected(layer, matrix, inputs)


def expected(layer: Recurrence, matrix: np.ndarray, inputs: tuple[Doubles, ...]) -> Doubles:
    """Return what PyTorch's cells give, step by step."""
    rows, units = matrix.shape
    kinds = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
    cell = kinds.get(layer.cell, nn.RNNCell)(rows, units).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(rows))
        cell.weight_hh.copy_(torch.from_numpy(matrix))
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
        if layer.bias is not None:
            cell.bias_hh.copy_(torch.from_numpy(layer.bias))
    if isinstance(cell, nn.RNNCell):
        cell.nonlinearity = layer.cell
    zeros = torch.zeros(len(inputs[0]), units, dtype=torch.float64)
    states = [*map(torch.from_numpy, inputs[1:])] or [zeros, zeros]
    found = []
    steps = torch.from_numpy(inputs[0][:, :, 0]).unbind(2)
    for step in reversed(steps) if layer.reverse else steps:
        if layer.cell == "lstm":
            states = [*cell(step, (states[0], states[1]))]
        else:
            states = [cell(step, states[0])]
        found.append(torch.cat(states, 1) if layer.cells else states[0])
    return torch.stack(found[::-1] if layer.reverse else found, 2)[:, :, None].detach().numpy()


@settings(max_examples=60)
@given(recurrences())
def test_recurrent_layers_are_pytorchs_in_every_run(drawn: Drawn) -> None:
    network, inputs, exact = drawn
    assert check_network(network)[-1] == exact.shape[1:]
    (found,) = run_portable_all(network, inputs, np.float64)
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-9)
    given = tuple(one.astype(np.float32) for one in inputs)
    for name in available_instruction_sets():
        (found,) = Engine(network, name).run(given, threads=2)
        # What a gate rounds stays in the state of all steps behind it.
        tolerance = 2e-5 * (1 + np.abs(exact).max(initial=0.0))
        assert np.abs(found - exact).max(initial=0.0) <= tolerance


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cell": "gru"}, "expected [6, 1, steps] and [6, 2]"),
        ({"cells": True, "cell": "tanh"}, "expected [2, 1, steps]"),
        ({"initial": (0,)}, "initial names 1 values, expected 2"),
        ({"initial": (0, 0)}, "initial has shape [8, 1, 3], expected [2]"),
        ({"cell": "rnn"}, "cell is 'rnn', expected one of lstm, gru, tanh, relu"),
    ],
)
def test_a_recurrent_layer_that_does_not_fit_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    fields = {"cell": "lstm", **changes}
    layer = Recurrence(0, pack_weights(np.ones((8, 2)), "dense"), **fields)
    with pytest.raises(InputError) as caught:
        check_network(Network((8, 1, 3), (layer,), 1))
    assert complaint in str(caught.value)

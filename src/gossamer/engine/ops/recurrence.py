"""Recurrent layers over the steps of a sequence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.activations import Activation, activate
from gossamer.engine.epilogue import expect_axes, expect_shape
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Call, Given, Lowered, Operator, register
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.permute import Permute
from gossamer.engine.weights import Weights, dense, random_weights, unpack_rows

CellName = Literal["lstm", "gru", "tanh", "relu"]
GATES: Mapping[str, int] = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
"""How many numbers of each unit a step computes, in the order of PyTorch."""


@dataclass(frozen=True, eq=False)
class Recurrence(Operator):
    """One direction of one recurrent layer: LSTM, GRU, or a plain one with tanh or ReLU.

    `input` is [gates * units, 1, steps], what comes of the products with the inputs of all steps.
    To those of a step are added the weights [gates * units, units] times the state of the step
    before, plus `bias` [gates * units]; gates stand as in PyTorch (i, f, g, o of an LSTM; r, z, n
    of a GRU, whose n multiplies that sum by r). The result is the state after each step, [units, 1,
    steps]; with `cells`, those of an LSTM stand behind it. `reverse` begins with the last step.
    `initial` names the first state, and the first cells of an LSTM, [units] each; else they are 0.
    """

    name = "recurrence"

    input: Value
    weights: Weights
    cell: CellName
    bias: Array | None = None
    reverse: bool = False
    cells: bool = False
    initial: tuple[Value, ...] | None = None

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, gates = shapes[self.input], GATES[self.cell]
        units = self.weights.columns
        expect_axes(given, "features", "1", "steps")
        if self.weights.rows != gates * units or given[:2] != (gates * units, 1):
            raise InputError(
                f"reads a value of shape {list(given)} with weights [{self.weights.rows}, {units}],"
                f" expected [{gates * units}, 1, steps] and [{gates * units}, {units}]."
            )
        expect_shape("bias", self.bias, (gates * units,))
        if self.cells and self.cell != "lstm":
            raise InputError("cells are of an LSTM alone, expected false.")
        states = 2 if self.cell == "lstm" else 1
        if self.initial is not None and len(self.initial) != states:
            raise InputError(f"initial names {len(self.initial)} values, expected {states}.")
        for value in self.initial or ():
            if shapes[value] != (units,):
                raise InputError(f"initial has shape {list(shapes[value])}, expected [{units}].")
        return (units * (2 if self.cells else 1), 1, given[2])

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        count, _, _, steps = given.shape
        units, dtype = self.weights.columns, given.dtype
        matrix = unpack_rows(self.weights, 0, self.weights.rows, dtype)
        bias = dtype.type(0) if self.bias is None else self.bias.astype(dtype)
        zeros = np.zeros((count, units), dtype)
        state, *rest = (
            (zeros, zeros) if self.initial is None else [values[one] for one in self.initial]
        )
        cells = rest[0] if rest else zeros
        result = np.empty((count, units * (2 if self.cells else 1), 1, steps), dtype)
        for step in range(steps)[:: -1 if self.reverse else 1]:
            hidden = state @ matrix.T + bias
            state, cells = _STEPS[self.cell](given[:, :, 0, step], hidden, state, cells)
            result[:, :units, 0, step] = state
            if self.cells:
                result[:, units:, 0, step] = cells
        return result

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Recurrence"]:
        cell: CellName = get_args(CellName)[int(random.integers(4))]
        units, steps = (int(number) for number in random.integers(1, [40, 6]))
        weights, bias = random_weights(random, units, GATES[cell] * units)
        cells = cell == "lstm" and random.random() < 0.5
        drawn = cls(
            0, weights, cell, bias if random.random() < 0.5 else None, random.random() < 0.5, cells
        )
        return (GATES[cell] * units, 1, steps), drawn


def _sigmoid(x: Array) -> Array:
    return activate(Activation("sigmoid"), x)


def _lstm(given: Array, hidden: Array, _: Array, cells: Array) -> tuple[Array, Array]:
    enter, forget, new, leave = np.split(given + hidden, 4, axis=1)
    cells = _sigmoid(forget) * cells + _sigmoid(enter) * np.tanh(new)
    return _sigmoid(leave) * np.tanh(cells), cells


def _gru(given: Array, hidden: Array, state: Array, cells: Array) -> tuple[Array, Array]:
    reset, keep, new = np.split(given, 3, axis=1)
    more_reset, more_keep, more_new = np.split(hidden, 3, axis=1)
    kept = _sigmoid(keep + more_keep)
    new = np.tanh(new + _sigmoid(reset + more_reset) * more_new)
    return (1 - kept) * new + kept * state, cells


def _tanh(given: Array, hidden: Array, _: Array, cells: Array) -> tuple[Array, Array]:
    return np.tanh(given + hidden), cells


def _relu(given: Array, hidden: Array, _: Array, cells: Array) -> tuple[Array, Array]:
    return np.maximum(given + hidden, 0), cells


_STEPS = {"lstm": _lstm, "gru": _gru, "tanh": _tanh, "relu": _relu}


def _recurrence(call: Call) -> Lowered:
    """Return one direction of one layer, of which the products with the inputs are given."""
    given, weights, bias = call.given("gates"), call.constant("weights"), call.constant("bias")
    if given is None or weights is None or (bias is None and call.arguments["bias"] is not None):
        return ()
    steps: list[Operator] = [Permute(given.value, (2, 1, 0))]
    initial: list[Value] = []
    for name in ("state", "cells"):
        first = call.arguments[name]
        if isinstance(first, Given):
            initial.append(first.value)
        elif first is not None:
            numbers = call.constant(name)
            if numbers is None:
                return ()
            initial.append(call.step(len(steps)))
            steps.append(Constant(given.value, numbers.ravel(), (numbers.size,)))
    layer = Recurrence(
        call.step(0),
        dense(weights),
        call.arguments["cell"],
        bias,
        call.arguments["reverse"],
        call.arguments["gives_cells"],
        tuple(initial) or None,
    )
    return (*steps, layer, Permute(call.step(len(steps)), (2, 1, 0)))


register(Recurrence, {"gossamer::recurrence": _recurrence})

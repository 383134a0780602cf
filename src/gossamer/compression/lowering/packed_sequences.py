"""Packed sequences as padded ones, and what knows their lengths, while a model is recorded.

`pack_padded_sequence` puts the steps of all examples behind one another, which no recording can
follow, as how many there are depends on the lengths. The recurrent layers between it and
`pad_packed_sequence` are written here over padded sequences instead: a state beyond the end of an
example is read by nobody, and one that runs backwards stays as it was until the last step. Examples
keep their order, so that nothing is sorted.
"""

import contextlib
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn
from torch.nn.utils.rnn import PackedSequence

from gossamer.compression.lowering.recurrent_operation import CELLS
from gossamer.core.errors import InputError

_CLOSED = 1e9
"""What a gate is given so that it lets nothing through, or all."""
_BEYOND = 2**24
"""A step that no example reaches."""


@contextlib.contextmanager
def padded_sequences() -> Iterator[None]:
    """Let PyTorch's functions and layers of packed sequences compute padded ones for a while."""
    functions = {rnn.pack_padded_sequence: _pack, rnn.pad_packed_sequence: _pad}
    codes = {function: function.__code__ for function in functions}
    kinds: tuple[Any, ...] = (nn.LSTM, nn.GRU, nn.RNN)
    forwards = {kind: kind.forward for kind in kinds}
    try:
        for function, other in functions.items():  # known by these names elsewhere, too
            function.__code__ = other.__code__
        for kind, forward in forwards.items():
            kind.forward = _forward_of(forward)
        yield
    finally:
        for function, code in codes.items():
            function.__code__ = code
        for kind, forward in forwards.items():
            kind.forward = forward


def _pack(input, lengths, batch_first=False, enforce_sorted=True):  # type: ignore[no-untyped-def] # noqa: A002, ARG001
    # These names are looked up in PyTorch's module.
    from gossamer.compression.lowering.packed_sequences import packed

    return packed(input, lengths, batch_first=batch_first)


def _pad(sequence, batch_first=False, padding_value=0.0, total_length=None):  # type: ignore[no-untyped-def]
    from gossamer.compression.lowering.packed_sequences import padded

    return padded(sequence, padding_value, total_length, batch_first=batch_first)


def packed(steps: Tensor, lengths: Any, *, batch_first: bool) -> PackedSequence:
    """Return sequences [batch, steps, ...] as packed ones whose batch sizes are their lengths."""
    if not isinstance(lengths, Tensor):
        lengths = torch.as_tensor(lengths, dtype=torch.int64)
    found = steps if batch_first else steps.transpose(0, 1)
    return PackedSequence(found, lengths.to(torch.int64).cpu())


def padded(
    sequence: PackedSequence, padding_value: float, total_length: int | None, *, batch_first: bool
) -> tuple[Tensor, Tensor]:
    """Return the steps of sequences with a number behind each, and their lengths.

    Raises
    ------
    InputError
        If they would be cut at the longest.
    """
    steps, lengths = sequence.data, sequence.batch_sizes
    if total_length != steps.shape[1]:
        raise InputError(
            "pad_packed_sequence cuts what it gives at the longest example of a batch, but one "
            "size for all batches was expected: give it total_length, the number of steps that "
            "were packed, such as x.shape[1]"
        )
    there = _places(steps, 0) < lengths[:, None]
    there = there.reshape(*there.shape, *(1,) * (steps.dim() - 2))
    found = torch.where(there, steps, padding_value)
    return (found if batch_first else found.transpose(0, 1)), lengths


def _places(steps: Tensor, first: int) -> Tensor:
    return torch.arange(first, first + steps.shape[1])[None]


def _forward_of(forward: FunctionType) -> Any:
    def either(self: Any, input: Any, hx: Any = None) -> Any:  # noqa: A002
        if not isinstance(input, PackedSequence) or input.data.dim() != 3:
            return forward(self, input, hx)
        return _Layers(self, input.data, input.batch_sizes, hx).run()

    return either


class _Layers:
    """The layers of a module over padded sequences."""

    def __init__(self, module: Any, steps: Tensor, lengths: Tensor, states: Any) -> None:
        self.module, self.steps, self.lengths = module, steps, lengths
        self.cell = CELLS[module.mode.lower()]
        self.ways = 2 if module.bidirectional else 1
        given = states if isinstance(states, tuple) else (states,)
        self.states = [one for one in given if one is not None]
        if getattr(module, "proj_size", 0):
            raise InputError("packed sequences of an LSTM with projections stay in PyTorch")
        if self.states and self.ways == 2 and self.cell != "gru":
            raise InputError(
                "packed sequences that begin with states given and also run backwards stay in "
                "PyTorch, but for a GRU: leave the first states out, where they are zeros"
            )
        # The last place reaches to the end, also for lengths beyond it.
        ends = _places(steps, 1).clone()
        ends[:, -1] = _BEYOND
        self.there = (_places(steps, 0) < lengths[:, None])[:, :, None]
        self.last = self.there & (ends >= lengths[:, None])[:, :, None]

    def run(self) -> tuple[PackedSequence, Any]:
        """Return the states of all steps, packed, and those of the last."""
        value = self.steps
        ends: list[list[Tensor]] = [[], []]
        for layer in range(self.module.num_layers):
            found = [self._direction(value, layer, way, ends) for way in range(self.ways)]
            value = found[0] if self.ways == 1 else torch.cat(found, 2)
        states = tuple(torch.cat([one[None] for one in end]) for end in ends if end)
        output = PackedSequence(value, self.lengths)
        return output, states if self.cell == "lstm" else states[0]

    def _direction(self, value: Tensor, layer: int, way: int, ends: list[list[Tensor]]) -> Tensor:
        suffix = f"_l{layer}{'_reverse' if way else ''}"
        weights, hidden, bias, more = (
            getattr(self.module, f"{name}{suffix}", None)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        assert weights is not None
        assert hidden is not None
        gates = functional.linear(value, weights, bias)
        if way:
            gates = torch.where(self.there, gates, self._waiting(gates, more))
        initial = [one[layer * self.ways + way] for one in self.states]
        first, cells = (*initial, None, None)[:2]
        both = self.cell == "lstm"
        out = torch.ops.gossamer.recurrence(
            gates, hidden, more, first, cells, self.cell, bool(way), both
        )
        units = hidden.shape[1]
        parts: list[Tensor] = [out[..., :units], out[..., units:]] if both else [out]
        for end, part in zip(ends, parts, strict=False):
            end.append(part[:, 0] if way else torch.where(self.last, part, 0.0).sum(1))
        return parts[0]

    def _waiting(self, gates: Tensor, bias: Tensor | None) -> Tensor:
        """Return gates by which a state stays as it is; one of zeros, but for a GRU."""
        units = gates.shape[2] // {"lstm": 4, "gru": 3}.get(self.cell, 1)
        found = torch.zeros(gates.shape[2])
        if self.cell == "lstm":  # nothing enters
            found[:units] = -_CLOSED
        elif self.cell == "gru":  # all is kept
            found[units : 2 * units] = _CLOSED
        elif self.cell == "relu":
            found -= _CLOSED
        elif bias is not None:
            found = found - bias
        return found

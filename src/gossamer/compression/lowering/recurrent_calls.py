"""Recurrent layers as one call while a model is recorded.

PyTorch finds out which shapes they give by writing out every step, which takes seconds for a long
sequence. The calls that stand for them know their shapes, and are named as PyTorch's afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

_aten = torch.ops.aten


@torch.library.custom_op("gossamer::lstm", mutates_args=())
def _lstm(
    input: Tensor,  # noqa: A002 - the names of PyTorch
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    return torch.lstm(input, list(hx), list(params), *options)


@_lstm.register_fake
def _(input: Tensor, hx: Sequence[Tensor], *others: Any) -> tuple[Tensor, ...]:  # noqa: A002
    return _states(input, hx[0], bidirectional=others[-2]), *map(torch.empty_like, hx)


def _of_one_state(name: str, cell: Any) -> Any:
    """Return the call that stands for a recurrent layer whose state is one value."""

    @torch.library.custom_op(f"gossamer::{name}", mutates_args=())
    def layer(
        input: Tensor,  # noqa: A002
        hx: Tensor,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, Tensor]:
        options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
        return cell(input, hx, list(params), *options)  # type: ignore[no-any-return]

    @layer.register_fake
    def _(input: Tensor, hx: Tensor, *others: Any) -> tuple[Tensor, ...]:  # noqa: A002
        return _states(input, hx, bidirectional=others[-2]), torch.empty_like(hx)

    return layer


def _states(given: Tensor, first: Tensor, *, bidirectional: bool) -> Tensor:
    """Return a tensor of the shape of the states of all steps."""
    units = first.shape[-1] * (2 if bidirectional else 1)
    return given.new_empty(given.shape[0], given.shape[1], units)


_CALLS = {
    "lstm": _lstm,
    **{name: _of_one_state(name, getattr(torch, name)) for name in ("gru", "rnn_tanh", "rnn_relu")},
}
_ARGUMENTS = 9
"""Of a layer whose sequences are not packed; the third are the parameters then."""


class RecurrentCalls(TorchFunctionMode):
    """Calls what stands for a recurrent layer in its place."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or what stands for it."""
        call = _CALLS.get(getattr(func, "__name__", ""))
        plain = len(args) == _ARGUMENTS and isinstance(args[2], list | tuple) and not kwargs
        if call is None or not plain:
            return func(*args, **(kwargs or {}))
        return call(*args)


def named_as_in_pytorch(graph: fx.GraphModule) -> None:
    """Let what stands for recurrent layers in a graph be PyTorch's calls again."""
    own = {getattr(torch.ops.gossamer, name).default: name for name in _CALLS}
    for node in graph.graph.nodes:
        if node.target in own:
            node.target = getattr(_aten, own[node.target]).input

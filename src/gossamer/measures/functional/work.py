"""How much work a network does for one example."""

import contextlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.modes import evaluation
from gossamer.measures.functional.running import run


@dataclass(frozen=True)
class Multiplies:
    """Multiply-adds of one example."""

    dense: int
    nonzero: int
    """Those of non-zero weights."""


def multiply_adds(network: nn.Module, example: Tensor | Arguments) -> Multiplies:
    """Return the multiply-adds of the network's weights for one example, by running it.

    A weight costs one multiply-add at each position where it is used, padding counted; a weight
    that two layers share costs in both. Counted are Linear, Bilinear, convolutions and transposed
    convolutions, RNN, LSTM, GRU and their cells, and the projections of MultiheadAttention. Not
    counted are products of two activations, normalisation, biases, poolings and look-ups in
    embeddings, and the functional calls in a user's own `forward`.

    Parameters
    ----------
    network
        The network; it runs in evaluation mode, and each submodule's mode is restored.
    example
        Input [examples, ...] on the network's device, or several; only the first example is run.

    Raises
    ------
    InputError
        If the network fails on the example.

    Examples
    --------
    >>> multiply_adds(nn.Conv2d(1, 32, 3), torch.zeros(1, 1, 28, 28)).dense  # 26 * 26 * 32 * 9
    194688
    """
    used = weight_uses(network, example)
    return Multiplies(
        dense=sum(weight.numel() * positions for weight, positions in used),
        nonzero=sum(int(weight.count_nonzero()) * positions for weight, positions in used),
    )


def weight_uses(network: nn.Module, example: Tensor | Arguments) -> list[tuple[Tensor, int]]:
    """Return each weight as often as it is used, with the number of positions there.

    See `multiply_adds`, which adds them up.
    """
    used: list[tuple[Tensor, int]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        inputs = inspect.signature(module.forward).bind(*args, **kwargs).args
        used.extend(_uses(module, inputs, output))

    with contextlib.ExitStack() as stack, torch.no_grad(), evaluation(network):
        for module in network.modules():
            if _uses.dispatch(type(module)) is not _uses.dispatch(nn.Module):
                stack.enter_context(module.register_forward_hook(note, with_kwargs=True))
        run(network, example[:1])
    return used


@singledispatch
def _uses(
    module: nn.Module,  # noqa: ARG001  # dispatched on
    inputs: tuple[Any, ...],  # noqa: ARG001
    output: Any,  # noqa: ARG001
) -> Iterable[tuple[Tensor, int]]:
    """Return the weights of a layer, each with the number of positions at which it is used."""
    return ()


@_uses.register(nn.Linear)
@_uses.register(nn.Bilinear)
def _(
    module: nn.Linear | nn.Bilinear, _inputs: tuple[Any, ...], output: Tensor
) -> Iterator[tuple[Tensor, int]]:
    yield module.weight, output.numel() // module.out_features


@_uses.register
def _(module: _ConvNd, _inputs: tuple[Any, ...], output: Tensor) -> Iterator[tuple[Tensor, int]]:
    yield module.weight, output.numel() // module.out_channels


@_uses.register
def _(
    module: _ConvTransposeNd, inputs: tuple[Any, ...], _output: Tensor
) -> Iterator[tuple[Tensor, int]]:
    yield module.weight, inputs[0].numel() // module.in_channels


@_uses.register
def _(module: nn.RNNBase, inputs: tuple[Any, ...], _output: Any) -> Iterator[tuple[Tensor, int]]:
    packed = isinstance(inputs[0], nn.utils.rnn.PackedSequence)
    steps = (inputs[0].data if packed else inputs[0]).numel() // module.input_size
    for direction in module.all_weights:
        yield from ((weight, steps) for weight in direction if weight.dim() >= 2)


@_uses.register
def _(
    module: nn.RNNCellBase, inputs: tuple[Any, ...], _output: Any
) -> Iterator[tuple[Tensor, int]]:
    steps = inputs[0].numel() // module.input_size
    yield module.weight_ih, steps
    yield module.weight_hh, steps


@_uses.register
def _(
    module: nn.MultiheadAttention, inputs: tuple[Any, ...], _output: Any
) -> Iterator[tuple[Tensor, int]]:
    if module.in_proj_weight is None:
        projections = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
    else:
        projections = list(module.in_proj_weight.chunk(3))
    for weight, projected in zip(projections, inputs[:3], strict=True):
        yield weight, projected.numel() // weight.shape[1]
    yield module.out_proj.weight, inputs[0].numel() // module.embed_dim

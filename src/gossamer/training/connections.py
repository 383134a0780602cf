"""Connections of sparse layers that move: in each layer some go, and as many others come.

No dense weight is ever made: who grows is found block by block.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.optim import Optimizer

from gossamer.core.errors import InputError
from gossamer.masks.names import bare_name
from gossamer.masks.selection import lowest
from gossamer.networks.sparse_layer import SparseLayer

BLOCK = 1 << 20
"""About how many weights are looked at at once."""


@dataclass(frozen=True)
class WeightGradient:
    """The gradient of the dense weight that a sparse layer stands for, in blocks of its rows."""

    layer: SparseLayer
    uses: tuple[tuple[Tensor, Tensor], ...]
    """For each use of the layer its inputs, and the gradient of its outputs."""

    def blocks(self) -> Iterator[Tensor]:
        """Return some rows after the other, whole ones, as the weight has them."""
        for begin, end in blocks_of(self.layer.weight_shape):
            rows = self.layer.values.new_zeros(end - begin, *self.layer.weight_shape[1:])
            for inputs, gradient in self.uses:
                rows += self.layer.gradient_of_rows(inputs, gradient, begin, end)
            yield rows


def blocks_of(shape: torch.Size) -> Iterator[tuple[int, int]]:
    """Return from which row to which each block of a weight goes.

    Examples
    --------
    >>> list(blocks_of(torch.Size([5, 400_000])))
    [(0, 2), (2, 4), (4, 5)]
    """
    rows = max(1, BLOCK // max(1, shape[1:].numel()))
    return ((begin, min(begin + rows, shape[0])) for begin in range(0, shape[0], rows))


def sparse_layers(network: nn.Module) -> dict[str, SparseLayer]:
    """Return the layers that store their non-zeros only, by the names of their weights in masks."""
    return {
        bare_name(f"{name}.weight" if name else "weight"): module
        for name, module in network.named_modules()
        if isinstance(module, SparseLayer)
    }


@dataclass(frozen=True)
class Gradients:
    """Gradients of a loss."""

    parameters: Mapping[str, Tensor]
    """Of every parameter, by its name."""
    weights: Mapping[str, WeightGradient] = field(default_factory=dict)
    """Of the dense weights of sparse layers, by the names that they have in masks."""


def gradients_of(network: nn.Module, loss: Callable[[], Tensor]) -> Gradients:
    """Return the gradients of every parameter, and of the weights of sparse layers.

    Parameters
    ----------
    network
        Of which `loss` makes use. Its buffers and the random generator are left as they were.
    loss
        Returns what is to be differentiated.
    """
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    cuda = {p.device for p in parameters.values() if p.device.type == "cuda"}
    with (
        torch.random.fork_rng(devices=list(cuda)),
        _kept_buffers(network),
        _observed(network) as uses,
    ):
        value = loss()
        # Before buffers are as they were, since the graph may know them as they are now.
        edges = [edge for each in uses.values() for _, edge in each]
        wanted: Any = [*parameters.values(), *edges]
        found = torch.autograd.grad(value, wanted, allow_unused=True)
    coming = iter(found[len(parameters) :])
    weights = {
        name: WeightGradient(
            layer,
            tuple((inputs, g) for inputs, _ in uses[name] if (g := next(coming)) is not None),
        )
        for name, layer in sparse_layers(network).items()
    }
    pairs = zip(parameters.items(), found, strict=False)
    return Gradients(
        {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}, weights
    )


@contextmanager
def _observed(network: nn.Module) -> Iterator[dict[str, list[tuple[Tensor, GradientEdge]]]]:
    """Note the inputs of sparse layers, and their outputs as they are before anything changes them.

    What was not differentiated is left out.
    """
    layers = sparse_layers(network)
    uses: dict[str, list[tuple[Tensor, GradientEdge]]] = {name: [] for name in layers}

    def noting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                uses[name].append((given[0].detach(), get_gradient_edge(output)))

        return note

    handles = [layer.register_forward_hook(noting(name)) for name, layer in layers.items()]
    try:
        yield uses
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _kept_buffers(network: nn.Module) -> Iterator[None]:
    """Give back the buffers that a pass has changed, such as those of normalisation."""
    before = [
        (module, name, value, value.clone())
        for module in network.modules()
        if not isinstance(module, SparseLayer)
        for name, value in module._buffers.items()
        if value is not None
    ]
    try:
        yield
    finally:
        for module, name, value, copy in before:
            module._buffers[name] = value
            value.copy_(copy)


def exchanged_positions(layer: SparseLayer, growth: Iterator[Tensor], dropped: int) -> Tensor:
    """Drop connections closest to zero, and grow those of highest growth that are then missing.

    What was just dropped may grow again. Ties go by position. This is `exchanged` of the mask.

    Parameters
    ----------
    layer
        Whose connections are looked at.
    growth
        Of every entry of the weight, blocks of rows one after the other.
    dropped
        How many go and come.

    Returns
    -------
    Tensor
        The new positions, ascending, int64 [connections].
    """
    positions = layer.positions.cpu()
    if dropped == 0:
        return positions
    going = lowest(layer.values.detach().abs().float().cpu(), dropped)
    left = positions[~going]
    best, found, begin = torch.empty(0), torch.empty(0, dtype=torch.int64), 0
    for block in growth:
        # What is not a number comes last of all that can grow.
        order = (-block.detach().flatten().float().cpu()).nan_to_num_(torch.finfo().max)
        end = begin + len(order)
        inside = left[torch.searchsorted(left, begin) : torch.searchsorted(left, end)]
        order[inside - begin] = torch.inf
        # Of equal ones the earlier grows, so that a later one must be better.
        candidates = order < (best.max() if len(best) == dropped else torch.inf)
        places = candidates.nonzero().flatten()
        best, found = torch.cat([best, order[places]]), torch.cat([found, places + begin])
        chosen = lowest(best, dropped)
        best, found, begin = best[chosen], found[chosen], end
    return torch.cat([left, found]).sort().values


def reconnect(layer: SparseLayer, positions: Tensor, optimizer: Optimizer) -> None:
    """Give a layer other connections, as many; new ones start from zero, with fresh momenta.

    Raises
    ------
    InputError
        If the optimizer keeps what is not one number for each connection.
    """
    values = layer.values
    kept = optimizer.state.get(values, {})
    tensors = [values.data, *([values.grad] if values.grad is not None else [])]
    for name, value in kept.items():
        if not isinstance(value, Tensor) or value.dim() == 0:
            continue
        if value.shape != values.shape:
            raise InputError(
                f"the optimizer {type(optimizer).__name__} keeps {name!r} of shape "
                f"{tuple(value.shape)} for {values.numel()} connections, but one number for each "
                "was expected: train what moves by another optimizer."
            )
        tensors.append(value)
    positions = positions.to(layer.positions.device)
    at = torch.searchsorted(layer.positions, positions).clamp_(max=max(len(positions) - 1, 0))
    old = layer.positions[at] == positions
    for tensor in tensors:
        tensor.copy_(torch.where(old, tensor[at], 0))
    layer.positions.copy_(positions)


def density(kept: Mapping[str, Tensor], layers: Mapping[str, SparseLayer]) -> float:
    """Return the share of the weights of masks and of sparse layers that is kept."""
    there = sum(int(k.sum()) for k in kept.values()) + sum(x.connections for x in layers.values())
    size = sum(k.numel() for k in kept.values())
    size += sum(layer.weight_shape.numel() for layer in layers.values())
    return there / size

"""Functions of PyTorch as whole networks of the engine, and how far each run is from PyTorch's."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.compression.lowering.rewriting import divided
from gossamer.engine import Engine, Network, run_portable


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


class Behind(Applied):
    """A function of images behind a convolution that changes nothing: a part needs weights."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int) -> None:
        super().__init__(function)
        self.weighted = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        nn.init.ones_(self.weighted.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(self.weighted(inputs))


def network_of(model: nn.Module, example: Tensor) -> Network:
    """Return a model as the engine holds it; it must be whole."""
    traced, division = divided(model.eval(), example)
    assert not division.rest
    whole = division.whole(traced.graph)
    assert whole is not None
    return whole.network


def errors(model: nn.Module, example: Tensor) -> dict[str, float]:
    """Return how far each run is from float64 in PyTorch, over its largest number."""
    network = network_of(model, example.clone())
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(example.double()).numpy()
    largest = np.abs(exact).max(initial=1e-30)
    inputs = example.numpy().reshape(len(example), *network.input_shape)
    engine = Engine(network)
    one_by_one = [engine(inputs[at : at + 1]) for at in range(len(inputs))]
    found = {
        "float64": run_portable(network, inputs.astype(np.float64), np.float64),
        "NumPy": run_portable(network, inputs),
        "side by side": engine(np.concatenate([inputs] * 9))[: len(inputs)],
        "one by one": np.concatenate(one_by_one),
    }
    assert engine(inputs[:0]).shape == (0, *found["NumPy"].shape[1:])
    return {
        name: float(np.abs(one.reshape(exact.shape) - exact).max(initial=0.0) / largest)
        for name, one in found.items()
    }

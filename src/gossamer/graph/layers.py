"""Layers whose units can be followed: what connects to what, and what constants add.

Matrices here are [outputs, inputs], also for grouped and transposed convolutions, whose weights
PyTorch stores otherwise.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm


@dataclass(frozen=True, eq=False)
class Projection:
    """A parameter that multiplies as the weight of a linear layer does, in a module of any class.

    Attributes
    ----------
    holder, path
        The module that has it, and its name.
    weight_name, bias_name
        Of the parameters there.
    transposed
        Whether the weight is [inputs, outputs].
    part, parts
        Which of several equal parts of the outputs it is, as where one parameter holds the
        projections of queries, keys and values.
    bias_part, bias_parts
        The same of the bias, where only that is in parts.
    """

    holder: nn.Module
    path: str
    weight_name: str
    bias_name: str | None = None
    transposed: bool = False
    part: int = 0
    parts: int = 1
    bias_part: int = 0
    bias_parts: int = 1

    @property
    def name(self) -> str:
        """The name of the module and of what it is there."""
        part = f"{self.weight_name}[{self.part}]" if self.parts > 1 else self.weight_name
        return ".".join(filter(None, (self.path, part)))

    @property
    def parameter(self) -> nn.Parameter:
        """The whole parameter."""
        return cast("nn.Parameter", self.holder._parameters[self.weight_name])

    @property
    def bias_parameter(self) -> nn.Parameter | None:
        """The whole bias; None if there is none."""
        return None if self.bias_name is None else self.holder._parameters[self.bias_name]

    @property
    def weight(self) -> Tensor:
        """Its weight as that of a linear layer, [outputs, inputs]."""
        whole = self.parameter.T if self.transposed else self.parameter
        return whole.chunk(self.parts)[self.part]

    @property
    def bias(self) -> Tensor | None:
        """Its bias, [outputs]; None if it has none."""
        whole = self.bias_parameter
        if whole is None:
            return None
        return whole.chunk(self.parts * self.bias_parts)[self.part + self.bias_part]


WeightedLayer = nn.Linear | _ConvNd
"""A module whose outputs are units."""

UnitLayer = WeightedLayer | Projection
"""A layer whose outputs are units: a module, or what another one multiplies with."""


def parameter_of(layer: UnitLayer) -> nn.Parameter:
    """Return the parameter that holds the weight of a layer."""
    if isinstance(layer, Projection):
        return layer.parameter
    return cast("nn.Parameter", layer.weight)


ByChannel = _BatchNorm | _InstanceNorm
"""A normalisation that takes the numbers of each channel by themselves."""

ChannelwiseLayer = ByChannel | nn.PReLU | nn.LayerNorm | nn.RMSNorm
"""A layer that holds some numbers for each channel, and reads nothing but zeros of what can go."""


def spatial_dimensions(layer: UnitLayer) -> int:
    """Return how many dimensions stand behind that of the inputs; 0 for a linear layer."""
    return 0 if isinstance(layer, nn.Linear | Projection) else len(layer.kernel_size)


def groups_of(layer: UnitLayer) -> int:
    """Return into how many groups inputs and outputs fall."""
    return 1 if isinstance(layer, nn.Linear | Projection) else layer.groups


def outputs_of(layer: UnitLayer) -> int:
    """Return how many units a layer has."""
    if isinstance(layer, Projection):
        return len(layer.weight)
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def inputs_of(layer: UnitLayer) -> int:
    """Return how many inputs a layer reads."""
    if isinstance(layer, Projection):
        return layer.weight.shape[1]
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def connections(layer: UnitLayer) -> Tensor:
    """Return which weights, at any position of the kernel, are not zero: bool [outputs, inputs]."""
    nonzero = (layer.weight.detach() != 0).cpu()
    groups = groups_of(layer)
    blocks = _blocks(layer, nonzero.flatten(2).any(2) if nonzero.dim() > 2 else nonzero)
    if groups == 1:
        return blocks[0]
    connected = torch.zeros(groups, blocks.shape[1], groups, blocks.shape[2], dtype=torch.bool)
    connected[torch.arange(groups), :, torch.arange(groups), :] = blocks
    return connected.flatten(2).flatten(0, 1)


def _blocks(layer: UnitLayer, matrix: Tensor) -> Tensor:
    """Turn a matrix of the weight's first two dimensions into [groups, outputs, inputs] of each."""
    blocks = matrix.reshape(groups_of(layer), -1, matrix.shape[1])
    return blocks.transpose(1, 2) if isinstance(layer, _ConvTransposeNd) else blocks


def foldable(layer: UnitLayer, constants: Tensor) -> Tensor:
    """Return the constants of those inputs that act on a layer as one bias does, NaN for others.

    Where zeros are padded around a channel, it is not constant at its border, unless it is 0.
    """
    closed = isinstance(layer, Projection) and layer.bias is None  # which cannot be given one
    if not closed and not _sees_border(layer):
        return constants
    return constants.masked_fill(constants != 0, torch.nan)


def _sees_border(layer: UnitLayer) -> bool:
    if isinstance(layer, nn.Linear | Projection):
        return False
    if isinstance(layer, _ConvTransposeNd):
        return True
    if layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    if layer.padding == "same":
        return any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)


def contribution(layer: UnitLayer, constants: Tensor) -> Tensor:
    """Return what constant inputs add to each output, float64 [outputs].

    Parameters
    ----------
    layer
        The layer.
    constants
        One number for each input, finite, of which `foldable` leaves alone what is not 0.
    """
    if not constants.any():
        return torch.zeros(outputs_of(layer), dtype=torch.float64)
    weight = layer.weight.detach().cpu().double()
    blocks = _blocks(layer, weight.flatten(2).sum(2) if weight.dim() > 2 else weight)
    return torch.einsum("goi,gi->go", blocks, constants.view(len(blocks), -1)).flatten()

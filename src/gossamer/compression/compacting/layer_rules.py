"""Linear layers, convolutions, and layers that hold numbers for each channel."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gossamer.compression.compacting.channels import (
    Channels,
    Channelwise,
    Description,
    Findings,
    not_constant,
)
from gossamer.compression.compacting.layers import (
    ChannelwiseLayer,
    WeightedLayer,
    contribution,
    foldable,
    is_channelwise,
    is_weighted,
    outputs_of,
    spatial_dimensions,
)
from gossamer.compression.compacting.walk import Walk, finite, unknown


def is_weighted_call(walk: Walk, node: fx.Node) -> bool:
    """Tell whether a node calls a layer whose units can be cut, with one value and no more."""
    module = walk.module(node)
    return (
        module is not None
        and is_weighted(module)
        and walk.cuttable(module)
        and len(node.all_input_nodes) == len(node.args) + len(node.kwargs) == 1
        and node.all_input_nodes[0] in walk.trace.shapes
    )


def weighted(walk: Walk, node: fx.Node) -> Description:
    """Follow a linear layer or convolution, whose outputs are new units."""
    layer = cast("WeightedLayer", walk.module(node))
    before = node.all_input_nodes[0]
    shape, source = walk.shape(before), walk.of(before)
    axis = len(shape) - 1 - spatial_dimensions(layer)
    found = walk.found.layer(str(node.target), layer, outputs_of(layer))
    if not isinstance(source, Channels) or source.axis != axis:
        walk.found.fix([source], f"{node.target} does not read it along its channels")
        source = None
    found.followers |= {_normalisation_name(walk, user) for user in node.users}
    found.sources.append(source)
    _tie_calls(walk.found, found.sources)
    constants = _constant_outputs(layer, found.connected, source)
    return Channels(axis, found.units[None], constants)


def _normalisation_name(walk: Walk, node: fx.Node) -> str | None:
    module = walk.module(node)
    known = isinstance(module, _BatchNorm) and is_channelwise(module) and walk.cuttable(module)
    return str(node.target) if known else None


def _tie_calls(found: Findings, sources: list[Channels | None]) -> None:
    """Give all calls of one layer inputs of one width."""
    first, last = sources[0], sources[-1]
    if first is None or last is None:
        found.fix(sources, "another call of the layer that reads it has an input of fixed width")
    else:
        found.tie(first.units, last.units)


def _constant_outputs(layer: WeightedLayer, connected: Tensor, source: Channels | None) -> Tensor:
    inputs = not_constant(connected.shape[1])
    if source is not None:
        inputs = foldable(layer, source.constants)
    moving = connected[:, inputs.isnan()].any(1)
    constants = contribution(layer, inputs.nan_to_num(0.0))
    if layer.bias is not None:
        constants = constants + layer.bias.detach().cpu().double()
    return finite(torch.where(moving, torch.nan, constants))


def channelwise(walk: Walk, node: fx.Node) -> Description:
    """Follow a batch normalisation or a PReLU."""
    layer = cast("ChannelwiseLayer", walk.module(node))
    before = node.all_input_nodes[0]
    source = walk.of(before)
    assert isinstance(source, Channels)
    if source.axis != 1:
        return unknown(walk, node)
    name = str(node.target)
    found = walk.found.channelwise.setdefault(name, Channelwise(layer, source.units))
    walk.found.tie(found.units, source.units)
    found.sources.add(str(before.target) if before.op == "call_module" else None)
    compute = _normalised if isinstance(layer, _BatchNorm) else _rectified
    return replace(source, constants=finite(compute(layer, source.constants)))


def _normalised(norm: nn.Module, constants: Tensor) -> Tensor:
    assert isinstance(norm, _BatchNorm)
    if norm.running_mean is None or norm.running_var is None:
        return not_constant(len(constants))
    mean, variance = norm.running_mean.cpu().double(), norm.running_var.cpu().double()
    values = (constants - mean) / (variance + norm.eps).sqrt()
    if not norm.affine:
        return values
    scale, shift = norm.weight.detach().cpu().double(), norm.bias.detach().cpu().double()
    return torch.where(scale == 0, shift, values * scale + shift)


def _rectified(module: nn.Module, constants: Tensor) -> Tensor:
    assert isinstance(module, nn.PReLU)
    slopes = module.weight.detach().cpu().double()
    return torch.where(constants < 0, slopes * constants, constants)

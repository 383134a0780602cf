"""Functions of numbers at the same place: activations, sums, products."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, fx

from gossamer.compression.compacting.channels import Channels, Description, not_constant
from gossamer.compression.compacting.tracing import Shape
from gossamer.compression.compacting.walk import Walk, counts, finite, operation, unknown

_PRODUCTS = frozenset({"mul", "imul"})


def activation(walk: Walk, node: fx.Node) -> Description:
    """Follow a module that is a function of each number."""
    module = walk.module(node)
    assert module is not None
    source = cast("Channels", walk.of(node.all_input_nodes[0]))
    values = module(source.constants.clone()).masked_fill(source.constants.isnan(), torch.nan)
    return replace(source, constants=finite(values))


def identity(walk: Walk, node: fx.Node) -> Description:
    """Follow what gives its input back in evaluation mode."""
    if len(node.all_input_nodes) > 1:
        return unknown(walk, node)
    return walk.of(node.all_input_nodes[0])


def pointwise(walk: Walk, node: fx.Node) -> Description:
    """Follow functions of numbers at the same place: activations, sums, products."""
    shape = walk.shape(node)
    inputs = {before: walk.of(before) for before in node.all_input_nodes}
    described = [d for d in inputs.values() if isinstance(d, Channels)]
    axis = _axis_of_result(walk, node)
    counted = any(counts(d) for d in inputs.values())
    if counted or not all(_fits(walk, before, shape, axis) for before in inputs):
        return unknown(walk, node)
    for description in described[1:]:
        walk.found.tie(described[0].units, description.units)
    # Without doubles, as `x * sigmoid(x)` over and over would name each unit ever more often.
    origins: Tensor = torch.unique(torch.cat([d.origins for d in described]), dim=0)
    return Channels(axis, origins, finite(_pointwise_constants(node, inputs, shape[axis])))


def _axis_of_result(walk: Walk, node: fx.Node) -> int:
    """Return where the channels of the first operand that has some lie in the result."""
    return next(
        description.axis + len(walk.shape(node)) - len(walk.shape(before))
        for before in node.all_input_nodes
        if isinstance(description := walk.of(before), Channels)
    )


def _fits(walk: Walk, operand: fx.Node, shape: Shape, axis: int) -> bool:
    """Tell whether an operand's channels meet those of the result, or one number meets them all."""
    own, behind = walk.trace.shapes.get(operand, ()), len(shape) - axis
    width = own[-behind] if len(own) >= behind else 1
    description = walk.of(operand)
    if isinstance(description, Channels):
        return len(own) - description.axis == behind and width == shape[axis]
    return width == 1


def _pointwise_constants(
    node: fx.Node, inputs: Mapping[fx.Node, Description], width: int
) -> Tensor:
    known = {n: d.constants for n, d in inputs.items() if isinstance(d, Channels)}
    moving = torch.stack([values.isnan() for values in known.values()]).any(0)
    result = not_constant(width)
    if len(known) == len(inputs):
        result = torch.where(moving, torch.nan, _called_on(node, known))
    if operation(node) in _PRODUCTS:
        nothing = torch.stack([values == 0 for values in known.values()]).any(0)
        result = torch.where(nothing, 0.0, result)
    return result


def _called_on(node: fx.Node, values: Mapping[fx.Node, Tensor]) -> Tensor:
    """Call what a node calls on other values."""
    args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: values[n].clone())
    if node.op == "call_method":
        return cast("Tensor", getattr(args[0], str(node.target))(*args[1:], **kwargs))
    assert callable(node.target)
    return cast("Tensor", node.target(*args, **kwargs))

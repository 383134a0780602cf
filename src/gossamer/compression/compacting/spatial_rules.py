"""Operations along the dimensions behind the channels, which mix places and not channels."""

from dataclasses import replace
from typing import cast

import torch
from torch import fx, nn

from gossamer.compression.compacting.channels import Channels, Description
from gossamer.compression.compacting.walk import Walk, is_plain_size, operation, unknown


def _spatial(walk: Walk, node: fx.Node, dimensions: int, uniform: bool) -> Description:
    """Operations along the last dimensions, which mix places and not channels.

    A constant channel stays what it is if the operation is `uniform`, and if it is 0.
    """
    before = node.all_input_nodes[0]
    source = cast("Channels", walk.of(before))
    shape = walk.shape(before)
    others = [walk.of(n) for n in node.all_input_nodes[1:]]
    if source.axis >= len(shape) - dimensions or not all(is_plain_size(d) for d in others):
        return unknown(walk, node)
    constants = source.constants
    if not uniform:
        constants = constants.masked_fill(constants != 0, torch.nan)
    return replace(source, constants=constants)


def _dimensions(walk: Walk, node: fx.Node) -> int:
    """Return the number of dimensions in a name, as in AvgPool2d or avg_pool2d."""
    module = walk.module(node)
    return int((operation(node) if module is None else type(module).__name__)[-2])


def exact_pool(walk: Walk, node: fx.Node) -> Description:
    """Follow a pooling that gives back a constant it is given."""
    return _spatial(walk, node, _dimensions(walk, node), uniform=True)


def average_pool(walk: Walk, node: fx.Node) -> Description:
    """Follow an average, which counts zeros of its padding unless told otherwise."""
    pool = walk.module(node)
    if pool is None:  # beyond the kernel and the stride all arguments are about the border
        uniform = len(node.args) <= 3 and set(node.kwargs) <= {"input", "kernel_size", "stride"}
    else:
        assert isinstance(pool, (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))
        padding = pool.padding if isinstance(pool.padding, tuple) else (pool.padding,)
        edge = any(padding) and pool.count_include_pad
        uniform = not edge and getattr(pool, "divisor_override", None) is None
    return _spatial(walk, node, _dimensions(walk, node), uniform)


def inner_padding(walk: Walk, node: fx.Node) -> Description:
    """Follow a padding with numbers of the channel itself, as in ReflectionPad2d."""
    return _spatial(walk, node, _dimensions(walk, node), uniform=True)


def zero_padding(walk: Walk, node: fx.Node) -> Description:
    """Follow a padding with zeros."""
    if getattr(walk.module(node), "value", 0) != 0:
        return unknown(walk, node)
    return _spatial(walk, node, _dimensions(walk, node), uniform=False)


def pad(walk: Walk, node: fx.Node) -> Description:
    """`torch.nn.functional.pad`, whose widths begin at the last dimension."""
    widths, mode, value = (
        node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
        for place, name, default in ((1, "pad", None), (2, "mode", "constant"), (3, "value", None))
    )
    if not isinstance(widths, (tuple, list)) or (mode == "constant" and value not in (None, 0)):
        return unknown(walk, node)
    return _spatial(walk, node, len(widths) // 2, uniform=mode != "constant")


def upsample(walk: Walk, node: fx.Node) -> Description:
    """Follow an interpolation."""
    before = node.all_input_nodes[0]
    return _spatial(walk, node, len(walk.shape(before)) - 2, uniform=True)


def mean(walk: Walk, node: fx.Node) -> Description:
    """Mean, largest or smallest over some dimensions."""
    before = node.all_input_nodes[0]
    source, shape = cast("Channels", walk.of(before)), walk.shape(before)
    over = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    over = [over] if isinstance(over, int) else over
    known = isinstance(over, (list, tuple)) and all(isinstance(d, int) for d in over)
    if not known or len(node.all_input_nodes) > 1:
        return unknown(walk, node)
    gone = {int(d) % len(shape) for d in cast("list[int]", over)}
    if not gone or source.axis in gone:
        return unknown(walk, node)
    kept = len(walk.shape(node)) == len(shape)
    return replace(source, axis=source.axis - (0 if kept else sum(d < source.axis for d in gone)))

"""Reshaping, indexing, concatenation, and numbers computed from sizes."""

import math
from dataclasses import replace
from typing import cast

import torch
from torch import fx

from gossamer.compression.compacting.channels import (
    Channels,
    Description,
    Sizes,
    WholeShape,
    not_constant,
)
from gossamer.compression.compacting.tracing import Shape
from gossamer.compression.compacting.walk import Walk, keep_inputs, operation, unknown


def reshape(walk: Walk, node: fx.Node) -> Description:
    """Follow flattening and views that keep channels together."""
    before = node.args[0] if node.args else None
    source = walk.of(before) if isinstance(before, fx.Node) else None
    if not isinstance(source, Channels) or not isinstance(before, fx.Node):
        return unknown(walk, node)
    place = merged_axis(walk.shape(before), source.axis, walk.shape(node))
    if place is None:
        return unknown(walk, node)
    axis, outer, inner = place
    if operation(node) in ("view", "reshape") and not _follows_width(walk, node, axis):
        size = walk.shape(node)[axis]
        reason = f"the forward reshapes what it gives to the fixed size {size}"
        return keep_inputs(walk, node, reason)
    return Channels(
        axis,
        source.origins.repeat_interleave(inner, dim=1).repeat(1, outer),
        source.constants.repeat_interleave(inner).repeat(outer),
    )


def merged_axis(shape: Shape, axis: int, result: Shape) -> tuple[int, int, int] | None:
    """Return where a dimension lies after a reshape that may merge it with its neighbours.

    Returns
    -------
    tuple or None
        The dimension of the result, and how many numbers of the dimensions before and behind it
        were merged into it; None if it was split, or merged with the first dimension.

    Examples
    --------
    >>> merged_axis((5, 3, 2, 2), 1, (5, 12))
    (1, 1, 4)
    >>> merged_axis((5, 12), 1, (5, 3, 2, 2)) is None
    True
    """
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if axis > 0 and result[:1] != shape[:1]:
        return None
    for place in range(min(axis, 1), len(result)):
        outer, left = divmod(before, math.prod(result[:place]))
        inner, right = divmod(behind, math.prod(result[place + 1 :]))
        if outer and inner and not left and not right:
            return place, outer, inner
    return None


def _follows_width(walk: Walk, node: fx.Node, axis: int) -> bool:
    """Tell whether a reshape computes the size of a dimension, and so stays right after a cut."""
    sizes = node.args[1:] if len(node.args) > 1 else (node.kwargs.get("shape"),)
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    size = sizes[axis] if axis < len(sizes) else None
    if isinstance(size, fx.Node):
        described = walk.of(size)
        return isinstance(described, Sizes) and bool(described.units)
    return bool(size == -1)


def squeeze(walk: Walk, node: fx.Node) -> Description:
    """Follow the removal of dimensions that are named."""
    # Without dimensions, a value of one channel would lose it.
    return reshape(walk, node) if len(node.args) > 1 or node.kwargs else unknown(walk, node)


def permute(walk: Walk, node: fx.Node) -> Description:
    """Follow a change of the order of dimensions."""
    before = node.all_input_nodes[0]
    source, count = cast("Channels", walk.of(before)), len(walk.shape(before))
    order = node.args[1:]
    if len(order) == 1 and isinstance(order[0], (tuple, list)):
        order = tuple(order[0])
    if not order or not all(isinstance(place, int) for place in order) or node.kwargs:
        return unknown(walk, node)
    places = [int(cast("int", place)) % count for place in order]
    if operation(node) == "transpose":
        first, second = places
        places = list(range(count))
        places[first], places[second] = second, first
    return replace(source, axis=places.index(source.axis))


_STACKED_ALONG = {"hstack": 1, "column_stack": 1, "vstack": 0, "row_stack": 0, "dstack": 2}
"""The dimension along which values of as many dimensions as the result are put side by side."""


def concatenation(walk: Walk, node: fx.Node) -> Description:
    """Follow values that are put side by side along their channels."""
    tensors = node.args[0] if node.args else node.kwargs.get("tensors")
    rank = len(walk.shape(node))
    named = node.kwargs.get("dim", node.kwargs.get("axis", 0))
    along = node.args[1] if len(node.args) > 1 else named
    along = _STACKED_ALONG.get(operation(node), along)
    if not isinstance(tensors, (tuple, list)) or not isinstance(along, int):
        return unknown(walk, node)
    if any(len(walk.shape(tensor)) != rank for tensor in tensors):
        return unknown(walk, node)  # such as columns that are stacked, or what has no shape
    along %= rank
    parts = [_part(walk, cast("fx.Node", tensor), along) for tensor in tensors]
    if any(isinstance(part, Channels) and part.axis != along for part in parts):
        return unknown(walk, node)
    addends = max(len(part.origins) for part in parts)
    origins = [torch.cat([p.origins, p.units.expand(addends - len(p.origins), -1)]) for p in parts]
    return Channels(along, torch.cat(origins, dim=1), torch.cat([p.constants for p in parts]))


def _part(walk: Walk, node: fx.Node, axis: int) -> Channels:
    description = walk.of(node)
    if isinstance(description, Channels):
        return description
    width = walk.shape(node)[axis]
    fixed = Channels(axis, walk.found.new_units(width)[None], not_constant(width))
    walk.found.fix([fixed], "it is of fixed width")
    return fixed


def sizes(walk: Walk, node: fx.Node) -> Description:
    """Arithmetic with sizes; what makes a tensor of them keeps the widths that they count."""
    inputs = [walk.of(before) for before in node.all_input_nodes]
    if node in walk.trace.shapes or any(isinstance(d, WholeShape) for d in inputs):
        return unknown(walk, node)
    return Sizes(tuple(units for d in inputs if isinstance(d, Sizes) for units in d.units))


def size(walk: Walk, node: fx.Node) -> Description:
    """`x.size()` and `x.size(1)`."""
    before = node.all_input_nodes[0]
    source = walk.of(before)
    if not isinstance(source, Channels):
        return sizes(walk, node)
    whole = WholeShape(source, len(walk.shape(before)))
    chosen = [*node.args[1:], *node.kwargs.values()]
    if not chosen:
        return whole
    return whole.size(chosen[0]) if isinstance(chosen[0], int) else unknown(walk, node)


def attribute(walk: Walk, node: fx.Node) -> Description:
    """`x.shape`; attributes such as `x.device` do not depend on the width."""
    before = node.all_input_nodes[0]
    source = walk.of(before)
    if not isinstance(source, Channels) or node in walk.trace.shapes:
        return unknown(walk, node)
    whole = WholeShape(source, len(walk.shape(before)))
    return whole if node.args[1] == "shape" else Sizes()


def rank(_walk: Walk, _node: fx.Node) -> Description:
    """Follow the number of dimensions, which does not depend on the width."""
    return Sizes()


def element(walk: Walk, node: fx.Node) -> Description:
    """`x.shape[0]`, `x.shape[2:]`, and parts of a value such as `x[:, :, None, None]`."""
    source, place = walk.of(node.all_input_nodes[0]), node.args[1]
    if len(node.all_input_nodes) > 1:
        return unknown(walk, node)
    if isinstance(source, WholeShape) and isinstance(place, (int, slice)):
        return source.size(place)
    if isinstance(source, Channels) and node in walk.trace.shapes:
        return _part_of(walk, node, source, place if isinstance(place, tuple) else (place,))
    return unknown(walk, node)


def _part_of(
    walk: Walk, node: fx.Node, source: Channels, places: tuple[object, ...]
) -> Description:
    """Follow an index that takes all channels and any other dimension's part."""
    axis, result = 0, 0
    for place in places:
        if axis == source.axis and place is not None:
            break
        if not isinstance(place, (int, slice, type(None))):
            return unknown(walk, node)
        axis += place is not None
        result += not isinstance(place, int)
    else:  # the dimensions behind those that are named are taken whole
        return replace(source, axis=result + source.axis - axis)
    known = all(isinstance(place, (int, slice, type(None))) for place in places)
    return replace(source, axis=result) if known and place == slice(None) else unknown(walk, node)


def new(walk: Walk, node: fx.Node) -> Description:
    """`x.new_empty(sizes)`, which has of `x` no more than its type."""
    walk.found.fix([d for n in node.all_input_nodes[1:] if (d := walk.of(n))], "its width is used")
    return None

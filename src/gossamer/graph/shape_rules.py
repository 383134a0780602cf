"""Reshaping, indexing, concatenation, and numbers computed from sizes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from gossamer.graph.axes import followed, operation
from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import (
    Channels,
    Description,
    Sizes,
    Unclear,
    WholeShape,
    not_constant,
    same,
)
from gossamer.graph.filled import channels_of, counts_by_attribute
from gossamer.graph.parting_rules import asked_sizes, sized, sliced, split_channels
from gossamer.graph.pointwise_rules import of_each_channel
from gossamer.graph.walk import UnclearTiesError, Walk, given, keep_inputs, unknown


def reshape(walk: Walk, value: Value, call: Call) -> Description:
    """Follow flattening and views that keep channels together, or part them into several axes."""
    before = given(call)[0]
    source = walk.of(before)
    if not isinstance(source, Channels):
        return unknown(walk, value, call)
    shape, result = walk.lengths(before), walk.lengths(value)
    sizes = asked_sizes(call, len(result))
    place = merged_axis(shape, source.axis + len(shape), result)
    if place is None:
        return split_channels(walk, value, call, source, sizes)
    axis, outer, inner = place
    merged = Channels(
        axis - len(result),
        source.origins.repeat_interleave(inner, dim=1).repeat(1, outer),
        source.constants.repeat_interleave(inner).repeat(outer),
    )
    if not sized(walk, sizes, axis, merged.units):
        reason = f"the forward reshapes what it gives to the fixed size {result[axis]}"
        keep_inputs(walk, call, reason)
    return merged


def merged_axis(
    shape: tuple[int, ...], axis: int, result: tuple[int, ...]
) -> tuple[int, int, int] | None:
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
    >>> merged_axis((5, 7, 4), 2, (35, 4))
    (1, 1, 1)
    >>> merged_axis((5, 12), 1, (5, 3, 2, 2)) is None
    True
    """
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    alone = axis > 0 and result[:1] != shape[:1]
    for place in range(min(axis, 1), len(result)):
        outer, left = divmod(before, math.prod(result[:place]))
        inner, right = divmod(behind, math.prod(result[place + 1 :]))
        if outer and inner and not left and not right and not (alone and outer > 1):
            return place, outer, inner
    return None


def squeeze(walk: Walk, value: Value, call: Call) -> Description:
    """Follow the removal of dimensions that are named."""
    # Without dimensions, a value of one channel would lose it.
    named = len(call.args) > 1 or call.kwargs
    return (reshape if named else unknown)(walk, value, call)


def permute(walk: Walk, value: Value, call: Call) -> Description:
    """Follow a change of the order of dimensions."""
    before = given(call)[0]
    source, count = cast("Channels", walk.of(before)), len(walk.shape(before))
    order = call.args[1:]
    if len(order) == 1 and isinstance(order[0], (tuple, list)):
        order = tuple(order[0])
    if not order or not all(isinstance(place, int) for place in order) or call.kwargs:
        return unknown(walk, value, call)
    places = [int(place) % count for place in order]
    if operation(call) == "transpose":
        first, second = places
        places = list(range(count))
        places[first], places[second] = second, first
    return replace(source, axis=places.index(source.axis + count) - count)


def moved(walk: Walk, value: Value, call: Call) -> Description:
    """Follow other changes of the order of dimensions, such as `x.mT`, `swapaxes` and `movedim`."""
    before = given(call)[0]
    source = cast("Channels", walk.of(before))
    axis = followed(call, source.axis, before, value)
    return replace(source, axis=axis) if axis else unknown(walk, value, call)


def as_pairs(walk: Walk, value: Value, call: Call) -> Description:
    """`view_as_complex` and `view_as_real`, of a last dimension of two numbers."""
    source = cast("Channels", walk.of(given(call)[0]))
    pairs = operation(call) == "viewasreal"
    if not pairs and source.axis == -1:
        return unknown(walk, value, call)
    return replace(source, axis=source.axis + (-1 if pairs else 1))


_STACKED_ALONG = {"hstack": 1, "columnstack": 1, "vstack": 0, "rowstack": 0, "dstack": 2}
"""The dimension along which values of as many dimensions as the result are put side by side."""


CONCATENATIONS = ("cat", "concat", "concatenate", *_STACKED_ALONG)


def joins_states(walk: Walk, call: Call) -> bool:
    """Tell whether first states, as wide as a module says, are put beside what has no channels."""
    if operation(call) not in CONCATENATIONS:
        return False
    tensors, along = _put_together(call)
    if not isinstance(tensors, tuple | list) or not isinstance(along, int):
        return False
    return any(counts_by_attribute(walk, one, along % len(one.shape or (1,))) for one in tensors)


def _put_together(call: Call) -> tuple[object, object]:
    """Return the values that are put side by side, and the dimension."""
    named = call.kwargs.get("dim", call.kwargs.get("axis", 0))
    along = call.args[1] if len(call.args) > 1 else named
    tensors = call.args[0] if call.args else call.kwargs.get("tensors")
    return tensors, _STACKED_ALONG.get(operation(call), along)


def concatenation(walk: Walk, value: Value, call: Call) -> Description:
    """Follow values that are put side by side along their channels."""
    tensors, along = _put_together(call)
    if not isinstance(tensors, (tuple, list)) or not isinstance(along, int):
        return unknown(walk, value, call)
    if along >= 0:
        rank = len(walk.shape(value))
        along = along % rank - rank
    if any(one.shape is not None and len(one.shape) < -along for one in tensors):
        return unknown(walk, value, call)  # such as columns that are stacked
    if any(isinstance(walk.of(one), Unclear) for one in tensors):
        raise UnclearTiesError
    if any(not walk.is_tensor(one) for one in tensors):
        return unknown(walk, value, call)
    known = [walk.of(cast("Value", tensor)) for tensor in tensors]
    described = [one for one in known if isinstance(one, Channels)]
    if described and all(one.axis != along for one in described):
        axis = described[0].axis
        known = [one or channels_of(walk, t, axis) for t, one in zip(tensors, known, strict=True)]
        described = [one for one in known if isinstance(one, Channels)]
        rest = [t for t, one in zip(tensors, known, strict=True) if not isinstance(one, Channels)]
        held = [
            of_each_channel(walk, cast("Value", one), described[0], call, added=True)
            for one in rest
        ]
        own = [replace(described[0], constants=one) for one in held if one is not None]
        if len(own) == len(rest):
            return together(walk, value, call, [*described, *own])
    parts = [_part(walk, cast("Value", tensor), along) for tensor in tensors]
    if any(part.axis != along for part in parts):
        return unknown(walk, value, call)
    addends = max(len(part.origins) for part in parts)
    origins = [torch.cat([p.origins, p.units.expand(addends - len(p.origins), -1)]) for p in parts]
    return Channels(along, torch.cat(origins, dim=1), torch.cat([p.constants for p in parts]))


def together(walk: Walk, value: Value, call: Call, described: Sequence[Channels]) -> Description:
    """Tie values whose channels lie beside each other, as where other axes are put together."""
    first = described[0]
    width = len(first.units)
    if any(one.axis != first.axis or len(one.units) != width for one in described):
        return unknown(walk, value, call)
    for one in described[1:]:
        walk.found.tie(first.units, one.units)
    origins: Tensor = torch.unique(torch.cat([one.origins for one in described]), dim=0)
    return Channels(first.axis, origins, same([one.constants for one in described]))


def _part(walk: Walk, value: Value, axis: int) -> Channels:
    description = channels_of(walk, value, axis) or walk.of(value)
    if isinstance(description, Channels):
        return description
    width = walk.lengths(value)[axis]
    fixed = Channels(axis, walk.found.new_units(width)[None], not_constant(width))
    walk.found.fix([fixed], "it is of fixed width")
    walk.found.pinned.append((fixed.units, "something that is not computed by units"))
    return fixed


def sizes(walk: Walk, value: Value, call: Call) -> Description:
    """Arithmetic with sizes; what makes a tensor of them keeps the widths that they count."""
    inputs = [walk.of(before) for before in given(call)]
    tensor = walk.graph.shaped and value.shape is not None
    if tensor or any(isinstance(d, WholeShape) for d in inputs):
        return unknown(walk, value, call)
    return Sizes(tuple(units for d in inputs if isinstance(d, Sizes) for units in d.units))


def size(walk: Walk, value: Value, call: Call) -> Description:
    """`x.size()`, `x.size(1)` and `x.shape`."""
    before = given(call)[0]
    source = walk.of(before)
    if not isinstance(source, Channels):
        return sizes(walk, value, call)
    whole = WholeShape(source, None if before.shape is None else len(before.shape))
    chosen = [*call.args[1:], *call.kwargs.values()]
    if not chosen:
        return whole
    return whole.size(chosen[0]) if isinstance(chosen[0], int) else unknown(walk, value, call)


def fact(walk: Walk, value: Value, call: Call) -> Description:
    """Follow what does not depend on the width, such as `x.device` and the number of dimensions."""
    tensor = walk.graph.shaped and value.shape is not None
    return unknown(walk, value, call) if tensor else Sizes()


def element(walk: Walk, value: Value, call: Call) -> Description:
    """`x.shape[0]`, `x.shape[2:]`, and parts of a value such as `x[:, :, None, None]`."""
    source, place = walk.of(given(call)[0]), call.args[1]
    if len(given(call)) > 1:
        return unknown(walk, value, call)
    if isinstance(source, WholeShape) and isinstance(place, (int, slice)):
        return source.size(place)
    if isinstance(source, Channels) and walk.is_tensor(value):
        return _part_of(walk, value, call, place if isinstance(place, tuple) else (place,))
    return unknown(walk, value, call)


def _part_of(walk: Walk, value: Value, call: Call, places: tuple[object, ...]) -> Description:
    """Follow an index that takes all channels and any other dimension's part."""
    before = given(call)[0]
    source, count = cast("Channels", walk.of(before)), len(walk.shape(before))
    if places.count(Ellipsis) == 1:
        open_at = places.index(Ellipsis)
        all_of = [slice(None)] * (count - sum(one not in (None, Ellipsis) for one in places))
        places = (*places[:open_at], *all_of, *places[open_at + 1 :])
    channels, axis, result = source.axis + count, 0, 0
    for number, place in enumerate(places):
        if axis == channels and place is not None:
            known = all(isinstance(one, (int, slice, type(None))) for one in places)
            own = sliced(walk, source, place) if known else None
            if own is None:
                return unknown(walk, value, call)
            if isinstance(place, int):
                return None
            rest = places[number:]
            behind = count - channels - sum(one is not None for one in rest)
            behind += sum(not isinstance(one, int) for one in rest)
            return replace(own, axis=-behind)
        if not isinstance(place, (int, slice, type(None))):
            return unknown(walk, value, call)
        axis += place is not None
        result += not isinstance(place, int)
    # The dimensions behind those that are named are taken whole.
    return source


def part(walk: Walk, value: Value, call: Call) -> Description:
    """`x.narrow(dim, start, length)` and `x.select(dim, index)`."""
    before = given(call)[0]
    dim, start = call.argument(1, "dim"), call.argument(2, "start")
    start = call.kwargs.get("index", start)
    if len(given(call)) > 1 or not isinstance(dim, int) or not isinstance(start, int):
        return unknown(walk, value, call)
    rank = len(walk.shape(before))
    place: int | slice = start
    if operation(call) == "narrow":
        length = call.argument(3, "length")
        place = slice(start, start + length) if start >= 0 else slice(start, None)
    return _part_of(walk, value, call, (*(slice(None),) * (dim % rank), place))


def new(walk: Walk, _value: Value, call: Call) -> Description:
    """`x.new_empty(sizes)`, which has of `x` no more than its type."""
    walk.found.fix([d for v in given(call)[1:] if (d := walk.of(v))], "its width is used")
    return None

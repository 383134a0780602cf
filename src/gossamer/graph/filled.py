"""Values that hold one number everywhere, such as the zeros with which states begin.

Nothing says along which dimension their channels lie until they meet channels of something else.
They go with these then, if their size is a number that the forward computes.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gossamer.graph.axes import lengths
from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import Channels, Description, same
from gossamer.graph.numbers import AttributeOf, Number, leaves
from gossamer.graph.parting_rules import follows, width_of
from gossamer.graph.walk import Walk, unknown

_NUMBERS = {"zeros": 0.0, "ones": 1.0, "full": torch.nan, "empty": 0.0}
"""What they hold; nobody reads what is empty before something is written there."""
_CASTS = frozenset({
    "to", "type", "type_as", "float", "double", "half", "bfloat16", "cuda", "cpu", "contiguous",
    "clone", "detach",
})  # fmt: skip


def channels_of(walk: Walk, value: Value, axis: int) -> Channels | None:
    """Return the channels of a value along an axis, which one of a single number is given.

    None for another value, and where channels lie along another axis.
    """
    described = walk.of(value)
    if isinstance(described, Channels):
        return described if described.axis == axis else None
    if described is not None or (found := _filled(walk, value, axis)) is None:
        return None
    walk.descriptions[value] = found
    return found


def _filled(walk: Walk, value: Value, axis: int) -> Channels | None:
    call, shape = value.call, lengths(value.shape)
    if call is None or shape is None or len(shape) < -axis:
        return None
    like = call.args[0] if call.args and isinstance(call.args[0], Value) else None
    if call.name in _CASTS and like is not None and not value.computed:
        return channels_of(walk, like, axis)
    kind = call.name.removesuffix("_like").removeprefix("new_")
    if call.module is not None or kind not in _NUMBERS:
        return None
    units = walk.found.new_units(shape[axis])
    constants = torch.full((len(units),), _NUMBERS[kind], dtype=torch.float64)
    found = Channels(axis, units[None], constants)
    if call.name.endswith("_like"):
        source = None if like is None else channels_of(walk, like, axis)
        if source is None:
            walk.found.fix([found], "the forward fills something of fixed width")
        else:
            walk.found.tie(units, source.units)
        return found
    size = _sizes(call)[axis:][:1]
    if size and isinstance(size[0], Number):
        walk.found.widths.append(width_of(walk, size[0], units))
    elif not (size and follows(walk, size[0])):
        walk.found.fix([found], f"the forward fills something of the fixed size {shape[axis]}")
    return found


def counts_by_attribute(walk: Walk, value: Value, dimension: int) -> bool:
    """Tell whether a value of a single number is as long as an attribute of a module says."""
    call = value.call
    if walk.of(value) is not None or call is None or call.module is not None:
        return False
    like = call.args[0] if call.args and isinstance(call.args[0], Value) else None
    if like is not None and (call.name in _CASTS or call.name.endswith("_like")):
        return not value.computed and counts_by_attribute(walk, like, dimension)
    if call.name.removeprefix("new_") not in _NUMBERS:
        return False
    size = _sizes(call)[dimension:][:1]
    return any(
        isinstance(leaf, AttributeOf)
        for one in size
        if isinstance(one, Number)
        for leaf in leaves(one)
    )


def _sizes(call: Call) -> tuple[object, ...]:
    """Return the sizes that are asked for of a new value."""
    asked = call.kwargs.get("size", call.args[call.name.startswith("new_") :])
    first = asked[0] if asked else ()
    return tuple(first) if isinstance(first, tuple | list) else tuple(asked)


def written(walk: Walk, value: Value, call: Call) -> Description:
    """Follow what is written into places of a value along other dimensions than its channels'."""
    target, places, source = call.args
    places = places if isinstance(places, tuple) else (places,)
    described = walk.of(source) if isinstance(source, Value) else walk.of(target)
    plain = all(isinstance(one, int | slice) and not isinstance(one, bool) for one in places)
    if not plain or not isinstance(described, Channels):
        return unknown(walk, value, call)
    into = channels_of(walk, target, described.axis)
    behind = len(places) > len(walk.shape(target)) + described.axis
    if behind or into is None or len(into.units) != len(described.units):
        return unknown(walk, value, call)
    if not isinstance(source, Value):
        changed = into.constants != source
        return replace(into, constants=into.constants.masked_fill(changed, torch.nan))
    walk.found.tie(into.units, described.units)
    origins: Tensor = torch.unique(torch.cat([into.origins, described.origins]), dim=0)
    return Channels(into.axis, origins, same([into.constants, described.constants]))

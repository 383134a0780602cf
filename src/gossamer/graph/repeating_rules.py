"""Operations that repeat channels, shuffle them or move them into places."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gossamer.graph.axes import operation
from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import Channels, Description
from gossamer.graph.numbers import Number
from gossamer.graph.parting_rules import width_of
from gossamer.graph.shape_rules import together
from gossamer.graph.walk import Walk, given, unknown


def repeat_interleave(walk: Walk, value: Value, call: Call) -> Description:
    """Follow entries of one dimension that are repeated, each as often."""
    before = given(call)[0]
    source, times, along = walk.of(before), call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(source, Channels) or not isinstance(times, int) or along is None:
        return unknown(walk, value, call)
    rank = len(walk.shape(before))
    _stays(walk, times)
    return _repeated(source, int(times)) if along % rank - rank == source.axis else source


def repeat(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `x.repeat(sizes)`, one after the other along each dimension."""
    before = given(call)[0]
    source, sizes = walk.of(before), call.args[1:] or (call.argument(1, "repeats"),)
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    whole = [int(size) for size in sizes if isinstance(size, int)]
    if not isinstance(source, Channels) or len(given(call)) > 1 or len(whole) < len(sizes):
        return unknown(walk, value, call)
    if len(whole) < len(walk.shape(before)):
        return unknown(walk, value, call)
    _stays(walk, sizes[source.axis])
    times = whole[source.axis]
    return replace(
        source, origins=source.origins.repeat(1, times), constants=source.constants.repeat(times)
    )


def stack(walk: Walk, value: Value, call: Call) -> Description:
    """Follow values that are put together along a dimension of its own."""
    tensors, along = call.argument(0, "tensors"), call.argument(1, "dim") or 0
    known = [walk.of(one) for one in tensors] if isinstance(tensors, tuple | list) else []
    described = [one for one in known if isinstance(one, Channels)]
    if not isinstance(along, int) or len(described) < len(known) or not known:
        return unknown(walk, value, call)
    found = together(walk, value, call, described)
    if not isinstance(found, Channels):
        return found
    rank = len(walk.shape(value))
    return replace(found, axis=found.axis - (along % rank - rank > found.axis - 1))


def expand_as(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `x.expand_as(other)`, where both have the same channels."""
    values = given(call)
    known = [walk.of(one) for one in values]
    described = [one for one in known if isinstance(one, Channels)]
    if len(described) < len(known) or len({len(walk.lengths(one)) for one in values}) > 1:
        return unknown(walk, value, call)
    found = together(walk, value, call, described)
    return described[0] if isinstance(found, Channels) else found


def shuffle(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `pixel_shuffle`, `pixel_unshuffle` and `channel_shuffle`."""
    before, name = given(call)[0], operation(call)
    source, attribute, argument = walk.of(before), *_SHUFFLED_BY[name]
    count = getattr(call.module, attribute, call.argument(1, argument))
    rank = len(walk.shape(before))
    place = -3 if name.startswith("pixel") else 1 - rank
    if not isinstance(source, Channels) or source.axis != place or not isinstance(count, int):
        return unknown(walk, value, call)
    _stays(walk, count)
    count, width = int(count), len(source.units)
    if name == "pixelunshuffle":
        return _repeated(source, count**2)
    if name == "channelshuffle":
        groups = torch.arange(width).view(count, -1)
        _tied(walk, source, groups)
        order = groups.T.flatten()
        return replace(source, origins=source.origins[:, order], constants=source.constants[order])
    several = torch.arange(width).view(-1, count**2).T
    _tied(walk, source, several)
    constants = source.constants[several]
    alike = (constants == constants[:1]).all(0)
    return Channels(
        source.axis,
        source.origins[:, several].flatten(0, 1),
        torch.where(alike, constants[0], torch.nan),
    )


_SHUFFLED_BY = {
    "pixelshuffle": ("upscale_factor", "upscale_factor"),
    "pixelunshuffle": ("downscale_factor", "downscale_factor"),
    "channelshuffle": ("groups", "groups"),
}
"""What says into how many, as attribute of a module and as argument of a function."""


def _repeated(source: Channels, times: int) -> Channels:
    return replace(
        source,
        origins=source.origins.repeat_interleave(times, dim=1),
        constants=source.constants.repeat_interleave(times),
    )


def _tied(walk: Walk, source: Channels, places: Tensor) -> None:
    """Let the channels of each column go together."""
    for row in places[1:]:
        walk.found.tie(source.units[places[0]], source.units[row])


def _stays(walk: Walk, *numbers: object) -> None:
    """Note that numbers must stay what they are."""
    asked: Sequence[Number] = [one for one in numbers if isinstance(one, Number)]
    walk.found.widths += [width_of(walk, number, None) for number in asked]

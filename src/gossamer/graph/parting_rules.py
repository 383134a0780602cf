"""Operations that part the channels of a value: into heads, into pieces, into groups of equals."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gossamer.graph.axes import lengths, operation
from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import Channels, Description, Sizes, Width, not_constant
from gossamer.graph.numbers import AttributeOf, Number, SizeOf, leaves
from gossamer.graph.sums import summed_up
from gossamer.graph.walk import Walk, given, keep_inputs, unknown


def asked_sizes(call: Call, rank: int) -> tuple[object, ...]:
    """Return the size that a call asks of each dimension of its result; empty if of none."""
    if operation(call) == "unflatten":
        dimension, inner = call.argument(1, "dim"), call.argument(2, "sizes")
        if not isinstance(inner, tuple | list) or not isinstance(dimension, int):
            return (None,) * rank
        first = dimension % (rank - len(inner) + 1)
        return (*(None,) * first, *inner, *(None,) * (rank - first - len(inner)))
    if operation(call) not in ("view", "reshape", "expand"):
        return ()
    sizes = call.args[1:] or (call.kwargs.get("shape", call.kwargs.get("size")),)
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    return tuple(sizes) if len(sizes) == rank else (None,) * rank


def sized(walk: Walk, sizes: Sequence[object], axis: int, units: Tensor) -> bool:
    """Tell whether the sizes that a call asks for may be right after a cut, and note the widths.

    The channels of `units` lie along the dimension `axis`.
    """
    for place, size in enumerate(sizes):
        if isinstance(size, Number):
            walk.found.widths.append(
                width_of(walk, size, units) if place == axis else width_of(walk, size, None)
            )
    return not sizes or follows(walk, sizes[axis]) or isinstance(sizes[axis], Number)


def follows(walk: Walk, size: object) -> bool:
    """Tell whether a size is computed from what is there, so that it stays right after a cut."""
    if isinstance(size, Value):
        described = walk.of(size)
        return isinstance(described, Sizes) and bool(described.units)
    return size == -1 and not isinstance(size, Number)


def width_of(walk: Walk, number: int, units: Tensor | None) -> Width:
    """Return a number as a forward computes it, beside the channels that it has to count."""
    counted, attributes = {}, {}
    for leaf in leaves(number):
        if isinstance(leaf, AttributeOf):
            attributes[leaf] = walk.names.get(id(leaf.module), ""), leaf.name
        elif (own := channels_counted(walk, leaf)) is not None:
            counted[leaf] = own
    return Width(number, units, int(number), counted, attributes)


def channels_counted(walk: Walk, leaf: SizeOf) -> Tensor | None:
    """Return the channels that a size counts; None if it is not the size of their dimension."""
    described = walk.of(leaf.value)
    own = isinstance(described, Channels) and described.axis == leaf.axis
    return described.units if own and isinstance(described, Channels) else None


def split_channels(
    walk: Walk, value: Value, call: Call, source: Channels, sizes: Sequence[object]
) -> Description:
    """Follow channels that become several axes, such as heads and the places within each.

    They go on along the one axis that can be shorter: its size is computed from how many there
    are, or an attribute of a module. What lies along the others goes together.
    """
    before = given(call)[0]
    shape, result = walk.lengths(before), walk.lengths(value)
    bounds = _parted(shape, source.axis + len(shape), result)
    if bounds is None or not sizes:
        return unknown(walk, value, call)
    first, last = bounds
    axis = _shorter(walk, value, source, range(first, last), sizes)
    if axis is None:
        asked = ", ".join(str(result[place]) for place in range(first, last))
        keep_inputs(walk, call, f"the forward parts what it gives into the fixed sizes {asked}")
        return None
    order = torch.arange(len(source.units)).view(result[first:last]).movedim(axis - first, -1)
    order = order.reshape(-1, result[axis])
    for others in order[1:]:
        walk.found.tie(source.units[order[0]], source.units[others])
    constants = source.constants[order]
    alike = (constants == constants[:1]).all(0)
    found = Channels(
        axis - len(result),
        source.origins[:, order].flatten(0, 1),
        torch.where(alike, constants[0], torch.nan),
    )
    sized(walk, sizes, axis, found.units)
    return found


def _parted(shape: tuple[int, ...], axis: int, result: tuple[int, ...]) -> tuple[int, int] | None:
    """Return from which to before which dimension of a result one dimension was parted.

    Examples
    --------
    >>> _parted((2, 5, 12), 2, (2, 5, 3, 4)), _parted((2, 12, 5), 1, (2, 3, 4, 5))
    ((2, 4), (1, 3))
    """
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    firsts = [p for p in range(len(result)) if math.prod(result[:p]) == before]
    lasts = [p for p in range(1, len(result) + 1) if math.prod(result[p:]) == behind]
    found = (firsts[-1], lasts[0]) if firsts and lasts else (0, 0)
    return found if math.prod(result[slice(*found)]) == shape[axis] and shape[axis] > 1 else None


def _shorter(
    walk: Walk, value: Value, source: Channels, places: Sequence[int], sizes: Sequence[object]
) -> int | None:
    """Return the dimension among some that gets shorter if channels go; None if none can.

    Where several can, it is the first whose numbers are not summed up, such as that of the heads.
    """
    result = walk.lengths(value)

    def possible(place: int) -> bool:
        size = sizes[place]
        if size != -1 and result[place] == 1:
            return False
        own = isinstance(size, Number) and isinstance(size.origin, AttributeOf)
        return own or follows(walk, size) or _counts(walk, source, size)

    found = [place for place in places if possible(place)]
    apart = (p for p in found if not summed_up(walk.graph, value, p - len(result)))
    return next(apart, found[0] if found else None)


def _counts(walk: Walk, source: Channels, size: object) -> bool:
    """Tell whether a size is computed from how many channels a value has."""
    if not isinstance(size, Number):
        return False
    counted = [channels_counted(walk, one) for one in leaves(size) if isinstance(one, SizeOf)]
    return any(
        units is not None and bool(torch.isin(units, source.origins).any()) for units in counted
    )


def pieces(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `split`, `chunk` and `unbind`, whose results are pieces along one dimension."""
    before = given(call)[0]
    source, results = walk.of(before), walk.graph.results[call]
    along = call.argument(1 if operation(call) == "unbind" else 2, "dim") or 0
    shape = lengths(before.shape)
    whole = [v for v in results if v.shape is not None]
    if not isinstance(source, Channels) or shape is None or len(whole) != len(results):
        return unknown(walk, value, call)
    if not isinstance(along, int) or len(given(call)) > 1:
        return unknown(walk, value, call)
    along = along % len(shape) - len(shape)
    if along != source.axis:
        gone = operation(call) == "unbind" and along > source.axis
        return replace(source, axis=source.axis + gone)
    if operation(call) == "unbind" or (value is not results[0] and walk.of(results[0]) is None):
        return unknown(walk, value, call)
    counts = [(lengths(one.shape) or ())[along] for one in results]
    parts = torch.split(source.units, counts)
    if value is results[0] and not _pieces_follow(walk, call, parts):
        return unknown(walk, value, call)
    place = results.index(value)
    start = sum(counts[:place])
    own = slice(start, start + counts[place])
    return Channels(source.axis, source.origins[:, own], source.constants[own])


def _pieces_follow(walk: Walk, call: Call, parts: Sequence[Tensor]) -> bool:
    """Tell whether the sizes of pieces may be right after a cut, and note what has to hold."""
    asked = call.argument(1, "chunks" if operation(call) == "chunk" else "split_size_or_sections")
    asked = call.kwargs.get("split_size", asked)
    if operation(call) == "chunk":
        walk.found.alike.append(tuple(parts))
        return len({len(part) for part in parts}) == 1
    if isinstance(asked, Number):
        walk.found.alike.append(tuple(parts))
        walk.found.widths.append(width_of(walk, asked, parts[0]))
        return len({len(part) for part in parts}) == 1
    if isinstance(asked, list | tuple) and all(isinstance(one, Number) for one in asked):
        pairs = zip(asked, parts, strict=True)
        walk.found.widths += [width_of(walk, number, part) for number, part in pairs]
        return True
    return False


def sliced(walk: Walk, source: Channels, place: object) -> Channels | None:
    """Return the channels that an index takes; None where that is not followed.

    Where it begins and ends has to be right for what is left: what is before a place that counts
    from the front, and behind one that counts from the end, stays unless the forward computes it.
    """
    count = len(source.units)
    if isinstance(place, int):
        place = slice(place, place + 1 or None)
    if not isinstance(place, slice) or place.step not in (None, 1):
        return None
    first, last, _ = place.indices(count)
    for end, at, border in ((place.start, first, 0), (place.stop, last, count)):
        if not isinstance(end, int) or (at == border and not isinstance(end, Number)):
            continue  # as all is taken up to there
        if isinstance(end, Number) and end == at:
            walk.found.widths.append(width_of(walk, end, source.units[:at]))
            continue
        counted = slice(at, None) if end < 0 else slice(None, at)
        held = replace(source, origins=source.origins[:, counted])
        walk.found.fix([held], f"the forward takes a part of it that begins or ends at {int(end)}")
    own = slice(first, last)
    return Channels(source.axis, source.origins[:, own], source.constants[own])


def expand(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `expand`, which repeats dimensions of one entry and leaves others as they are."""
    before = given(call)[0]
    source, shape = walk.of(before), walk.lengths(before)
    result = walk.lengths(value)
    if not isinstance(source, Channels) or operation(call) != "expand":
        return unknown(walk, value, call)
    if result[source.axis] != shape[source.axis]:
        return unknown(walk, value, call)
    sizes = asked_sizes(call, len(result))
    if not sized(walk, sizes, source.axis + len(result), source.units):
        reason = f"the forward expands what it gives to the fixed size {result[source.axis]}"
        keep_inputs(walk, call, reason)
    return source


def gated_half(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `glu`, which multiplies one half of the channels by a sigmoid of the other."""
    before = given(call)[0]
    source, over = walk.of(before), call.argument(1, "dim")
    over = getattr(call.module, "dim", -1 if over is None else over)
    if not isinstance(source, Channels) or not isinstance(over, int):
        return unknown(walk, value, call)
    rank = len(walk.shape(before))
    if over % rank - rank != source.axis:
        return replace(source, constants=not_constant(len(source.units)))
    halves = source.units.chunk(2)
    walk.found.tie(*halves)
    nothing = source.constants.chunk(2)[0] == 0
    constants = not_constant(len(halves[0])).masked_fill(nothing, 0.0)
    return Channels(source.axis, torch.cat(source.origins.chunk(2, dim=1)), constants)

"""Functions of numbers at the same place: activations, sums, products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, fx, nn

from gossamer.graph.axes import is_pointwise, operation, scaled_by
from gossamer.graph.calls import Call, Value, found_in
from gossamer.graph.channels import Channels, Description, Unclear, not_constant, same
from gossamer.graph.filled import channels_of
from gossamer.graph.parting_rules import asked_sizes, sized
from gossamer.graph.sums import place_in
from gossamer.graph.walk import (
    UnclearTiesError,
    Walk,
    counts,
    finite,
    given,
    reason_to_keep,
    unknown,
)

_MOVING = frozenset({
    "expand", "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "getitem",
    "permute", "transpose", "swapaxes", "movedim", "contiguous", "cat", "roll", "flip", "repeat",
    "interpolate", "to", "float",
})  # fmt: skip
"""Calls that give numbers of what they are given at other places, or means of them."""


def identity(walk: Walk, value: Value, call: Call) -> Description:
    """Follow what gives its input back in evaluation mode."""
    return walk.of(given(call)[0]) if len(given(call)) == 1 else unknown(walk, value, call)


def cast_numbers(walk: Walk, value: Value, call: Call) -> Description:
    """Follow what gives its input back in another type, or at another place."""
    source = walk.of(given(call)[0])
    if not isinstance(source, Channels):
        return unknown(walk, value, call)
    return replace(source, constants=source.constants.masked_fill(source.constants != 0, torch.nan))


def pointwise(walk: Walk, value: Value, call: Call) -> Description:
    """Follow functions of numbers at the same place: activations, sums, products."""
    inputs = {before: walk.of(before) for before in given(call)}
    described = [d for d in inputs.values() if isinstance(d, Channels)]
    axis, width = described[0].axis, max(len(d.units) for d in described)
    meets_all = [d for d in described if d.axis == axis and len(d.units) == 1 < width]
    inputs = {v: _of_all(d, width) if d in meets_all else d for v, d in inputs.items()}
    for before, d in inputs.items():
        if d is None and width_of_operand(walk, before, axis) == width > 1:
            inputs[before] = channels_of(walk, before, axis)
    described = [d for d in inputs.values() if isinstance(d, Channels)]
    alike = all(d.axis == axis and len(d.units) == width for d in described)
    if not alike or any(counts(d) for d in inputs.values()):
        return unknown(walk, value, call)
    others = [before for before, d in inputs.items() if not isinstance(d, Channels)]
    if any(isinstance(inputs[before], Unclear) for before in others):
        raise UnclearTiesError
    full = [before for before in others if width_of_operand(walk, before, axis) != 1]
    if value.shape is not None and value.shape[axis] not in (width, None):
        return unknown(walk, value, call)
    held: dict[Value, Tensor] = {}
    for before in full:
        added = operation(call) in ("add", "sub")
        if (own := of_each_channel(walk, before, described[0], call, added=added)) is not None:
            held[before] = own
            continue
        walk.found.fix(described, reason_to_keep(walk, call))
        if before.computed:
            beside = "something that is not computed by units, such as the network's input"
            walk.found.pinned += [(d.units, beside) for d in described]
    several = [d for d in map(walk.of, inputs) if isinstance(d, Channels) and len(d.units) == width]
    for description in several[1:]:
        walk.found.tie(several[0].units, description.units)
    # Without doubles, as `x * sigmoid(x)` over and over would name each unit ever more often.
    origins: Tensor = torch.unique(torch.cat([d.origins for d in described]), dim=0)
    known = {v: d.constants for v, d in inputs.items() if isinstance(d, Channels)} | held
    return Channels(axis, origins, finite(_constants(call, known, len(inputs), width)))


def _of_all(channels: Channels, width: int) -> Channels:
    """Return a single channel that meets all channels of another value, as often as it does."""
    return Channels(
        channels.axis, channels.origins.expand(-1, width), channels.constants.expand(width)
    )


def of_each_channel(
    walk: Walk, operand: Value, channels: Channels, call: Call, *, added: bool = False
) -> Tensor | None:
    """Note parameters or buffers that a call reads with channels, and where they are constant.

    They are such as the scales of a layer, and may come to the operand through calls that keep
    channels apart, as embeddings of positions do that are put together and resized. Whether all
    calls that read them do so is seen at the end. The result is None for another operand, and else
    the number that all of it are in a channel, NaN where they differ; [channels]. What is `added`,
    such as a position's embedding, is gone with the units of its channels.
    """
    found = _held_behind(walk, operand, channels.axis)
    if found is None:
        return None
    held = [
        (one.constant if one.parameter is None else one.parameter, at) for one, at in found.held
    ]
    named = [(walk.owners.get(id(tensor)), tensor, at) for tensor, at in held]
    if any(owner is None or _length(t, at) != len(channels.units) for owner, t, at in named):
        return None
    for value, axis in found.along.items():
        sizes = () if value.call is None else asked_sizes(value.call, len(value.shape or ()))
        if not sized(walk, sizes, axis + len(value.shape or ()), channels.units):
            return None
    walk.read_along.add((call, operand))
    walk.held.update((one, channels.units) for one, _ in found.held)
    constants = []
    for owner, tensor, dimension in named:
        path, _, name = cast("tuple[str, nn.Module, str]", owner)
        noted = walk.found.vectors.setdefault((path, name), (dimension, channels.units))
        walk.found.tie(noted[1], channels.units)
        if added and isinstance(tensor, nn.Parameter):
            walk.found.scaled.append((tensor, dimension, channels.units))
        else:
            walk.found.unscaled.add(id(tensor))
        constants.append(_constants_along(tensor, dimension, known=walk.with_constants))
    alike = same(constants)
    if not found.moved:
        alike = alike.masked_fill(alike != 0, torch.nan)
    return alike if found.nothing_of_nothing else not_constant(len(alike))


@dataclass(eq=False)
class _Held:
    """What of a value comes from parameters and buffers, along one of its axes.

    `held` are these with their dimension, `along` all values on the way with their axis. Nothing
    but their places changes on the way if they are `moved`; zeros give zeros if it is so said.
    """

    held: list[tuple[Value, int]]
    along: dict[Value, int]
    moved: bool = True
    nothing_of_nothing: bool = True


def _held_behind(walk: Walk, operand: Value, axis: int) -> _Held | None:
    """Return the parameters and buffers whose numbers lie along an axis of a value."""
    found, pending = _Held([], {operand: axis}), [operand]
    while pending:
        value = pending.pop()
        axis, call = found.along[value], value.call
        if call is None:
            if value.computed or len(value.shape or ()) < -axis:
                return None
            found.held.append((value, axis + len(value.shape or ())))
            continue
        operands = () if value.computed else _read_along(walk, call, axis)
        if not operands:
            return None
        moved, name = operation(call) in _MOVING, operation(call)
        found.moved &= moved
        summed = name in ("add", "sub") and len(operands) > 1
        found.nothing_of_nothing &= moved or summed or name in ("mul", "multiply")
        for before in operands:
            own = next((a for a in _axes_of(before) if place_in(call, a, before, value) == axis), 0)
            if not own or found.along.setdefault(before, own) != own:
                return None
            pending += [before] if before not in pending else []
    return found if found.held else None


def _read_along(walk: Walk, call: Call, axis: int) -> Sequence[Value]:
    """Return the values whose numbers lie along an axis of what a call gives."""
    if is_pointwise(call):
        return [one for one in given(call) if width_of_operand(walk, one, axis) != 1]
    first = call.argument(0, "tensors" if operation(call) in ("cat", "stack") else "input")
    return list(found_in(first, lambda part: isinstance(part, Value)))


def _axes_of(value: Value) -> Sequence[int]:
    return range(-1, -1 - len(value.shape or ()), -1)


def fix_what_is_read_otherwise(walk: Walk) -> None:
    """Keep the channels of parameters and buffers that a call reads which is not seen to do so."""
    for leaf, units in walk.held.items():
        pending, seen = [leaf], {leaf}
        while pending:
            before = pending.pop()
            for user in walk.graph.users.get(before, ()):
                if (user.call, before) in walk.read_along or user in seen:
                    continue
                seen.add(user)
                if not user.computed and user not in walk.graph.outputs:
                    pending.append(user)
                    continue
                walk.found.fixed.append((units, "it goes with a parameter that is read otherwise"))
                walk.found.unscaled.add(id(leaf.parameter))


def _length(tensor: Tensor | None, dimension: int) -> int:
    return 0 if tensor is None else tensor.shape[dimension]


def _constants_along(tensor: Tensor | None, dimension: int, *, known: bool) -> Tensor:
    """Return what a tensor is along a dimension, float64, NaN where it differs or is not known."""
    assert tensor is not None
    rows = tensor.detach().cpu().double().movedim(dimension, 0)
    rows = rows.reshape(len(rows), -1)
    alike = (rows == rows[:, :1]).all(1) & known
    return torch.where(alike, rows[:, 0], torch.nan)


def width_of_operand(walk: Walk, operand: Value, axis: int) -> int:
    """Return how many numbers of an operand meet the channels, 1 where one meets them all."""
    if operand.shape is None and not walk.graph.shaped and operand.computed:
        raise UnclearTiesError
    own = operand.shape or ()
    length = own[axis] if len(own) >= -axis else 1
    if length is None:
        raise UnclearTiesError
    return length


def _constants(call: Call, known: Mapping[Value, Tensor], operands: int, width: int) -> Tensor:
    moving = torch.stack([values.isnan() for values in known.values()]).any(0)
    result = not_constant(width)
    if len(known) == operands and not moving.all():
        result = torch.where(moving, torch.nan, _called_on(call, known))
    factors = [known[value] == 0 for value in scaled_by(call) if value in known]
    quotient = operation(call) not in ("mul", "multiply")  # where 0 / 0 is no number
    if factors and not (quotient and len(known) > 1):
        result = torch.where(torch.stack(factors).any(0), 0.0, result)
    return result


def _called_on(call: Call, values: Mapping[Value, Tensor]) -> Tensor:
    """Call what a call calls on other values."""
    assert call.run is not None

    def put(part: object) -> object:
        return values[part].clone() if isinstance(part, Value) else part

    args, kwargs = fx.node.map_aggregate((call.args, dict(call.kwargs)), put)  # type: ignore[arg-type]
    return cast("Tensor", call.run(*args, **kwargs))

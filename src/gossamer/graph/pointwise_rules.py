"""Functions of numbers at the same place: activations, sums, products."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, fx

from gossamer.graph.axes import LOST, is_pointwise, operation, scaled_by
from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import Channels, Description, Unclear, not_constant
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
    "expand", "view", "reshape", "unsqueeze", "getitem", "permute", "transpose", "contiguous",
})  # fmt: skip
"""Calls that give numbers of what they are given, at other places."""


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
        if (own := of_each_channel(walk, before, described[0], added=added)) is not None:
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
    walk: Walk, operand: Value, channels: Channels, *, added: bool = False
) -> Tensor | None:
    """Note a parameter or buffer that goes with channels, and return where it is constant.

    It is one that nothing else reads, such as the scales of a layer, or is computed from one alone,
    such as a bias of each head for the places that there are. The result is None for another
    operand, and else the number that all of it are in a channel, NaN where they differ; [channels].
    What is `added`, such as a position's embedding, is gone with the units of its channels.
    """
    for chain in _chains(walk, operand):
        held = chain[0].constant if chain[0].parameter is None else chain[0].parameter
        owner = walk.owners.get(id(held))
        alone = all(len(walk.graph.users.get(one, ())) == 1 for one in chain)
        for dimension in range(len(chain[0].shape or ()) if alone else 0):
            if owner is not None and _leads_to(walk, chain, dimension, channels):
                path, _, name = owner
                noted = walk.found.vectors.setdefault((path, name), (dimension, channels.units))
                walk.found.tie(noted[1], channels.units)
                if added and chain[0].parameter is not None:
                    walk.found.scaled.append((chain[0].parameter, dimension, channels.units))
                moved = all(operation(cast("Call", one.call)) in _MOVING for one in chain[1:])
                return _constants_along(held, dimension, known=moved and walk.with_constants)
    return None


def _constants_along(tensor: Tensor | None, dimension: int, *, known: bool) -> Tensor:
    """Return what a tensor is along a dimension, float64, NaN where it differs or is not known."""
    assert tensor is not None
    rows = tensor.detach().cpu().double().movedim(dimension, 0)
    rows = rows.reshape(len(rows), -1)
    alike = (rows == rows[:, :1]).all(1) & known
    return torch.where(alike, rows[:, 0], torch.nan)


def _chains(walk: Walk, operand: Value) -> Iterator[tuple[Value, ...]]:
    """Yield values from a parameter or buffer to an operand that no input has part in."""
    if operand.call is None:
        yield (operand,)
    elif not operand.computed:
        for before in given(operand.call):
            yield from ((*chain, operand) for chain in _chains(walk, before))


def _leads_to(walk: Walk, chain: Sequence[Value], dimension: int, channels: Channels) -> bool:
    """Tell whether a dimension of the first of a chain of values is that of the channels."""
    lengths = chain[0].shape or ()
    axes = [dimension - len(lengths)]
    for before, value in itertools.pairwise(chain):
        call = cast("Call", value.call)
        others = [one for one in given(call) if one is not before] if is_pointwise(call) else []
        axes.append(place_in(call, axes[-1], before, value))
        if axes[-1] == LOST or any(width_of_operand(walk, one, axes[-1]) != 1 for one in others):
            return False
    if axes[-1] != channels.axis or lengths[dimension] != len(channels.units):
        return False
    return all(
        sized(walk, asked_sizes(cast("Call", value.call), rank), axis + rank, channels.units)
        for value, axis in zip(chain[1:], axes[1:], strict=True)
        if (rank := len(value.shape or ()))
    )


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

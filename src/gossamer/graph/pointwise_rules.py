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
    for before in full:
        if of_each_channel(walk, before, described[0]):
            continue
        walk.found.fix(described, reason_to_keep(walk, call))
        if before.computed:
            beside = "something that is not computed by units, such as the network's input"
            walk.found.pinned += [(d.units, beside) for d in described]
    tied = [walk.of(before) for before in given(call)]
    several = [d for d in tied if isinstance(d, Channels) and len(d.units) == width]
    for description in several[1:]:
        walk.found.tie(several[0].units, description.units)
    # Without doubles, as `x * sigmoid(x)` over and over would name each unit ever more often.
    origins: Tensor = torch.unique(torch.cat([d.origins for d in described]), dim=0)
    return Channels(axis, origins, finite(_constants(call, inputs, width)))


def _of_all(channels: Channels, width: int) -> Channels:
    """Return a single channel that meets all channels of another value, as often as it does."""
    return Channels(
        channels.axis, channels.origins.expand(-1, width), channels.constants.expand(width)
    )


def of_each_channel(walk: Walk, operand: Value, channels: Channels) -> bool:
    """Tell whether an operand is a parameter or buffer that goes with its channels, and note it.

    It is one that nothing else reads, such as the scales of a layer, or is computed from one alone,
    such as a bias of each head for the places that there are.
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
                return True
    return False


def _chains(walk: Walk, operand: Value) -> Iterator[tuple[Value, ...]]:
    """Yield values from a parameter or buffer to an operand that no input has part in."""
    if operand.call is None:
        yield (operand,)
    elif not operand.computed:
        for before in given(operand.call):
            yield from ((*chain, operand) for chain in _chains(walk, before))


def _leads_to(walk: Walk, chain: Sequence[Value], dimension: int, channels: Channels) -> bool:
    """Tell whether a dimension of the first of a chain of values is that of the channels."""
    axis = dimension - len(chain[0].shape or ())
    for before, value in itertools.pairwise(chain):
        call = cast("Call", value.call)
        others = [one for one in given(call) if one is not before] if is_pointwise(call) else []
        axis = place_in(call, axis, before, value)
        sizes = asked_sizes(call, len(value.shape or ()))
        if axis == LOST or any(width_of_operand(walk, one, axis) != 1 for one in others):
            return False
        if not sized(walk, sizes, axis + len(value.shape or ()), channels.units):
            return False
    lengths = chain[0].shape or ()
    return axis == channels.axis and lengths[dimension] == len(channels.units)


def width_of_operand(walk: Walk, operand: Value, axis: int) -> int:
    """Return how many numbers of an operand meet the channels, 1 where one meets them all."""
    if operand.shape is None and not walk.graph.shaped and operand.computed:
        raise UnclearTiesError
    own = operand.shape or ()
    length = own[axis] if len(own) >= -axis else 1
    if length is None:
        raise UnclearTiesError
    return length


def _constants(call: Call, inputs: Mapping[Value, Description], width: int) -> Tensor:
    known = {v: d.constants for v, d in inputs.items() if isinstance(d, Channels)}
    moving = torch.stack([values.isnan() for values in known.values()]).any(0)
    result = not_constant(width)
    if len(known) == len(inputs) and not moving.all():
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

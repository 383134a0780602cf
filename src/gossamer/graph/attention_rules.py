"""Attention written out: products of two computed values, with heads among their first axes."""

from dataclasses import replace

import torch

from gossamer.graph.axes import operation
from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import Channels, Description, Unclear, not_constant
from gossamer.graph.pointwise_rules import of_each_channel, width_of_operand
from gossamer.graph.walk import UnclearTiesError, Walk, given, unknown


def softmax(walk: Walk, value: Value, call: Call) -> Description:
    """Follow a softmax, or a norm, over another dimension than that of the channels."""
    before, *others = given(call)
    source, over = walk.of(before), call.argument(1, "dim")
    if operation(call) == "normalize":
        over = 1 if (asked := call.argument(2, "dim")) is None else asked
    over = getattr(call.module, "dim", over)
    if not isinstance(source, Channels) or others or not isinstance(over, int):
        return unknown(walk, value, call)
    rank = len(walk.shape(before))
    if over % rank - rank == source.axis:
        return unknown(walk, value, call)
    return replace(source, constants=not_constant(len(source.units)))


def product(walk: Walk, value: Value, call: Call) -> Description:
    """Follow a product of matrices, one for each channel, or one whose columns are channels."""
    values = [one for one in (call.argument(0, "input"), _second(call)) if isinstance(one, Value)]
    if len(values) != 2 or len(given(call)) != (1 if values[0] is values[1] else 2):
        return unknown(walk, value, call)
    first, second = (walk.of(one) for one in values)
    if any(isinstance(one, Unclear) for one in (first, second)):
        raise UnclearTiesError
    ranks = [len(walk.shape(one)) for one in values]
    if isinstance(second, Channels) and second.axis == -1 and first is None and min(ranks) > 1:
        constants = second.constants.masked_fill(second.constants != 0, torch.nan)
        return replace(second, constants=constants)
    if isinstance(first, Channels) and first.axis == -2 and second is None and min(ranks) > 1:
        constants = first.constants.masked_fill(first.constants != 0, torch.nan)
        return replace(first, constants=constants)
    return _of_each(walk, value, call, values)


def _second(call: Call) -> object:
    return call.kwargs.get("mat2", call.argument(1, "other"))


def _of_each(walk: Walk, value: Value, call: Call, values: list[Value]) -> Description:
    """Follow what is computed of each channel by itself, of several values that agree in them."""
    described = [one for v in values if isinstance(one := walk.of(v), Channels)]
    if not described:
        return unknown(walk, value, call)
    first = described[0]
    width = len(first.units)
    if any(one.axis != first.axis or len(one.units) != width for one in described):
        return unknown(walk, value, call)
    alone = [v for v in values if not isinstance(walk.of(v), Channels)]
    if first.axis > -3 or any(walk.of(v) is not None for v in alone):
        return unknown(walk, value, call)
    if any(width_of_operand(walk, v, first.axis) != 1 for v in alone):
        return unknown(walk, value, call)
    for one in described[1:]:
        walk.found.tie(first.units, one.units)
    nothing = torch.stack([one.constants == 0 for one in described]).any(0)
    origins: torch.Tensor = torch.unique(torch.cat([one.origins for one in described]), dim=0)
    return Channels(first.axis, origins, not_constant(width).masked_fill(nothing, 0.0))


def attention(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `scaled_dot_product_attention`, whose channels are heads or those of the values."""
    names = ("query", "key", "value", "attn_mask")
    query, key, val, mask = (call.argument(place, name) for place, name in enumerate(names))
    operands = [query, key, val]
    if not all(isinstance(one, Value) for one in operands):
        return unknown(walk, value, call)
    described = [walk.of(one) for one in operands]
    last = described[2]
    masked = isinstance(mask, Value)
    if masked and walk.of(mask) is not None:
        return unknown(walk, value, call)
    plain = described[0] is None and described[1] is None
    if plain and isinstance(last, Channels) and last.axis == -1:
        constants = last.constants.masked_fill(last.constants != 0, torch.nan)
        return replace(last, constants=constants)
    if not all(isinstance(one, Channels) for one in described):
        return unknown(walk, value, call)
    heads = [one for one in described if isinstance(one, Channels)]
    axis, width = heads[0].axis, len(heads[0].units)
    if axis > -3 or any(one.axis != axis or width % len(one.units) for one in heads):
        return unknown(walk, value, call)
    if masked and width_of_operand(walk, mask, axis) != 1:
        widest = next(one for one in heads if len(one.units) == width)
        if of_each_channel(walk, mask, widest, call) is None:
            return unknown(walk, value, call)
    for number, one in enumerate(heads[1:], 1):
        # Grouped-query attention: several heads of queries share one of keys and values.
        shared = width // len(one.units)
        heads[number] = Channels(
            axis,
            one.origins.repeat_interleave(shared, dim=1),
            one.constants.repeat_interleave(shared),
        )
        walk.found.tie(heads[0].units, heads[number].units)
    origins: torch.Tensor = torch.unique(torch.cat([one.origins for one in heads]), dim=0)
    constants = heads[2].constants
    return Channels(axis, origins, constants.masked_fill(constants != 0, torch.nan))


def einsum(walk: Walk, value: Value, call: Call) -> Description:
    """Follow a sum of products in Einstein's notation that keeps the letter of the channels."""
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    sides = equation.replace(" ", "").split("->") if isinstance(equation, str) else ()
    if len(sides) != 2 or "." in equation or not all(isinstance(one, Value) for one in operands):
        return unknown(walk, value, call)
    terms, result = sides[0].split(","), sides[1]
    known = [walk.of(one) for one in operands]
    pairs = list(zip(terms, known, strict=True))
    described = [(term, one) for term, one in pairs if isinstance(one, Channels)]
    letters = {term[one.axis] for term, one in described}
    letter = next(iter(letters))
    alone = [term for term, one in pairs if one is None]
    plain = len(described) + len(alone) == len(pairs) and not any(letter in t for t in alone)
    if len(letters) > 1 or letter not in result or not plain:
        return unknown(walk, value, call)
    several = [one for _, one in described]
    for one in several[1:]:
        walk.found.tie(several[0].units, one.units)
    nothing = torch.stack([one.constants == 0 for one in several]).any(0)
    origins: torch.Tensor = torch.unique(torch.cat([one.origins for one in several]), dim=0)
    constants = not_constant(len(nothing)).masked_fill(nothing, 0.0)
    return Channels(result.index(letter) - len(result), origins, constants)

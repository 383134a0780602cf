"""Operations along the dimensions behind the channels, which mix places and not channels."""

from dataclasses import replace
from typing import cast

import torch
from torch import nn

from gossamer.graph.axes import operation
from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import Channels, Description, Sizes, not_constant
from gossamer.graph.operations import POOLS
from gossamer.graph.walk import Walk, given, unknown


def _spatial(walk: Walk, value: Value, call: Call, dimensions: int, uniform: bool) -> Description:
    """Operations along the last dimensions, which mix places and not channels.

    A constant channel stays what it is if the operation is `uniform`, and if it is 0.
    """
    before, *others = given(call)
    source = walk.of(before)
    plain = all(d == Sizes() for d in map(walk.of, others))
    if not isinstance(source, Channels) or source.axis >= -dimensions or not plain:
        return unknown(walk, value, call)
    constants = source.constants
    if not uniform:
        constants = constants.masked_fill(constants != 0, torch.nan)
    return replace(source, constants=constants)


def pool(walk: Walk, value: Value, call: Call) -> Description:
    """Follow a pooling; the largest and an average give back a constant that they are given.

    An average counts zeros of its padding unless told otherwise.
    """
    name, module = operation(call), call.module
    uniform = name.startswith(("max", "adaptive"))
    if name.startswith("avg") and module is None:
        # Beyond the kernel and the stride all arguments are about the border.
        uniform = len(call.args) <= 3 and set(call.kwargs) <= {"input", "kernel_size", "stride"}
    elif isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
        padding = module.padding if isinstance(module.padding, tuple) else (module.padding,)
        edge = any(padding) and module.count_include_pad
        uniform = not edge and getattr(module, "divisor_override", None) is None
    return _spatial(walk, value, call, POOLS[name], uniform)


def padding_layer(walk: Walk, value: Value, call: Call) -> Description:
    """Follow a layer that pads with numbers of the channel itself, or with zeros."""
    name = operation(call)
    inner = not name.startswith(("zero", "constant"))
    if not inner and getattr(call.module, "value", 0) != 0:
        return unknown(walk, value, call)
    return _spatial(walk, value, call, int(name[-2]), inner)


def pad(walk: Walk, value: Value, call: Call) -> Description:
    """`torch.nn.functional.pad`, whose widths begin at the last dimension."""
    widths, mode, filled = (
        call.args[place] if len(call.args) > place else call.kwargs.get(name, default)
        for place, name, default in ((1, "pad", None), (2, "mode", "constant"), (3, "value", None))
    )
    if not isinstance(widths, (tuple, list)) or (mode == "constant" and filled not in (None, 0)):
        return unknown(walk, value, call)
    return _spatial(walk, value, call, len(widths) // 2, uniform=mode != "constant")


def upsample(walk: Walk, value: Value, call: Call) -> Description:
    """Follow an interpolation."""
    return _spatial(walk, value, call, len(walk.shape(given(call)[0])) - 2, uniform=True)


def mean(walk: Walk, value: Value, call: Call) -> Description:
    """Mean, largest or smallest over some dimensions."""
    return _over_dimensions(walk, value, call, uniform=True)


def reduction(walk: Walk, value: Value, call: Call) -> Description:
    """Sum and other functions of all numbers along some dimensions; most give 0 for zeros."""
    return _over_dimensions(walk, value, call, uniform=False)


def moved_within(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `roll` and `flip` along other dimensions than that of the channels."""
    before, *others = given(call)
    source, count = cast("Channels", walk.of(before)), len(walk.shape(before))
    over = call.argument(2 if operation(call) == "roll" else 1, "dims")
    over = call.args[1:] if operation(call) == "flip" and isinstance(over, int) else over
    over = (over,) if isinstance(over, int) else over
    named = isinstance(over, list | tuple) and all(isinstance(one, int) for one in over)
    if others or not named or source.axis in {int(d) % count - count for d in over}:
        return unknown(walk, value, call)
    return source


def selected(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `index_select` along another dimension than that of the channels."""
    before = call.argument(0, "input")
    source, along = walk.of(before), call.argument(1, "dim")
    if not isinstance(source, Channels) or not isinstance(along, int):
        return unknown(walk, value, call)
    count = len(walk.shape(before))
    others = [one for one in given(call) if one is not before]
    if any(walk.of(one) is not None for one in others) or along % count - count == source.axis:
        return unknown(walk, value, call)
    return source


def packed(walk: Walk, value: Value, call: Call) -> Description:
    """Follow steps of sequences that are packed behind one another, or apart again."""
    results, source = walk.graph.results[call], walk.of(given(call)[0])
    others = [walk.of(one) for one in given(call)[1:]]
    if not isinstance(source, Channels) or source.axis != -1 or any(one for one in others):
        return unknown(walk, value, call)
    if value is not results[0]:
        return None
    if operation(call) == "packpaddedsequence":
        return source
    changed = source.constants != (call.argument(3, "padding_value") or 0.0)
    return replace(source, constants=source.constants.masked_fill(changed, torch.nan))


def cumulated(walk: Walk, value: Value, call: Call) -> Description:
    """Follow sums or products up to each number, which are 0 for zeros alone."""
    before, *others = given(call)
    source, count = cast("Channels", walk.of(before)), len(walk.shape(before))
    over = call.argument(1, "dim")
    if others or not isinstance(over, int) or int(over) % count - count == source.axis:
        return unknown(walk, value, call)
    return replace(source, constants=source.constants.masked_fill(source.constants != 0, torch.nan))


_RANKED_BY = {"topk": 2, "kthvalue": 2, "sort": 1, "median": 1}
"""Where calls that order numbers name the dimension."""


def ranked(walk: Walk, value: Value, call: Call) -> Description:
    """Follow numbers of some ranks, and their places, along a dimension behind the channels."""
    before, *others = given(call)
    source, count = cast("Channels", walk.of(before)), len(walk.shape(before))
    over = call.argument(_RANKED_BY[operation(call)], "dim")
    if over is None and operation(call) != "median":
        over = -1
    if others or type(over) is not int or over % count - count == source.axis:
        return unknown(walk, value, call)
    places = value is not walk.graph.results[call][0]
    gone = len(walk.shape(value)) < count and over % count - count > source.axis
    constants = not_constant(len(source.units)) if places else source.constants
    return replace(source, axis=source.axis + gone, constants=constants)


def _over_dimensions(walk: Walk, value: Value, call: Call, *, uniform: bool) -> Description:
    before, *others = given(call)
    source, count = cast("Channels", walk.of(before)), len(walk.shape(before))
    over = call.argument(1, "dim")
    over = [over] if isinstance(over, int) else over
    named = isinstance(over, list | tuple) and all(
        isinstance(one, int) and not isinstance(one, bool) for one in over
    )
    if others or not named:
        return unknown(walk, value, call)
    gone = {int(d) % count - count for d in over}
    if not gone or source.axis in gone or value.shape is None:
        return unknown(walk, value, call)
    kept = len(walk.shape(value)) == count
    constants = source.constants
    if not uniform:
        changed = (constants != 0) | (operation(call) == "logsumexp")
        constants = constants.masked_fill(changed, torch.nan)
    axis = source.axis + (0 if kept else sum(d > source.axis for d in gone))
    return replace(source, axis=axis, constants=constants)

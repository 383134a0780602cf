"""Linear layers, convolutions, and layers that hold numbers for each channel."""

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import (
    Channels,
    Channelwise,
    Description,
    Findings,
    Layer,
    Unclear,
    not_constant,
)
from gossamer.graph.filled import channels_of
from gossamer.graph.layers import (
    ByChannel,
    Projection,
    UnitLayer,
    WeightedLayer,
    contribution,
    foldable,
    groups_of,
    outputs_of,
    spatial_dimensions,
)
from gossamer.graph.normalisations import channel_axis, normalises_last, parameters_of
from gossamer.graph.walk import (
    UnclearTiesError,
    Walk,
    finite,
    given,
    reason_to_keep,
    unknown,
)
from gossamer.networks.normalisation import normalised_axis


def called_layer(walk: Walk, call: Call) -> tuple[str, UnitLayer] | None:
    """Return the layer whose units a call gives, with its name; None for another call.

    It may be a function that is called with the weight of a layer.
    """
    values = given(call)
    if isinstance(call.module, WeightedLayer):
        one = len(values) == 1 and walk.is_tensor(values[0]) and walk.sound(call)
        return walk.holders.get(id(call.module._parameters.get("weight"))) if one else None
    weight = call.argument(1, "weight")
    named = call.name == "linear" or call.name.startswith("conv")
    if call.module is not None or not named or not isinstance(weight, Value):
        return _called_projection(walk, call)
    name, layer = walk.holders.get(id(weight.parameter), ("", None))
    if layer is None:
        return _called_projection(walk, call)
    if call.name.endswith("d") != (not isinstance(layer, nn.Linear)):
        return None
    alike = (call.argument(6, "groups") or 1) == groups_of(layer) and walk.sound(call)
    return (name, layer) if alike else None


def _called_projection(walk: Walk, call: Call) -> tuple[str, UnitLayer] | None:
    """Return what a function multiplies with that is called with parameters of any module.

    All else that reads these parameters has to be such a call, too.
    """
    parts = _factors(call)
    if parts is None:
        return None
    data, weight, bias = parts
    owner = walk.owners.get(id(weight.parameter))
    biased = None if bias is None else walk.owners.get(id(bias.parameter))
    if not data.computed or owner is None or weight.parameter is None:
        return None
    if weight.parameter.dim() != 2 or not weight.parameter.is_floating_point():
        return None
    beside = biased is not None and biased[1] is owner[1]
    if bias is not None and not (beside and len(bias.shape or ()) == 1):
        return None
    users = walk.graph.users
    readers = [*users.get(weight, ()), *(users.get(bias, ()) if bias is not None else ())]
    for reading in (reader.call for reader in readers):
        others = None if reading is None else _factors(reading)
        if others is None or others[1:] != (weight, bias):
            return None
    path, holder, name = owner
    transposed = call.name != "linear"
    found = Projection(holder, path, name, None if biased is None else biased[2], transposed)
    return found.name, found


def _factors(call: Call) -> tuple[Value, Value, Value | None] | None:
    """Return data, weight and bias of a product; None for another call."""
    if call.module is not None:
        return None
    if call.name == "addmm":
        found = [call.argument(1, "mat1"), call.argument(2, "mat2"), call.argument(0, "input")]
        if call.kwargs.keys() & {"alpha", "beta"}:
            return None
    elif call.name == "linear":
        found = [call.argument(place, n) for place, n in enumerate(("input", "weight", "bias"))]
    elif call.name in ("matmul", "mm"):
        found = [
            call.argument(0, "input"),
            call.kwargs.get("mat2", call.argument(1, "other")),
            None,
        ]
    else:
        return None
    whole = all(isinstance(one, Value) or (one is None and n == 2) for n, one in enumerate(found))
    return (found[0], found[1], found[2]) if whole else None


def weighted(walk: Walk, _value: Value, call: Call) -> Description:
    """Follow a linear layer or convolution, whose outputs are new units."""
    called = called_layer(walk, call)
    assert called is not None
    name, layer = called
    factors = _factors(call)
    before = given(call)[0] if factors is None else factors[0]
    axis = -1 - spatial_dimensions(layer)
    source = channels_of(walk, before, axis) or walk.of(before)
    if isinstance(source, Unclear) and groups_of(layer) > 1:
        raise UnclearTiesError
    found = walk.found.layer(name, layer, outputs_of(layer))
    if not isinstance(source, Channels) or source.axis != axis:
        walk.found.fix([source], f"{name} does not read it along its channels")
        source = None
    found.followers |= _followers(walk, _value)
    found.sources.append(source)
    _tie_calls(walk.found, found.sources)
    if isinstance(layer, Projection) and (bias := layer.bias_parameter) is not None:
        walk.found.scaled.append((bias, 0, found.units))
    constants = constant_outputs(walk, found, source)
    return Channels(axis, found.units[None], constants)


def other_attention(walk: Walk, value: Value, call: Call) -> Description:
    """Follow an attention that stays whole: its result has the units of its last projection."""
    projection = call.module.out_proj if isinstance(call.module, nn.MultiheadAttention) else None
    weight = call.argument(11, "out_proj_weight") if projection is None else projection.weight
    weight = weight.parameter if isinstance(weight, Value) else weight
    unknown(walk, value, call)
    if not walk.graph.shaped:
        return Unclear(call)
    called = walk.holders.get(id(weight))
    if called is None or walk.graph.results[call][0] is not value:
        return None
    units = walk.found.layer(*called, outputs_of(called[1])).units
    found = Channels(-1, units[None], not_constant(len(units)))
    walk.found.fix([found], reason_to_keep(walk, call))
    return found


def is_attention(call: Call) -> bool:
    """Tell whether a call is one of an attention with its projections."""
    return call.name == "multi_head_attention_forward" or isinstance(
        call.module, nn.MultiheadAttention
    )


def _followers(walk: Walk, value: Value) -> set[str | None]:
    """Return the names of the batch normalisations that read a value, None for other readers."""
    calls = [user.call for user in walk.graph.users.get(value, ()) if user.call is not None]
    names = {
        walk.name_of(call) if isinstance(call.module, _BatchNorm) and walk.sound(call) else None
        for call in calls
    }
    return {*names, None} if value in walk.graph.outputs else names


def _tie_calls(found: Findings, sources: list[Channels | None]) -> None:
    """Give all calls of one layer inputs of one width."""
    first, last = sources[0], sources[-1]
    if first is None or last is None:
        found.fix(sources, "another call of the layer that reads it has an input of fixed width")
        for source in sources:
            if source is not None and len(sources) > 1:
                found.pinned.append((source.units, "a shared layer, and something else by it"))
    else:
        found.tie(first.units, last.units)


def constant_outputs(walk: Walk, layer: Layer, source: Channels | None) -> Tensor:
    """Return what the outputs of a layer are where that is the same for all inputs, NaN else."""
    if not walk.with_constants:
        return not_constant(len(layer.units))
    inputs = not_constant(layer.connected.shape[1])
    if source is not None:
        inputs = foldable(layer.module, source.constants)
    moving = layer.connected[:, inputs.isnan()].any(1)
    constants = contribution(layer.module, inputs.nan_to_num(0.0))
    if layer.module.bias is not None:
        constants = constants + layer.module.bias.detach().cpu().double()
    return finite(torch.where(moving, torch.nan, constants))


def channelwise(walk: Walk, value: Value, call: Call) -> Description:
    """Follow a batch or instance normalisation, or a PReLU."""
    layer = cast("ByChannel | nn.PReLU", call.module or _held_normalisation(walk, call))
    before = given(call)[0]
    source = walk.of(before)
    assert isinstance(source, Channels)
    if source.axis + len(walk.shape(before)) != 1:
        return unknown(walk, value, call)
    # A PReLU of one slope has nothing for each channel, and may serve layers of several widths.
    if isinstance(layer, ByChannel) or layer.num_parameters > 1:
        name = walk.names[id(layer)]
        found = walk.found.channelwise.setdefault(name, Channelwise(layer, source.units))
        walk.found.tie(found.units, source.units)
        directly = before.call is not None and before.call.module is not None
        found.sources.add(walk.name_of(cast("Call", before.call)) if directly else None)
    if isinstance(layer, ByChannel):
        filled = [p for p in parameters_of(call) if not is_lazy(p)]
        walk.found.scaled += [(parameter, 0, source.units) for parameter in filled]
    if not walk.with_constants:
        return source
    compute = _normalised if isinstance(layer, ByChannel) else _rectified
    return replace(source, constants=finite(compute(layer, source.constants)))


def _held_normalisation(walk: Walk, call: Call) -> _BatchNorm | None:
    """Return the batch normalisation of one's own kind that calls the function; None for none."""
    weight = call.argument(3, "weight") if call.name == "batch_norm" else None
    owner = walk.owners.get(id(weight.parameter)) if isinstance(weight, Value) else None
    holder = None if owner is None else owner[1]
    return holder if isinstance(holder, _BatchNorm) else None


def normalises_channels(walk: Walk, call: Call) -> bool:
    """Tell whether a call normalises each channel, by a layer or the function with one's numbers.

    A kind of one's own may normalise and then do more: that it calls the function is seen.
    """
    return isinstance(call.module, ByChannel) or _held_normalisation(walk, call) is not None


def normalisation(walk: Walk, _value: Value, call: Call) -> Description:
    """Follow a normalisation whose numbers are taken over channels, of which only zeros can go."""
    before = given(call)[0]
    source = walk.of(before)
    if not isinstance(source, Channels):
        return unknown(walk, _value, call)
    axis = normalised_axis(call.module)
    if axis is not None and source.axis == (-1 if axis == -1 else 1 - len(walk.shape(before))):
        return _over_channels(walk, call, source)
    if normalises_last(call) and _normalised_dimensions(call) < -source.axis:
        return replace(source, constants=not_constant(len(source.units)))  # each by itself
    walk.found.fix([source], reason_to_keep(walk, call))
    for parameter in parameters_of(call):
        dimension = _dimension_of_channels(walk, call, parameter, source.axis)
        if dimension is not None and parameter.shape[dimension] == len(source.units):
            walk.found.scaled.append((parameter, dimension, source.units))
    return replace(source, constants=not_constant(len(source.units)))


def _over_channels(walk: Walk, call: Call, source: Channels) -> Description:
    """Follow a normalisation over all channels at a place; one that is zero has but to be counted.

    What it gives for a zero is its shift where its scale is zero, too.
    """
    layer = cast("nn.LayerNorm | nn.RMSNorm", call.module)
    moving, name = source.constants != 0, walk.name_of(call)
    normalised = replace(source, origins=source.origins[:, moving])
    told = (
        f"what it gives is read by {name} ({type(layer).__name__}), whose inputs keep their width"
    )
    walk.found.fix([normalised], told)
    found = walk.found.channelwise.setdefault(name, Channelwise(layer, source.units))
    walk.found.tie(found.units, source.units)
    found.sources.add(None)
    walk.found.scaled += [(parameter, 0, source.units) for parameter in parameters_of(call)]
    constants = torch.zeros(len(moving), dtype=torch.float64)
    if isinstance(layer, nn.LayerNorm):
        scale, shift = (
            None if one is None else one.detach().cpu().double()
            for one in (layer.weight, layer.bias)
        )
        constants = constants if shift is None else shift
        moving = moving | (scale is None or scale != 0)
    return replace(source, constants=finite(constants.masked_fill(moving, torch.nan)))


def _normalised_dimensions(call: Call) -> float:
    """Return over how many last dimensions a layer normalisation takes its numbers."""
    given_shape = call.argument(1, "normalized_shape")
    shape = getattr(call.module, "normalized_shape", given_shape)
    return len(shape) if isinstance(shape, tuple | list) else math.inf


def _dimension_of_channels(
    walk: Walk, call: Call, parameter: nn.Parameter, axis: int
) -> int | None:
    """Return the dimension of a scale or shift along which channels lie; None if along none."""
    if normalises_last(call):
        return parameter.dim() + axis if -axis <= parameter.dim() else None
    if (own := channel_axis(call)) is None:
        walk.shape(given(call)[0])  # asks for an example where that would tell
    return 0 if own == axis else None


def _normalised(norm: nn.Module, constants: Tensor) -> Tensor:
    assert isinstance(norm, ByChannel)
    if norm.running_mean is not None and norm.running_var is not None:
        mean, variance = norm.running_mean.cpu().double(), norm.running_var.cpu().double()
        values = (constants - mean) / (variance + norm.eps).sqrt()
    elif isinstance(norm, _BatchNorm):
        return not_constant(len(constants))
    else:  # an instance is what its mean is, where it is the same at all places
        values = constants - constants
    if not norm.affine:
        return values
    scale, shift = norm.weight.detach().cpu().double(), norm.bias.detach().cpu().double()
    return torch.where(scale == 0, shift, values * scale + shift)


def _rectified(module: nn.Module, constants: Tensor) -> Tensor:
    assert isinstance(module, nn.PReLU)
    slopes = module.weight.detach().cpu().double()
    return torch.where(constants < 0, slopes * constants, constants)

"""Attention and recurrence as PyTorch's own modules have them, with the heads and units inside."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from gossamer.graph.calls import Call, Value
from gossamer.graph.channels import Channels, Description, Layer, not_constant
from gossamer.graph.filled import channels_of
from gossamer.graph.layer_rules import constant_outputs, other_attention
from gossamer.graph.layers import Projection
from gossamer.graph.numbers import AttributeOf, Number
from gossamer.graph.parting_rules import width_of
from gossamer.graph.pointwise_rules import of_each_channel
from gossamer.graph.walk import Walk, given, unknown

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
"""How many numbers each hidden unit computes of what it reads."""
_CELLS = {nn.LSTMCell: "LSTM", nn.GRUCell: "GRU", nn.RNNCell: "RNN_TANH"}


def _gates(module: nn.RNNBase | nn.RNNCellBase) -> int:
    return GATES[module.mode if isinstance(module, nn.RNNBase) else _CELLS[type(module)]]


def counts(walk: Walk, module: nn.Module, attribute: str, units: Tensor) -> None:
    """Note that an attribute of a module is how many channels there are."""
    origin = AttributeOf(module, attribute)
    number = Number(int(vars(module)[attribute]), origin, [])
    walk.found.widths.append(width_of(walk, number, units))


def looks_up(walk: Walk, call: Call) -> bool:
    """Tell whether a call is of a table that nothing else reads."""
    module = call.module
    if type(module) not in (nn.Embedding, nn.EmbeddingBag) or not walk.graph.shaped:
        return False
    assert isinstance(module, nn.Embedding | nn.EmbeddingBag)
    read = any(v.parameter is module.weight for v in walk.graph.users)
    own = id(module.weight) in walk.owners and not read and module.max_norm is None
    return own and all(walk.of(one) is None for one in given(call)) and walk.sound(call)


def embedding(walk: Walk, _value: Value, call: Call) -> Description:
    """Follow rows of a table, whose columns go with the channels that they are added to."""
    module, path = call.module, walk.name_of(call)
    assert isinstance(module, nn.Embedding | nn.EmbeddingBag)
    if (path, "weight") not in walk.found.vectors:
        units = walk.found.new_units(module.embedding_dim)
        walk.found.vectors[path, "weight"] = (1, units)
        walk.found.scaled.append((cast("nn.Parameter", module.weight), 1, units))
        counts(walk, module, "embedding_dim", units)
    _, units = walk.found.vectors[path, "weight"]
    constants = not_constant(len(units))
    if walk.with_constants:
        constants = constants.masked_fill(~module.weight.detach().cpu().any(0), 0.0)
    return Channels(-1, units[None], constants)


def multihead(walk: Walk, value: Value, call: Call) -> Description:
    """Follow `nn.MultiheadAttention`, whose heads go one by one."""
    module = call.module
    results = walk.graph.results[call]
    if not isinstance(module, nn.MultiheadAttention) or not _heads_may_go(walk, call, module):
        return other_attention(walk, value, call)
    path = walk.name_of(call)
    if value is results[0]:
        called = walk.holders.get(id(module.out_proj.weight))
        if called is None:
            return other_attention(walk, value, call)
        out = walk.found.layer(*called, module.out_proj.out_features)
        out.sources.append(_heads(walk, call, module, path))
        out.followers.add(None)
        return Channels(-1, out.units[None], constant_outputs(walk, out, out.sources[-1]))
    return None


def _heads_may_go(walk: Walk, call: Call, module: nn.MultiheadAttention) -> bool:
    """Tell whether nothing but the last projection sees how many heads there are."""
    results = walk.graph.results[call]
    seen = any(walk.graph.users.get(one) or one in walk.graph.outputs for one in results[1:])
    inputs = [call.argument(place, name) for place, name in enumerate(("query", "key", "value"))]
    mask = call.argument(5, "attn_mask")
    many = isinstance(mask, Value) and (len(mask.shape or ()) != 2 or walk.of(mask) is not None)
    shaped = all(isinstance(one, Value) and one.shape is not None for one in inputs)
    extra = module.bias_k is not None or module.add_zero_attn
    return not (seen or many or extra) and shaped and results[0].shape is not None


def _heads(walk: Walk, call: Call, module: nn.MultiheadAttention, path: str) -> Channels:
    """Return the channels that the last projection reads; those of a head go together."""
    names = ("query", "key", "value")
    sources = [walk.of(call.argument(place, name)) for place, name in enumerate(names)]
    read = [s if isinstance(s, Channels) and s.axis == -1 else None for s in sources]
    packed = module.in_proj_weight is not None
    if any(one is None for one in read) and (packed or any(one is not None for one in read)):
        walk.found.fix(sources, f"{path} does not read it along its channels")
        read = [None, None, None]
    bias = None if module.in_proj_bias is None else "in_proj_bias"
    layers = []
    for part, source in enumerate(read):
        weight = "in_proj_weight" if packed else f"{'qkv'[part]}_proj_weight"
        projection = Projection(module, path, weight, bias, part=part, parts=3)
        if not packed:
            projection = Projection(module, path, weight, bias, bias_part=part, bias_parts=3)
        layer = walk.found.layer(projection.name, projection, len(projection.weight))
        layer.sources.append(source)
        layers.append(layer)
        if packed and source is not None and read[0] is not None:
            walk.found.tie(read[0].units, source.units)
    if module.in_proj_bias is not None:
        units = torch.cat([layer.units for layer in layers])
        walk.found.scaled.append((module.in_proj_bias, 0, units))
    heads = [layer.units.view(module.num_heads, -1) for layer in layers]
    for own in heads:
        walk.found.tie(heads[0][:, :1].expand_as(own).flatten(), own.flatten())
    constants = constant_outputs(walk, layers[2], read[2])
    whole = torch.cat([own.T for own in heads])
    counts(walk, module, "num_heads", whole[0])
    size = heads[0].shape[1]
    return Channels(
        -1,
        whole.repeat_interleave(size, dim=1),
        constants.masked_fill(constants != 0, torch.nan),
    )


def recurrent(walk: Walk, value: Value, call: Call) -> Description:
    """Follow LSTM, GRU and plain recurrent layers, whose hidden units go with all their gates."""
    module = call.module
    assert isinstance(module, nn.RNNBase)
    results = walk.graph.results[call]
    before = call.argument(0, "input")
    beside: tuple[object, ...] = ()
    if isinstance(before, tuple) and before:  # packed: steps, how many there are, and an order
        before, beside = before[0], before[1:]
    starts = _starts(
        walk, call, [one for one in given(call) if one is not before and one not in beside]
    )
    odd = module.proj_size or not isinstance(before, Value) or starts is None
    if odd or any(one.shape is None for one in results):
        return unknown(walk, value, call)
    assert isinstance(before, Value)
    assert starts is not None
    if value is not results[0]:
        return _last_states(walk, value, call, module, starts)
    source = walk.of(before)
    if not isinstance(source, Channels) or source.axis != -1:
        walk.found.fix([source], f"{walk.name_of(call)} does not read it along its channels")
        source = None
    path, inputs = walk.name_of(call), source
    if source is not None:
        counts(walk, module, "input_size", source.units)
    directions = ("", "_reverse") if module.bidirectional else ("",)
    states: list[Channels] = []
    for number in range(module.num_layers):
        own = [_hidden(walk, module, path, f"_l{number}{d}", inputs, starts) for d in directions]
        states += own
        inputs = Channels(
            -1,
            torch.cat([one.origins for one in own], dim=1),
            torch.cat([one.constants for one in own]),
        )
    seen = [one for one in results[1:] if walk.graph.users.get(one) or one in walk.graph.outputs]
    if seen:  # where the states of all layers lie on top of each other
        for one in states[1:]:
            walk.found.tie(states[0].units, one.units)
    return inputs


def cell(walk: Walk, value: Value, call: Call) -> Description:
    """Follow one step of an LSTM, GRU or plain recurrent cell, whose units go with their gates."""
    module, results = call.module, walk.graph.results[call]
    before = call.argument(0, "input")
    if type(module) not in _CELLS or not isinstance(before, Value):
        return unknown(walk, value, call)
    assert isinstance(module, nn.RNNCellBase)
    if value is not results[0]:
        return walk.of(results[0])
    starts = _starts(walk, call, [one for one in given(call) if one is not before])
    if starts is None or any(one.shape is None for one in results):
        return unknown(walk, value, call)
    path, source = walk.name_of(call), walk.of(before)
    if not isinstance(source, Channels) or source.axis != -1:
        walk.found.fix([source], f"{path} does not read it along its channels")
        source = None
    else:
        counts(walk, module, "input_size", source.units)
    return _hidden(walk, module, path, "", source, starts)


def _starts(walk: Walk, call: Call, values: Sequence[Value]) -> list[Channels] | None:
    """Return the channels of first states; None where they have none.

    The states of all layers lie on top of each other.
    """
    found = [channels_of(walk, one, -1) or _learned(walk, call, one) for one in values]
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else None


def _learned(walk: Walk, call: Call, value: Value) -> Channels | None:
    """Return the channels of a first state that a parameter or buffer holds for all examples."""
    if value.computed or walk.of(value) is not None or not value.shape:
        return None
    units = walk.found.new_units(value.shape[-1] or 0)
    found = Channels(-1, units[None], not_constant(len(units)))
    constants = of_each_channel(walk, value, found, call, added=True)
    return None if constants is None else replace(found, constants=constants)


def _from(walk: Walk, states: Channels, starts: Sequence[Channels]) -> Channels:
    """Return hidden units that begin from first states, which go with them."""
    origins, constants = [states.origins], states.constants
    for start in starts:
        walk.found.tie(states.units, start.units)
        origins.append(start.origins)
        constants = torch.where(start.constants == 0, constants, torch.nan)
    return Channels(-1, torch.cat(origins), constants)


def _hidden(
    walk: Walk,
    module: nn.RNNBase | nn.RNNCellBase,
    path: str,
    suffix: str,
    source: Channels | None,
    starts: Sequence[Channels],
) -> Channels:
    """Return the hidden units of one layer in one direction."""
    layers: list[Layer] = []
    for kind in ("ih", "hh"):
        bias = f"bias_{kind}{suffix}" if module.bias else None
        projection = Projection(module, path, f"weight_{kind}{suffix}", bias)
        layer = walk.found.layer(projection.name, projection, len(projection.weight))
        if (parameter := projection.bias_parameter) is not None:
            walk.found.scaled.append((parameter, 0, layer.units))
        layers.append(layer)
    gates = torch.cat([layer.units.view(_gates(module), -1) for layer in layers])
    for own in gates[1:]:
        walk.found.tie(gates[0], own)
    # From a state of zeros, units that read nothing and add nothing stay at zero.
    silent = torch.stack([_silent(layer, _gates(module)) for layer in layers]).all(0)
    states = Channels(-1, gates, not_constant(gates.shape[1]).masked_fill(silent, 0.0))
    states = _from(walk, states, starts)
    layers[0].sources.append(source)
    layers[1].sources.append(states)
    counts(walk, module, "hidden_size", states.units)
    return states


def _silent(layer: Layer, gates: int) -> Tensor:
    weight, bias = layer.module.weight.detach().cpu(), layer.module.bias
    moving = weight.any(1)
    if bias is not None:
        moving = moving | bias.detach().cpu().bool()
    return ~moving.view(gates, -1).any(0)


def _last_states(
    walk: Walk, value: Value, call: Call, module: nn.RNNBase, starts: Sequence[Channels]
) -> Description:
    """Return the channels of the last states, [layers and directions, ..., units]."""
    name = f"{walk.name_of(call)}.weight_ih_l0".lstrip(".")
    layer = walk.found.layers.get(name)
    if layer is None:
        return unknown(walk, value, call)
    suffixes: Sequence[str] = [
        f"_l{number}{direction}"
        for number in range(module.num_layers)
        for direction in (("", "_reverse") if module.bidirectional else ("",))
    ]
    prefix = name.removesuffix("_ih_l0")
    layers = [walk.found.layers[f"{prefix}_{kind}{s}"] for s in suffixes for kind in ("ih", "hh")]
    gates = GATES[module.mode]
    origins = torch.cat([one.units.view(gates, -1) for one in layers])
    silent = torch.stack([_silent(one, gates) for one in layers]).all(0)
    states = Channels(-1, origins, not_constant(origins.shape[1]).masked_fill(silent, 0.0))
    return _from(walk, states, starts)

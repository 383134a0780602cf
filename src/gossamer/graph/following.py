"""Which rule is for which operation, and following the channels of a network by them."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from gossamer.graph import (
    attention_rules,
    filled,
    module_rules,
    parting_rules,
    pointwise_rules,
    repeating_rules,
    shape_rules,
    spatial_rules,
)
from gossamer.graph.axes import operation
from gossamer.graph.calls import Call, Graph, Value
from gossamer.graph.channels import Channels, Description, Findings, Unclear
from gossamer.graph.layer_rules import (
    called_layer,
    channelwise,
    is_attention,
    normalisation,
    normalises_channels,
    weighted,
)
from gossamer.graph.layers import WeightedLayer
from gossamer.graph.normalisations import is_normalisation, parameters_of
from gossamer.graph.operations import POINTWISE, POOLS
from gossamer.graph.walk import (
    Rule,
    ShapesNeededError,
    UnclearTiesError,
    Walk,
    given,
    keep_inputs,
    layers_by_weight,
    owners,
    unknown,
)

_IDENTITIES = frozenset({
    "identity", "contiguous", "clone", "detach", "float", "double", "data", "dropout", "dropout1d",
    "dropout2d", "dropout3d", "alphadropout", "featuredropout", "featurealphadropout",
})  # fmt: skip
_CASTS = frozenset({"to", "type", "typeas", "half", "bfloat16", "cpu", "cuda"})
_FACTS = frozenset({
    "device", "dtype", "layout", "dim", "ndim", "ndimension", "requiresgrad", "isfloatingpoint",
    "getdevice", "iscuda",
})  # fmt: skip
_PADDINGS = [
    f"{kind}pad{count}d"
    for kind in ("zero", "constant", "reflection", "replication", "circular")
    for count in (1, 2, 3)
]


OUTPUT = "it gives the network's output"
"""Why the units of the output stay."""


def follow(
    graph: Graph,
    network: nn.Module,
    found: Findings,
    sound: Callable[[Call], bool] = lambda _: True,
    *,
    with_constants: bool = False,
) -> None:
    """Follow the channels of a network through one graph of it, and add to what was found.

    Parameters
    ----------
    graph, network
        The network and what it computes.
    found
        What is known so far.
    sound
        Tells whether a call of a layer may be taken for what its class computes; all others keep
        the width of what they read.
    with_constants
        Whether to work out which channels are constant.

    Raises
    ------
    UnclearTiesError
        If which units a call ties together depends on shapes, and these are not known.
    """
    names = {id(module): name for name, module in network.named_modules()}
    walk = Walk(
        graph, names, layers_by_weight(network), owners(network), found, sound, with_constants
    )
    looked_into = _looked_into(walk)
    for value in graph.values:
        if value.call is None or (value.call.nested and value.call.within not in looked_into):
            continue
        try:
            rule = _inner if value.call.module in looked_into else _rule_for(walk, value.call)
            walk.descriptions[value] = rule(walk, value, value.call)
        except ShapesNeededError:
            shaped = graph.shaped
            walk.descriptions[value] = (
                unknown(walk, value, value.call) if shaped else Unclear(value.call)
            )
    pointwise_rules.fix_what_is_read_otherwise(walk)
    outputs = [walk.of(value) for value in graph.outputs]
    found.fix(outputs, OUTPUT)
    for number in graph.decided:
        width = parting_rules.width_of(walk, number, None)
        if width.counted or width.attributes:
            found.widths.append(replace(width, decides=True))


def _looked_into(walk: Walk) -> set[nn.Module]:
    """Return layers of one's own kinds whose forward does more than that of PyTorch's.

    Such as padding before a convolution: its calls are followed where it cannot be taken for one.
    """
    layers = {value.call for value in walk.graph.values if value.call is not None}
    return {
        call.module
        for call in layers
        if isinstance(call.module, WeightedLayer) and not call.nested and not walk.sound(call)
        if not type(call.module).forward.__module__.startswith("torch.")
    }


def _inner(walk: Walk, value: Value, call: Call) -> Description:
    """Return what is known of the last value that a layer of one's own kind computed."""
    last = [
        one
        for one in walk.graph.values
        if one.order < value.order and one.call is not None and one.call.within is call.module
    ][-1:]
    return walk.of(last[0]) if last and last[0].shape == value.shape else unknown(walk, value, call)


def _rule_for(walk: Walk, call: Call) -> Rule:
    if is_attention(call) and walk.sound(call):
        return module_rules.multihead
    if isinstance(call.module, nn.RNNBase) and walk.graph.shaped and walk.sound(call):
        return module_rules.recurrent
    if isinstance(call.module, nn.RNNCellBase) and walk.graph.shaped and walk.sound(call):
        return module_rules.cell
    if module_rules.looks_up(walk, call):
        return module_rules.embedding
    inputs = [walk.of(before) for before in given(call)]
    if all(before is None for before in inputs):
        if shape_rules.joins_states(walk, call):
            return shape_rules.concatenation
        return _fixed if called_layer(walk, call) is None else weighted
    if called_layer(walk, call) is not None:
        return weighted
    if not any(isinstance(before, Channels) for before in inputs):
        if any(isinstance(before, Unclear) for before in inputs):
            return _unclear
        return _SIZE_RULES.get(operation(call), shape_rules.sizes)
    if call.module is not None and (len(inputs) != 1 or not walk.sound(call)):
        return unknown
    if normalises_channels(walk, call) or isinstance(call.module, nn.PReLU):
        return channelwise
    if is_normalisation(call):
        return normalisation
    name = operation(call)
    return _SIZE_RULES.get(name) or _RULES.get(name, unknown)


def _fixed(walk: Walk, _value: Value, call: Call) -> Description:
    """Note a call that reads values of fixed width."""
    if call.module is not None:
        walk.found.called_otherwise.add(walk.name_of(call))
    walk.found.unscaled.update(id(parameter) for parameter in parameters_of(call))
    return None


def _unclear(walk: Walk, _value: Value, call: Call) -> Description:
    if parameters_of(call):  # whose units they scale and shift is not known
        raise UnclearTiesError
    keep_inputs(walk, call, "it is not known what reads it")
    return Unclear(call)


_SIZE_RULES: dict[str, Rule] = {
    "size": shape_rules.size,
    "shape": shape_rules.size,
    "getitem": shape_rules.element,
    **dict.fromkeys(_FACTS, shape_rules.fact),
}

_RULES: dict[str, Rule] = {
    **{name.replace("_", ""): pointwise_rules.pointwise for name in POINTWISE},
    **dict.fromkeys(_IDENTITIES, pointwise_rules.identity),
    **dict.fromkeys(_CASTS, pointwise_rules.cast_numbers),
    **dict.fromkeys(POOLS, spatial_rules.pool),
    **dict.fromkeys(_PADDINGS, spatial_rules.padding_layer),
    **dict.fromkeys(
        ("interpolate", "upsample", "upsamplingnearest2d", "upsamplingbilinear2d"),
        spatial_rules.upsample,
    ),
    **dict.fromkeys(("flatten", "view", "reshape", "unsqueeze", "unflatten"), shape_rules.reshape),
    **dict.fromkeys(shape_rules.CONCATENATIONS, shape_rules.concatenation),
    **dict.fromkeys(("mean", "amax", "amin"), spatial_rules.mean),
    **dict.fromkeys(
        ("sum", "prod", "std", "var", "logsumexp", "max", "min", "argmax", "argmin"),
        spatial_rules.reduction,
    ),
    **dict.fromkeys(("roll", "flip"), spatial_rules.moved_within),
    **dict.fromkeys(("cumsum", "cumprod"), spatial_rules.cumulated),
    **dict.fromkeys(("topk", "sort", "kthvalue", "median"), spatial_rules.ranked),
    "indexselect": spatial_rules.selected,
    **dict.fromkeys(("packpaddedsequence", "padpackedsequence"), spatial_rules.packed),
    "glu": parting_rules.gated_half,
    "einsum": attention_rules.einsum,
    **dict.fromkeys(("permute", "transpose"), shape_rules.permute),
    **dict.fromkeys(
        ("mT", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T"), shape_rules.moved
    ),
    **dict.fromkeys(("newempty", "newzeros", "newones", "newfull"), shape_rules.new),
    **dict.fromkeys(("softmax", "logsoftmax", "normalize"), attention_rules.softmax),
    **dict.fromkeys(("matmul", "bmm"), attention_rules.product),
    "scaleddotproductattention": attention_rules.attention,
    **dict.fromkeys(("split", "chunk", "unbind"), parting_rules.pieces),
    "expand": parting_rules.expand,
    "expandas": repeating_rules.expand_as,
    "repeatinterleave": repeating_rules.repeat_interleave,
    **dict.fromkeys(("repeat", "tile"), repeating_rules.repeat),
    "stack": repeating_rules.stack,
    **dict.fromkeys(("pixelshuffle", "pixelunshuffle", "channelshuffle"), repeating_rules.shuffle),
    **dict.fromkeys(("narrow", "select"), shape_rules.part),
    **dict.fromkeys(("viewascomplex", "viewasreal"), shape_rules.as_pairs),
    "setitem": filled.written,
    "squeeze": shape_rules.squeeze,
    "pad": spatial_rules.pad,
}

"""Which rule is for which operation, and following a network by them."""

from collections import Counter

from torch import fx, nn

from gossamer.compression.compacting import pointwise_rules, shape_rules, spatial_rules
from gossamer.compression.compacting.channels import Channels, Description, Findings
from gossamer.compression.compacting.hooks import what_runs_beside
from gossamer.compression.compacting.layer_rules import channelwise, is_weighted_call, weighted
from gossamer.compression.compacting.layers import is_channelwise
from gossamer.compression.compacting.tracing import Trace
from gossamer.compression.compacting.walk import Rule, Walk, keep_inputs, operation, unknown

_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Hardshrink,
    nn.Softshrink, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Threshold,
)  # fmt: skip
_IDENTITY_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)  # fmt: skip
_POINTWISE = frozenset({
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid",
    "logsigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh", "hardshrink", "softshrink",
    "tanhshrink", "softplus", "softsign", "threshold", "clamp", "clip", "clamp_min", "clamp_max",
    "abs", "neg", "exp", "log1p", "sqrt", "square", "sin", "cos", "erf", "pow",
    "add", "sub", "mul", "div", "truediv", "maximum", "minimum",
    "iadd", "isub", "imul", "itruediv",
})  # fmt: skip
_IN_PLACE_OPERATORS = frozenset({"iadd", "isub", "imul", "itruediv"})
_IDENTITIES = frozenset({
    "contiguous", "clone", "detach", "float", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "alpha_dropout", "feature_alpha_dropout",
})  # fmt: skip
_CONCATENATIONS = frozenset({
    "cat", "concat", "concatenate", "hstack", "column_stack", "vstack", "row_stack", "dstack",
})  # fmt: skip
_RESHAPES = frozenset({"flatten", "view", "reshape", "unsqueeze"})
_EXACT_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ZERO_PADDINGS = (
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
)  # fmt: skip
_INNER_PADDINGS = (
    nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
    nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
)  # fmt: skip
_UPSAMPLINGS = (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
_EXACT_POOL_FUNCTIONS = frozenset(
    f"{kind}_pool{dimensions}d"
    for kind in ("max", "adaptive_avg", "adaptive_max")
    for dimensions in (1, 2, 3)
)
_AVERAGE_POOL_FUNCTIONS = frozenset({"avg_pool1d", "avg_pool2d", "avg_pool3d"})


def follow(trace: Trace, network: nn.Module, found: Findings) -> None:
    """Follow the channels of a network through one trace of it, and add to what was found."""
    walk = Walk(trace, dict(network.named_modules()), _parameters_in_use(trace, network), found)
    for node in trace.graph.nodes:
        description = _rule_for(walk, node)(walk, node)
        walk.descriptions[node] = description
        if _writes_in_place(walk, node):
            # Who reads the first operand from here on reads what was written into it.
            walk.descriptions[node.all_input_nodes[0]] = description


def _parameters_in_use(trace: Trace, network: nn.Module) -> frozenset[int]:
    named = list(network.named_parameters(remove_duplicate=False))
    read = {str(node.target) for node in trace.graph.nodes if node.op == "get_attr"}
    holders = Counter(id(p) for module in network.modules() for p in module._parameters.values())
    return frozenset(id(p) for name, p in named if name in read or holders[id(p)] > 1)


def _rule_for(walk: Walk, node: fx.Node) -> Rule:
    if node.op == "output":
        return _output
    if not any(walk.of(before) is not None for before in node.all_input_nodes):
        return weighted if is_weighted_call(walk, node) else _fixed
    if node.op == "call_module":
        return _rule_for_module(walk, node)
    name = operation(node)
    inputs = [walk.of(before) for before in node.all_input_nodes]
    if name in _SIZE_RULES or not any(isinstance(before, Channels) for before in inputs):
        return _SIZE_RULES.get(name, shape_rules.sizes)
    if node not in walk.trace.shapes:
        return unknown
    return _FUNCTION_RULES.get(name, unknown)


def _rule_for_module(walk: Walk, node: fx.Node) -> Rule:
    module = walk.module(node)
    assert module is not None
    if node not in walk.trace.shapes or len(node.all_input_nodes) != 1 or len(node.args) > 1:
        return unknown
    if not isinstance(walk.of(node.all_input_nodes[0]), Channels) or what_runs_beside(module):
        return unknown
    if is_weighted_call(walk, node):
        return weighted
    if is_channelwise(module) and walk.cuttable(module):
        return channelwise
    return next((rule for kind, rule in _MODULE_RULES.items() if type(module) in kind), unknown)


def _writes_in_place(walk: Walk, node: fx.Node) -> bool:
    if not node.all_input_nodes or not isinstance(walk.of(node), Channels):
        return False
    if node.op == "call_module":
        return bool(getattr(walk.module(node), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name.endswith("_") or name in _IN_PLACE_OPERATORS
    flagged = any(value is True for value in (*node.args, node.kwargs.get("inplace")))
    return in_place or (flagged and name in _POINTWISE)


def _fixed(walk: Walk, node: fx.Node) -> Description:
    walk.note_other_call(node)
    return None


def _output(walk: Walk, node: fx.Node) -> Description:
    return keep_inputs(walk, node, "it gives the network's output")


_SIZE_RULES: dict[str, Rule] = {
    "size": shape_rules.size,
    "getattr": shape_rules.attribute,
    "dim": shape_rules.rank,
    "getitem": shape_rules.element,
}


_FUNCTION_RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, pointwise_rules.pointwise),
    **dict.fromkeys(_IDENTITIES, pointwise_rules.identity),
    **dict.fromkeys(_RESHAPES, shape_rules.reshape),
    **dict.fromkeys(_EXACT_POOL_FUNCTIONS, spatial_rules.exact_pool),
    **dict.fromkeys(_AVERAGE_POOL_FUNCTIONS, spatial_rules.average_pool),
    **dict.fromkeys(_CONCATENATIONS, shape_rules.concatenation),
    **dict.fromkeys(("mean", "amax", "amin"), spatial_rules.mean),
    **dict.fromkeys(("permute", "transpose"), shape_rules.permute),
    **dict.fromkeys(("new_empty", "new_zeros", "new_ones", "new_full"), shape_rules.new),
    "squeeze": shape_rules.squeeze,
    "interpolate": spatial_rules.upsample,
    "pad": spatial_rules.pad,
}


_MODULE_RULES: dict[tuple[type[nn.Module], ...], Rule] = {
    _POINTWISE_MODULES: pointwise_rules.activation,
    _IDENTITY_MODULES: pointwise_rules.identity,
    _EXACT_POOLS: spatial_rules.exact_pool,
    _AVERAGE_POOLS: spatial_rules.average_pool,
    _ZERO_PADDINGS: spatial_rules.zero_padding,
    _INNER_PADDINGS: spatial_rules.inner_padding,
    _UPSAMPLINGS: spatial_rules.upsample,
    (nn.Flatten,): shape_rules.reshape,
}

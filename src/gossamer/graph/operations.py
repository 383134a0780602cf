"""The vocabulary: which layers and functions multiply, normalise or go element by element."""

import re
from collections.abc import Iterator

import torch
from torch import nn

from gossamer.graph.calls import Call, Value, found_in
from gossamer.networks.attention import NarrowMultiheadAttention
from gossamer.networks.normalisation import normalised_axis

NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
WEIGHTED = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
"""Layers of PyTorch that multiply with their parameters called "...weight..."."""

_CONVOLUTIONS = frozenset({
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "convolution",
})  # fmt: skip
PRODUCTS = _CONVOLUTIONS | {
    "linear", "bilinear", "embedding", "embedding_bag", "matmul", "mm", "bmm", "mv", "dot", "inner",
    "vdot", "addmm", "addmv", "addbmm", "baddbmm", "einsum", "tensordot", "multi_dot",
    "chain_matmul", "scaled_dot_product_attention", "multi_head_attention_forward", "lstm", "gru",
    "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
}  # fmt: skip
"""Functions that multiply values with each other and sum up."""

_LOOKUPS = frozenset({"getitem", "index_select", "gather", "take_along_dim", "take"})
_QUERY_KEY_VALUE = {0: "query", 1: "key", 2: "value"}
_RECURRENT = {
    f"{kind}{cell}" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for cell in ("", "_cell")
}
_LAYERS = {
    **{name: {0: "input", 2: "bias"} for name in _CONVOLUTIONS | {"linear"}},
    **{name: {0: "input", 1: "hx"} for name in _RECURRENT},
    "bilinear": {0: "input1", 1: "input2", 3: "bias"},
    "multi_head_attention_forward": _QUERY_KEY_VALUE,
}
"""Products that have weights by definition, and their arguments that are none."""

_NO_WEIGHTS = {
    **_LAYERS,
    **{name: {0: "input"} for name in ("addmm", "addmv", "addbmm", "baddbmm")},
    "scaled_dot_product_attention": {**_QUERY_KEY_VALUE, 3: "attn_mask"},
}
"""Of products, the arguments that are data or only added, by position and name."""

POINTWISE = frozenset({
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "sigmoid", "logsigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh", "hardshrink",
    "softshrink", "tanhshrink", "threshold", "softplus", "softsign", "identity", "add", "sub",
    "rsub", "mul", "multiply", "div", "divide", "truediv", "pow", "neg", "abs", "exp", "expm1",
    "log", "log1p", "sqrt", "rsqrt", "square", "sin", "cos", "erf", "reciprocal", "sign", "clamp",
    "clip", "clamp_min", "clamp_max", "maximum", "minimum", "where", "masked_fill", "nan_to_num",
    "addcmul", "lerp", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
    "feature_dropout", "feature_alpha_dropout", "contiguous", "clone", "detach", "to", "type",
    "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "data", "requires_grad",
})  # fmt: skip
"""Functions whose result has each element from the elements at its place."""

SHIFTING = frozenset({
    "sigmoid", "logsigmoid", "hardsigmoid", "threshold", "softplus", "add", "sub", "rsub", "pow",
    "exp", "log", "rsqrt", "cos", "reciprocal", "clamp", "clip", "clamp_min", "clamp_max",
    "maximum", "minimum", "where", "masked_fill", "addcmul", "lerp", "alpha_dropout",
    "feature_alpha_dropout", "hardtanh",
})  # fmt: skip
"""Those of them that may give something else than zero for zero."""

POOLS = {
    f"{kind}pool{dimensions}d": dimensions
    for kind in ("max", "avg", "lp", "adaptiveavg", "adaptivemax", "fractionalmax")
    for dimensions in (1, 2, 3)
}
"""Pooling functions, without underscores, and the number of last dimensions they act on."""

FILLED = frozenset({
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
    "randint_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
    "size", "dim", "numel", "len", "shape", "device", "dtype", "ndim", "ndimension",
    "is_floating_point", "get_device", "stride",
})  # fmt: skip
"""What takes type, place or size from a tensor, and none of its numbers."""

LIKE_ANOTHER = frozenset({"type_as", "view_as", "reshape_as", "expand_as", "to"})
"""What takes numbers from its first tensor only."""

_DUNDER = re.compile(r"__(?:i|r)?(\w+?)__")
_IN_PLACE = re.compile(r"i(add|sub|mul|truediv|pow|matmul)")


def plain_name(name: str) -> str:
    """Return the name of a function, whether called as function, method, operator or in place.

    Examples
    --------
    >>> [plain_name(name) for name in ("relu_", "__rsub__", "__getitem__", "imul", "layer_norm")]
    ['relu', 'rsub', 'getitem', 'mul', 'layer_norm']
    """
    if name == "__rsub__":
        return "rsub"
    if dunder := _DUNDER.fullmatch(name):
        return dunder[1]
    if in_place := _IN_PLACE.fullmatch(name):
        return in_place[1]
    return name.rstrip("_") or name


def module_name(module: nn.Module) -> str:
    """Return the function that a module of PyTorch stands for, without underscores.

    Examples
    --------
    >>> module_name(nn.LeakyReLU()), module_name(nn.MaxPool2d(2))
    ('leakyrelu', 'maxpool2d')
    """
    return type(module).__name__.lower()


def is_whole(module: nn.Module) -> bool:
    """Tell whether a module is kept as one call.

    These are the normalisations of PyTorch and what does the same along another dimension, its
    layers, what derives from a layer and does not hold others, and what is compiled to TorchScript.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if isinstance(module, NarrowMultiheadAttention):
        return True
    own = not str(type(module).forward.__module__).startswith("torch.")
    if isinstance(module, NORMALISATIONS):
        return not own or normalised_axis(module) is not None
    holds = own and any(isinstance(part, WEIGHTED) for part in module.children())
    return isinstance(module, WEIGHTED) and not holds


def weight_operands(call: Call) -> Iterator[Value]:
    """Yield the values that are the weights of a product, if they do not depend on the input.

    Functions that tell data from weights have their data left out, all of them what they only add.
    Those that tell have weights whatever their data is; others only with what is computed.
    """
    if call.name not in PRODUCTS:
        return
    if not (_is_layer(call) or any(value.computed for value in call.inputs)):
        return
    left_out = {0: "input", 1: "mat1"} if _is_affine(call) else _NO_WEIGHTS.get(call.name, {})
    multiplied = (
        [argument for i, argument in enumerate(call.args) if i not in left_out],
        [a for key, a in call.kwargs.items() if key not in (*left_out.values(), "bias")],
    )
    yield from found_in(multiplied, lambda part: isinstance(part, Value))


def has_data(call: Call) -> bool:
    """Tell whether a call is of a function that tells data from weights."""
    return _is_layer(call) or call.name == "scaled_dot_product_attention"


def _is_layer(call: Call) -> bool:
    return call.name in _LAYERS or _is_affine(call)


def _is_affine(call: Call) -> bool:
    """Tell whether a bias is added to a product of matrices of which none depends on the input.

    With values that do, either matrix may be the weight, and the other tells which.
    """
    bias = call.argument(0, "input")
    added = isinstance(bias, Value) and bias.shape is not None and len(bias.shape) == 1
    return call.name == "addmm" and added and not any(value.computed for value in call.inputs)


def looks_up(call: Call) -> bool:
    """Tell whether a call takes entries of a table that does not depend on the input, by values
    that do, as an embedding does."""  # noqa: D205, D209
    if call.name not in _LOOKUPS or not call.args or not isinstance(call.args[0], Value):
        return False
    return not call.args[0].computed and any(value.computed for value in call.inputs)

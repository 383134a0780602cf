"""What follows what in a network: the layer that gives the output, the norm behind a layer.

The order comes from `torch.fx` where the network can be traced symbolically. Where it cannot
(its forward depends on data), the order in which modules were registered stands in for it.
"""

import operator
from collections.abc import Iterator

from torch import fx, nn

_NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_WEIGHTED = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.Embedding,
    nn.RNNBase,
    nn.MultiheadAttention,
)
_PER_UNIT_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus,
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_PER_UNIT_FUNCTIONS = frozenset({
    "relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "sigmoid", "tanh", "hardswish", "softplus", "dropout", "dropout2d", "max_pool1d",
    "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "contiguous", "clone",
})  # fmt: skip


def traced_graph(root: nn.Module) -> fx.Graph | None:
    """Return the symbolic graph of a network, or None where its forward cannot be traced."""
    try:
        return fx.Tracer().trace(root)
    except Exception:  # noqa: BLE001 - a user's forward may raise anything under tracing
        return None


def output_modules(root: nn.Module) -> list[nn.Module]:
    """Return the layers with weights whose result, up to functions without weights, is the output.

    Without a graph this is the layer that was registered last.
    """
    modules = dict(root.named_modules(remove_duplicate=False))
    weighted: list[nn.Module] = [
        module for module in modules.values() if isinstance(module, _WEIGHTED)
    ]
    graph = traced_graph(root)
    if graph is None:
        return weighted[-1:]
    found = [modules[name] for name in _last_layers(graph, modules)]
    return found or weighted[-1:]


def _last_layers(graph: fx.Graph, modules: dict[str, nn.Module]) -> Iterator[str]:
    """Walk from the output back to the first layers with weights on every path."""
    pending = [node for node in graph.nodes if node.op == "output"]
    seen: set[fx.Node] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "call_module" and isinstance(modules.get(str(node.target)), _WEIGHTED):
            yield str(node.target)
        else:
            pending.extend(node.all_input_nodes)


def normalisers_of(root: nn.Module, module_name: str, graph: fx.Graph | None) -> list[nn.Module]:
    """Return the normalisations that act on the units of one layer.

    They follow it directly, or behind functions that keep units apart (activations, dropout,
    pooling).
    """
    modules = dict(root.named_modules(remove_duplicate=False))
    if graph is None:
        return _next_sibling_norm(modules, module_name)
    found: list[nn.Module] = []
    pending = [
        user
        for node in graph.nodes
        if node.op == "call_module" and modules.get(str(node.target)) is modules[module_name]
        for user in node.users
    ]
    while pending:
        node = pending.pop()
        target = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(target, _NORMALISATIONS):
            found.append(target)
        elif isinstance(target, _PER_UNIT_MODULES) or _is_per_unit_function(node):
            pending.extend(node.users)
    return found


def _is_per_unit_function(node: fx.Node) -> bool:
    if node.op == "call_function":
        if node.target is operator.getitem:
            return False
        return getattr(node.target, "__name__", "") in _PER_UNIT_FUNCTIONS
    return node.op == "call_method" and node.target in _PER_UNIT_FUNCTIONS


def _next_sibling_norm(modules: dict[str, nn.Module], module_name: str) -> list[nn.Module]:
    """Return the normalisation registered next to a layer, if only activations lie between."""
    parent_name, _, own = module_name.rpartition(".")
    siblings = list(modules[parent_name].named_children())
    position = [name for name, _ in siblings].index(own) if own else len(siblings)
    for _, module in siblings[position + 1 :]:
        if isinstance(module, _NORMALISATIONS):
            return [module]
        if not isinstance(module, _PER_UNIT_MODULES):
            break
    return []

"""What follows what in a network: the layer that gives the output, the norm behind a layer.

The order comes from `torch.fx` where the network, or a part of it, can be traced symbolically.
Where it cannot (its forward depends on data), the order in which modules were registered stands
in for it.
"""

import copy
import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import fx, nn

from gossamer.masks.names import PARALLEL, modules_by_name, parameters_by_name, uncompiled

NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
_WEIGHTED = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.MultiheadAttention,
)
_PRODUCTS = frozenset({
    "linear", "bilinear", "embedding", "embedding_bag", "matmul", "mm", "bmm", "addmm", "baddbmm",
    "einsum", "tensordot", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d",
})  # fmt: skip
_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus,
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
)  # fmt: skip
_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_POINTWISE_FUNCTIONS = frozenset({
    "relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "sigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh", "softplus", "dropout", "dropout1d",
    "dropout2d", "dropout3d", "contiguous", "clone",
})  # fmt: skip
_POOL_FUNCTIONS = frozenset(
    f"{kind}_pool{dimensions}d"
    for kind in ("max", "avg", "adaptive_avg", "adaptive_max")
    for dimensions in (1, 2, 3)
)


class _Tracer(fx.Tracer):
    """Keeps subclasses of torch's layers whole, and looks into data-parallel wrappers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, PARALLEL):
            return False
        known = isinstance(m, (*_WEIGHTED, *NORMALISATIONS))
        return known or super().is_leaf_module(m, module_qualified_name)


def traced_graph(root: nn.Module) -> fx.Graph | None:
    """Return the symbolic graph of a network, or None where its forward cannot be traced.

    Tracing runs the network's own forward. It does so on a copy that shares the parameters, so
    that the network itself, and the global random state, stay as they are.
    """
    try:
        with _random_state_kept():
            return _Tracer().trace(_copy_to_trace(root))
    except Exception:  # noqa: BLE001 - a user's forward may raise anything under tracing
        return None


def _copy_to_trace(root: nn.Module) -> nn.Module:
    """Copy modules and buffers, without hooks and the wrappers of `torch.compile`."""
    shared = [
        *root.parameters(),
        # Tensors left by an earlier forward may be part of an autograd graph: not to be copied.
        *(v for m in root.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)),
    ]
    twin = copy.deepcopy(root, {id(value): value for value in shared})
    for module in list(twin.modules()):
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = uncompiled(child)
    return twin


@contextmanager
def _random_state_kept() -> Iterator[None]:
    # Asking for the random state of a device that nobody used yet would start it.
    used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = range(torch.cuda.device_count()) if used else ()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user may use it
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def output_parameters(root: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the layers whose result, up to functions without weights, is out.

    Without a graph this is the layer that was registered last.
    """
    modules = modules_by_name(root)
    graph = traced_graph(root)
    if graph is not None:
        found = list(_last_parameters(graph, modules, parameters_by_name(root)))
        if found:
            return found
    return _last_registered(root)


def _last_parameters(
    graph: fx.Graph, modules: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter]
) -> Iterator[nn.Parameter]:
    """Walk from the output back to the first layers with weights on every path."""
    pending = [node for node in graph.nodes if node.op == "output"]
    seen: set[fx.Node] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        found: list[nn.Parameter] = []
        if node.op == "call_module":
            found = _last_registered(modules[str(node.target)])
        elif _function_name(node) in _PRODUCTS:
            found = [p for n in node.all_input_nodes for p in _weights_behind(n, parameters)]
        if found:
            yield from found
        else:
            pending.extend(node.all_input_nodes)


def _last_registered(root: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the module with weights that was registered last."""
    weighted = [module for module in root.modules() if _has_weight(module)]
    last = root if isinstance(root, _WEIGHTED) else weighted[-1] if weighted else None
    return [] if last is None else list(last.parameters())


def _has_weight(module: nn.Module) -> bool:
    if isinstance(module, NORMALISATIONS):
        return False
    return isinstance(module, _WEIGHTED) or any(
        p.dim() > 1 for p in module.parameters(recurse=False)
    )


def _weights_behind(node: fx.Node, parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    """Return the weights that a node is computed from, if it is from nothing else."""
    if node.op == "get_attr":
        parameter = parameters.get(str(node.target))
        return [parameter] if parameter is not None and parameter.dim() > 1 else []
    if node.op not in ("call_function", "call_method"):
        return []
    behind = [_weights_behind(before, parameters) for before in node.all_input_nodes]
    return [parameter for found in behind for parameter in found] if all(behind) else []


def normalisations_behind(
    root: nn.Module, layer_names: Collection[str]
) -> dict[str, list[nn.Module]]:
    """Return the normalisations that act on the units of each layer.

    They follow it directly, or behind functions that keep units apart (activations, dropout,
    pooling). One that also acts on something else than units of these layers is left out.
    """
    modules = modules_by_name(root)
    graphs = traced_parts(root)
    found: dict[str, list[nn.Module]] = {name: [] for name in layer_names}
    reached: set[fx.Node] = set()
    calls = [
        (node, modules[prefix + str(node.target)])
        for prefix, graph in graphs.items()
        for node in graph.nodes
        if node.op == "call_module"
    ]
    called = dict(calls)
    for name in layer_names:
        if not any(name.startswith(prefix) for prefix in graphs):
            found[name] = _next_sibling_norm(modules, name)
            continue
        for node, module in calls:
            if module is modules[name]:
                norms = list(_walk_to_norms(node, called))
                reached.update(norms)
                found[name] += [called[norm] for norm in norms]
    elsewhere = {id(module) for node, module in calls if node not in reached}
    return {
        name: [norm for norm in norms if id(norm) not in elsewhere] for name, norms in found.items()
    }


def traced_parts(root: nn.Module, prefix: str = "") -> dict[str, fx.Graph]:
    """Return the graph of the whole network, or of its largest parts that can be traced.

    The keys are the prefixes of the names in each part.
    """
    graph = traced_graph(root)
    if graph is not None:
        return {prefix: graph}
    parts: dict[str, fx.Graph] = {}
    for name, child in root.named_children():
        if any(child.children()):
            parts |= traced_parts(uncompiled(child), f"{prefix}{name}.")
    return parts


def _walk_to_norms(layer: fx.Node, called: Mapping[fx.Node, nn.Module]) -> Iterator[fx.Node]:
    """Walk from a layer to the first normalisations on every path that keeps its units apart."""
    # A pooling behind a linear layer runs along its units, not beside them.
    pools = not isinstance(called[layer], nn.Linear)
    modules = (*_POINTWISE_MODULES, *(_POOLS if pools else ()))
    functions = _POINTWISE_FUNCTIONS | (_POOL_FUNCTIONS if pools else frozenset())
    pending = list(layer.users)
    while pending:
        node = pending.pop()
        module = called.get(node)
        if isinstance(module, NORMALISATIONS):
            yield node
        elif isinstance(module, modules) or _function_name(node) in functions:
            pending.extend(node.users)


def _function_name(node: fx.Node) -> str:
    if node.op == "call_function":
        return str(getattr(node.target, "__name__", ""))
    return str(node.target) if node.op == "call_method" else ""


def _next_sibling_norm(modules: Mapping[str, nn.Module], name: str) -> list[nn.Module]:
    """Return the normalisation registered next to a layer, if only activations lie between."""
    parent_name, _, own = name.rpartition(".")
    parent = modules[parent_name]
    if not own or (type(parent).__module__ or "").startswith("torch.nn.modules.transformer"):
        return []  # a transformer's normalisations act on the sum with what skips the layer
    siblings = [name for name, module in parent._modules.items() if module is not None]
    for sibling in siblings[siblings.index(own) + 1 :]:
        module = modules[f"{parent_name}.{sibling}" if parent_name else sibling]
        if isinstance(module, NORMALISATIONS):
            return [module]
        if not isinstance(module, (*_POINTWISE_MODULES, *_POOLS)):
            break
    return []

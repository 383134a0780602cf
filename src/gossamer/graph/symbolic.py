"""The graph of a network by symbolic tracing: without an input, where its forward allows it."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from gossamer.graph.axes import lengths
from gossamer.graph.calls import Call, Graph, Shape, Value
from gossamer.graph.examples import told
from gossamer.graph.keeping import unchanged
from gossamer.graph.operations import (
    FILLED,
    LIKE_ANOTHER,
    POINTWISE,
    WEIGHTED,
    is_whole,
    plain_name,
)
from gossamer.graph.ranks import rank_of

_COMPILED = "_orig_mod"
_PROPERTIES = frozenset({"T", "mT", "H", "mH", "real", "data"})


class UntraceableError(Exception):
    """A forward cannot be followed without an input."""


def traced(network: nn.Module) -> Graph:
    """Follow a network's forward with symbols in place of its input; it stays as it is.

    Raises
    ------
    UntraceableError
        If the forward depends on its input's values or shape, with PyTorch's reason.
    """
    if "forward" in vars(network):  # tracing would follow that of the class
        raise UntraceableError("its forward was replaced on the object")
    with unchanged(network):
        for module in network.modules():
            _unwrap(module)
        try:
            graph = _Tracer(network).trace(network)
        except Exception as error:
            if is_whole(network):
                return _of_one_call(network)
            raise UntraceableError(told(error)) from error
        return converted(graph, network)


def _of_one_call(layer: nn.Module) -> Graph:
    given = Value(0, computed=True)
    call = Call("", layer, (given,), {}, (given,), run=layer)
    result = Value(1, None, call, computed=True)
    return Graph((given, result), (result,), shaped=False)


def _unwrap(module: nn.Module) -> None:
    """Take off what symbols must not meet: hooks, and the wrappers of `torch.compile`."""
    module._forward_hooks.clear()
    module._forward_pre_hooks.clear()
    for name, child in list(module._modules.items()):
        inner = child
        while inner is not None and _COMPILED in inner._modules:
            inner = inner._modules[_COMPILED]
        module._modules[name] = inner


class _Tracer(fx.Tracer):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._names = {id(value): name for name, value in network.named_parameters()}

    def getattr(
        self,
        attr: str,  # noqa: ARG002 - fx gives it
        attr_val: Any,
        parameter_proxy_cache: dict[str, fx.Proxy],
    ) -> Any:
        """Return the symbol of a parameter, without a search through all of them each time."""
        name = self._names.get(id(attr_val))
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.DataParallel | nn.parallel.DistributedDataParallel):
            return False
        composite = any(isinstance(part, WEIGHTED) for part in m.modules())
        plain = not composite and super().is_leaf_module(m, module_qualified_name)
        return is_whole(m) or plain


def converted(
    graph: fx.Graph, network: nn.Module, shapes: Mapping[fx.Node, Shape] | None = None
) -> Graph:
    """Return what a network computes as values and calls.

    Parameters
    ----------
    graph
        What tracing found.
    network
        What was traced.
    shapes
        Of every value that is a tensor; None has them follow from layers, as far as they do.
    """
    values: dict[fx.Node, Value] = {}
    parameters = dict(network.named_parameters(remove_duplicate=False))
    made: list[Value] = []
    outputs: list[Value] = []
    for order, node in enumerate(graph.nodes):
        if node.op == "output":
            outputs = [values[before] for before in node.all_input_nodes]
            continue
        if node.op in ("placeholder", "get_attr"):
            call, computed = None, node.op == "placeholder"
            parameter = parameters.get(str(node.target))
            own = None if parameter is None or is_lazy(parameter) else tuple(parameter.shape)
            shape: Shape | None = own
        else:
            call, parameter = _call(node, network, values), None
            computed = any(value.computed for value in call.inputs)
            shape = _shape(node, call, values) if shapes is None else None
        shape = shape if shapes is None else shapes.get(node)
        values[node] = Value(order, shape, call, parameter, computed)
        made.append(values[node])
        if node.all_input_nodes and _writes_in_place(node, call):
            # Who reads the first operand from here on reads what was written into it.
            values[node.all_input_nodes[0]] = values[node]
    return Graph(tuple(made), tuple(outputs), shaped=shapes is not None)


def _writes_in_place(node: fx.Node, call: Call | None) -> bool:
    if call is not None and call.module is not None:
        return bool(getattr(call.module, "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    flagged = any(value is True for value in (*node.args, node.kwargs.get("inplace")))
    in_place = name.endswith("_") and not name.endswith("__")
    operator = name in ("iadd", "isub", "imul", "itruediv")
    return in_place or operator or (flagged and plain_name(name) in POINTWISE)


def _call(node: fx.Node, network: nn.Module, values: Mapping[fx.Node, Value]) -> Call:
    args, kwargs = _mapped(node, values.__getitem__)
    inputs = tuple(dict.fromkeys(values[before] for before in node.all_input_nodes))
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if module is not None:
        return Call("", module, args, kwargs, inputs, run=module)
    name = str(node.target)
    run: Callable[..., Any] = partial(_called_as_method, name)
    if callable(node.target):
        name, run = getattr(node.target, "__name__", ""), node.target
    if name == "getattr":
        name = str(node.args[1])
        inputs = inputs if name in _PROPERTIES else ()
        args = args[:1]
    name = plain_name(name)
    if name in FILLED:
        inputs = ()
    if name in LIKE_ANOTHER:
        inputs = inputs[:1]
    return Call(name, None, args, kwargs, inputs, run=run)


def _called_as_method(name: str, owner: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(owner, name)(*args, **kwargs)


def _shape(node: fx.Node, call: Call, values: Mapping[fx.Node, Value]) -> Shape | None:
    """Return as many unknown lengths as a result has dimensions, where that follows.

    What is computed from parameters alone is computed without numbers, so that its shape is known.
    """
    fixed = all(not value.computed and lengths(value.shape) is not None for value in call.inputs)
    if call.module is None and call.inputs and fixed:
        with contextlib.suppress(Exception):
            return tuple(_run_without_numbers(node, values).shape)
    rank = rank_of(call)
    return None if rank is None else (None,) * rank


def _mapped(node: fx.Node, put: Callable[[fx.Node], Any]) -> Any:
    """Return the arguments of a node, something else put in place of other nodes."""
    return fx.node.map_arg((node.args, node.kwargs), put)


def _run_without_numbers(node: fx.Node, values: Mapping[fx.Node, Value]) -> Any:
    args, kwargs = _mapped(
        node, lambda before: torch.empty(lengths(values[before].shape) or (), device="meta")
    )
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)

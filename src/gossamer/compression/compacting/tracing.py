"""The graph of a network for its compaction: which module or function follows which, and shapes.

Layers of `torch.nn` stay whole. So does a module that cannot be followed, because what it computes
depends on data: the rest of the network is followed around it.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gossamer.compression.compacting.hooks import (
    COMPUTING_HOOKS,
    replaced_forward,
    what_runs_beside,
)
from gossamer.compression.outputs import leaves
from gossamer.graph.arguments import Arguments
from gossamer.graph.calls import Graph, Shape
from gossamer.graph.symbolic import UntraceableError, converted
from gossamer.measures.functional.running import told

LAYERS = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.MultiheadAttention,
    torch.jit.ScriptModule,
)
"""What stays whole also where a user derives from it."""


@dataclass(frozen=True, eq=False)
class Trace:
    """The calls of a network in order."""

    graph: Graph
    calls: str
    """What tells two traces apart."""
    unfollowed: Mapping[str, str]
    """Modules that were kept whole because tracing them failed, and why."""


def trace(network: nn.Module, example: Arguments) -> Trace:
    """Follow a network in its present mode.

    Parameters
    ----------
    network
        Its forward is called, with symbols and with the example; attributes that the forward sets
        are lost to the network, so give a copy.
    example
        Its inputs; symbols stand for its tensors, and all else is as it is there.

    Raises
    ------
    UntraceableError
        If the outermost forward cannot be followed, or fails on the example when it is run as it
        was followed.
    """
    if reason := replaced_forward(network):
        raise UntraceableError(reason)
    tracer = _Tracer(example)
    training = [module for module in network.modules() if module.training]
    try:
        graph = tracer.trace(network)
        # The normalisation of a batch of one fails in training mode; shapes are the same in both.
        runner = _ShapeRecorder(network.eval(), graph)
        with torch.random.fork_rng(devices=[]):
            runner.run(*example.clone())
    except Exception as error:
        raise UntraceableError(told(error)) from error
    finally:
        for module in training:
            module.training = True
    return Trace(converted(graph, network, runner.shapes), str(graph), tracer.unfollowed)


class _Tracer(fx.Tracer):
    def __init__(self, example: Arguments) -> None:
        super().__init__()
        self.unfollowed: dict[str, str] = {}
        self._example = example

    def create_args_for_root(
        self,
        root_fn: Any,
        is_module: bool,  # noqa: ARG002 - fx gives it, as it does the rest
        concrete_args: Any = None,  # noqa: ARG002
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Put a symbol in the place of each tensor of the example, wherever it stands."""
        given = [self.create_proxy("placeholder", n, (), {}) for n in self._example.names]

        def call(root: nn.Module, *tensors: Any) -> Any:
            args, kwargs = self._example.arranged(tensors)
            return root_fn(root, *args, **kwargs)

        return call, [self.root, *given]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if reason := what_runs_beside(m):
            if not any(isinstance(h, COMPUTING_HOOKS) for h in m._forward_pre_hooks.values()):
                self.unfollowed[module_qualified_name] = reason
            return True
        return isinstance(m, LAYERS) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        nodes, depth = len(self.graph.nodes), len(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # noqa: BLE001 - a user's forward may raise anything
            for node in list(self.graph.nodes)[: nodes - 1 : -1]:
                self.graph.erase_node(node)
            while len(self.module_stack) > depth:
                self.module_stack.popitem()
            name = self.path_of_module(m)
            self.unfollowed[name] = told(error)
            return self.create_proxy("call_module", name, args, kwargs)

    def create_arg(self, a: Any) -> Any:
        """Take an object of the user's own, such as an output, for what it holds."""
        if not is_dataclass(a) or all(field.init for field in fields(a)):
            with contextlib.suppress(NotImplementedError):
                return super().create_arg(a)
        held = [leaf.value for leaf in leaves(a)]
        if any(value is a for value in held):
            raise NotImplementedError(f"argument of type {type(a).__name__}")
        return super().create_arg(held)


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        super().__init__(network, graph=graph)
        self.extra_traceback = False
        self.shapes: dict[fx.Node, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        return value

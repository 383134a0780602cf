"""What the parts of a graph read when the model is given an example."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gossamer.compression.lowering.parts import Division, Part
from gossamer.compression.lowering.tracing import Trace
from gossamer.graph.arguments import Arguments


def inputs_of_parts(
    trace: Trace, division: Division, example: Arguments
) -> dict[Part, tuple[NDArray[Any], ...]]:
    """Return what each part reads when the model is given the example."""
    recorded = _Recorder(trace.graph, {node for part in division.parts for node in part.entries})
    with torch.no_grad():
        recorded.run(*pytree.tree_leaves(example.positional_and_named), enable_io_processing=False)
    return {
        part: tuple(
            np.ascontiguousarray(recorded.values[node].numpy()).reshape(-1, *shape)
            for node, shape in zip(part.entries, part.network.inputs, strict=True)
        )
        for part in division.parts
    }


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, graph: fx.GraphModule, nodes: set[fx.Node]) -> None:
        super().__init__(graph)
        self.nodes = nodes
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.nodes:
            self.values[n] = value
        return value

"""A call of a function of PyTorch, as the rules that lower it see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from gossamer.compression.lowering.operations import Doubles, Operation
from gossamer.kernels.network import Pair, Shape

Lowered = tuple[Operation, ...]
"""What a node becomes, in order; the last operation gives its value. Empty if it is not lowered."""


@dataclass(frozen=True, eq=False)
class Call:
    """A node of the graph with its arguments by name.

    `shapes` holds the shape of one example of every value that a network may hold, `constants` what
    depends on parameters alone.
    """

    node: fx.Node
    arguments: Mapping[str, Any]
    shapes: Mapping[fx.Node, Shape]
    constants: Mapping[fx.Node, Tensor]

    def shape(self, argument: str) -> Shape | None:
        """Return the shape of a value among the arguments; None if it is none."""
        found = self.arguments.get(argument)
        return self.shapes.get(found) if isinstance(found, fx.Node) else None

    def name(self, argument: str) -> str:
        """Return the name of a value among the arguments."""
        return str(self.arguments[argument].name)

    def constant(self, argument: str) -> Doubles | None:
        """Return an argument that is a number, or depends on parameters alone."""
        found = self.arguments.get(argument)
        if isinstance(found, fx.Node):
            tensor = self.constants.get(found)
            return None if tensor is None else _doubles(tensor)
        return np.asarray(found, np.float64) if isinstance(found, (int, float)) else None

    def step(self, number: int) -> str:
        """Return the name of what an operation before the last gives."""
        return step_name(self.node, number)


Rule = Callable[[Call], Lowered]
"""Returns what a call becomes."""


def step_name(node: fx.Node, number: int) -> str:
    """Return the name of a value inside a node that becomes several operations."""
    return f"{node.name}.{number}"


def _doubles(tensor: Tensor) -> Doubles:
    return tensor.detach().cpu().to(torch.float64).numpy()


def pair(numbers_: Sequence[int], fill: int = 1) -> Pair:
    """Return sizes along the height and the width; a sequence has the height 1."""
    return (fill, int(numbers_[0])) if len(numbers_) == 1 else (int(numbers_[0]), int(numbers_[1]))

"""One walk through the calls of a network, and what every rule of it may need.

A rule says how one kind of operation carries channels from its inputs to its output. What no rule
knows keeps the width of all that it reads, and gives a value of fixed width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, fx, nn

from gossamer.compression.compacting.channels import Description, Findings, Sizes, WholeShape
from gossamer.compression.compacting.tracing import Shape, Trace


@dataclass(eq=False)
class Walk:
    """One trace with what was found on the way."""

    trace: Trace
    modules: Mapping[str, nn.Module]
    parameters_in_use: frozenset[int]
    """Those that a forward reads by itself, and those that several modules share."""
    found: Findings
    descriptions: dict[fx.Node, Description] = field(default_factory=dict)

    def of(self, node: fx.Node) -> Description:
        """Return what is known of a value."""
        return self.descriptions[node]

    def shape(self, node: fx.Node) -> Shape:
        """Return the shape of a value."""
        return self.trace.shapes[node]

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def note_other_call(self, node: fx.Node) -> None:
        """Note that a module is called in a way that does not allow to cut it."""
        if node.op == "call_module":
            self.found.called_otherwise.add(str(node.target))

    def cuttable(self, module: nn.Module | None) -> bool:
        """Tell whether a module's parameters are its own, and of numbers that can be cut."""
        return module is not None and all(
            id(p) not in self.parameters_in_use and p.is_floating_point()
            for p in module.parameters()
        )


Rule: TypeAlias = Callable[[Walk, fx.Node], Description]


def operation(node: fx.Node) -> str:
    """Return the name of a called function or method, without the sign for in place."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    return str(getattr(node.target, "__name__", "")).strip("_")


def unknown(walk: Walk, node: fx.Node) -> Description:
    """Keep the width of all that a call reads, and take its result for one of fixed width."""
    reason = f"what it gives is read by {_told(walk, node)}, whose inputs keep their width"
    walk.note_other_call(node)
    return keep_inputs(walk, node, reason)


def keep_inputs(walk: Walk, node: fx.Node, reason: str) -> Description:
    """Keep the width of all that a call reads, for a reason."""
    walk.found.fix([walk.of(before) for before in node.all_input_nodes], reason)
    return None


def _told(walk: Walk, node: fx.Node) -> str:
    module = walk.module(node)
    return operation(node) if module is None else f"{node.target} ({type(module).__name__})"


def counts(description: Description) -> bool:
    """Tell whether numbers depend on the width of a value."""
    return isinstance(description, WholeShape) or (
        isinstance(description, Sizes) and bool(description.units)
    )


def is_plain_size(description: Description) -> bool:
    """Tell whether numbers are sizes that do not depend on the width of a value."""
    return isinstance(description, Sizes) and not description.units


def finite(constants: Tensor) -> Tensor:
    """Return constants with NaN for those that are not finite, as these cannot be folded."""
    return torch.where(constants.isfinite(), constants, torch.nan)

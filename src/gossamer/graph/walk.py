"""One walk through the calls of a network, and what every rule of it may need.

A rule says how one kind of operation carries channels from its inputs to its output. What no rule
knows keeps the width of all that it reads, and gives a value of fixed width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

from gossamer.graph.axes import lengths, operation
from gossamer.graph.calls import Call, Graph, Shape, Value, found_in
from gossamer.graph.channels import Description, Findings, Sizes, WholeShape
from gossamer.graph.layers import WeightedLayer


class ShapesNeededError(Exception):
    """What a call does depends on shapes that are not known without an example."""


class UnclearTiesError(Exception):
    """Which units a call ties together depends on shapes that are not known."""

    def __str__(self) -> str:
        return "which units it ties together depends on shapes that only an input tells"


@dataclass(eq=False)
class Walk:
    """One graph with what was found on the way."""

    graph: Graph
    names: Mapping[int, str]
    """Names of the modules, by id."""
    holders: Mapping[int, tuple[str, WeightedLayer]]
    """Layers with their names by the ids of their weights, the first of several."""
    owners: Mapping[int, tuple[str, nn.Module, str]]
    """Path, module and name of parameters and buffers that one module alone has, by their ids."""
    found: Findings
    sound: Callable[[Call], bool]
    """Tells whether a call of a layer may be taken for what its class computes."""
    with_constants: bool
    """Whether to work out which channels are constant."""
    descriptions: dict[Value, Description] = field(default_factory=dict)
    held: dict[Value, Tensor] = field(default_factory=dict)
    """Parameters and buffers that go with channels, and the units of these."""
    read_along: set[tuple[Call | None, Value]] = field(default_factory=set)
    """Calls, and what they read of these, each number with that of its channel."""

    def of(self, value: Value) -> Description:
        """Return what is known of a value."""
        return self.descriptions.get(value)

    def shape(self, value: Value) -> Shape:
        """Return the shape of a value, of which lengths may be unknown."""
        if value.shape is None:
            raise ShapesNeededError
        return value.shape

    def lengths(self, value: Value) -> tuple[int, ...]:
        """Return the shape of a value with all its lengths."""
        known = lengths(value.shape)
        if known is None:
            raise ShapesNeededError
        return known

    def is_tensor(self, value: Value) -> bool:
        """Tell whether a value is no number or shape, as far as is known."""
        return value.shape is not None or not self.graph.shaped

    def name_of(self, call: Call) -> str:
        """Return the name of the module that is called; empty for a function."""
        return "" if call.module is None else self.names.get(id(call.module), "")


Rule: TypeAlias = Callable[[Walk, Value, Call], Description]


def given(call: Call) -> list[Value]:
    """Return the values among the arguments of a call, each once."""
    values = found_in((call.args, call.kwargs), lambda part: isinstance(part, Value))
    return list(dict.fromkeys(values))


def unknown(walk: Walk, _value: Value, call: Call) -> Description:
    """Keep the width of all that a call reads, and take its result for one of fixed width."""
    keep_inputs(walk, call, reason_to_keep(walk, call))
    return None


def reason_to_keep(walk: Walk, call: Call) -> str:
    """Note that a call cannot be cut, and say so."""
    if call.module is None:
        told = operation(call)
    else:
        walk.found.called_otherwise.add(walk.name_of(call))
        told = f"{walk.name_of(call)} ({type(call.module).__name__})"
    return f"what it gives is read by {told}, whose inputs keep their width"


def keep_inputs(walk: Walk, call: Call, reason: str) -> None:
    """Keep the width of all that a call reads, for a reason."""
    walk.found.fix([walk.of(before) for before in given(call)], reason)


def counts(description: Description) -> bool:
    """Tell whether numbers depend on the width of a value."""
    return isinstance(description, WholeShape) or (
        isinstance(description, Sizes) and bool(description.units)
    )


def finite(constants: Tensor) -> Tensor:
    """Return constants with NaN for those that are not finite, as these cannot be folded."""
    return torch.where(constants.isfinite(), constants, torch.nan)


def owners(network: nn.Module) -> dict[int, tuple[str, nn.Module, str]]:
    """Return path, module and name of what one module alone has, by the ids of the tensors.

    These are parameters, and buffers that are saved with it.
    """
    found: dict[int, tuple[str, nn.Module, str]] = {}
    several = set()
    for path, module in network.named_modules():
        saved = module.state_dict(keep_vars=True)
        # Modules that were scripted keep them elsewhere.
        held = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in ((one, saved[one]) for one, _ in held if one in saved):
            if found.setdefault(id(tensor), (path, module, name)) != (path, module, name):
                several.add(id(tensor))
    return {key: owner for key, owner in found.items() if key not in several}


def layers_by_weight(network: nn.Module) -> dict[int, tuple[str, WeightedLayer]]:
    """Return the linear layers and convolutions with their names, by the ids of their weights."""
    found: dict[int, tuple[str, WeightedLayer]] = {}
    for name, module in network.named_modules():
        if isinstance(module, WeightedLayer) and "weight" in module._parameters:
            found.setdefault(id(module._parameters["weight"]), (name, module))
    return found

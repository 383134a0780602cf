"""The one look at a network's structure: on an example, or by symbolic tracing without one."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

from torch import nn

from gossamer.core.errors import InputError
from gossamer.graph.calls import UNSEEN, Graph
from gossamer.graph.examples import Example
from gossamer.graph.recording import recorded
from gossamer.graph.symbolic import UntraceableError, traced
from gossamer.graph.weights import multiplied_parameters, used_parameters


class Use(Enum):
    """What a network does with a parameter."""

    MULTIPLIED = auto()
    """An operation multiplies values with it."""
    OTHERWISE = auto()
    """It is only added, scaled with, attended with or the like, or used out of sight."""
    NONE = auto()


@dataclass(frozen=True)
class _Uses:
    """Which parameters a graph uses, by id."""

    multiplied: set[int]
    used: set[int]
    all_seen: bool

    def of(self, parameter: nn.Parameter) -> Use:
        if id(parameter) in self.multiplied:
            return Use.MULTIPLIED
        return Use.OTHERWISE if id(parameter) in self.used or not self.all_seen else Use.NONE


def _uses(graph: Graph) -> _Uses:
    seen = all(value.call is None or value.call.name != UNSEEN for value in graph.values)
    return _Uses(multiplied_parameters(graph), used_parameters(graph), seen)


class Structure:
    """What a network computes, found when it is first asked for.

    Parameters
    ----------
    network
        Any module.
    example
        What it takes; None has it traced symbolically.

    Raises
    ------
    InputError
        If the example is none, or the network fails on it.
    """

    def __init__(self, network: nn.Module, example: Example | None = None) -> None:
        self._network = network
        self._recorded = None if example is None else recorded(network, example)
        self._traced: dict[int, Graph | UntraceableError] = {}
        self._uses: dict[int, _Uses | UntraceableError] = {}

    def graph(self, purpose: str, otherwise: str) -> Graph:
        """Return the graph of the whole network.

        Raises
        ------
        InputError
            If there is no example and it cannot be traced; the sentence says that `purpose` cannot
            be found, and what to do `otherwise`.
        """
        found = self._recorded or self._trace(self._network)
        if isinstance(found, UntraceableError):
            raise self.needs_an_example(purpose, found, otherwise)
        return found

    @property
    def has_example(self) -> bool:
        """Whether shapes are known."""
        return self._recorded is not None

    def use_of(self, parameter: nn.Parameter, around: Sequence[nn.Module]) -> Use:
        """Tell what the network does with a parameter.

        Without an example, where the whole network cannot be traced, the forward of a module
        around the parameter tells. What only containers without any forward hold, which were given
        as they are, counts as multiplied with.

        Parameters
        ----------
        parameter
            Of the network.
        around
            The modules around it, the network first and its holder last.

        Raises
        ------
        UntraceableError
            If no forward that uses it can be traced and there is no example.
        """
        if self._on_example is not None:
            return self._on_example.of(parameter)
        failed: UntraceableError | None = None
        computing = [module for module in around if _has_forward(module)]
        for module in computing:
            found = self._traced_uses(module)
            if isinstance(found, UntraceableError):
                failed = failed or found
            elif (use := found.of(parameter)) != Use.NONE:
                return use
        if failed is not None:
            raise failed
        return Use.NONE if computing else Use.MULTIPLIED

    @cached_property
    def _on_example(self) -> _Uses | None:
        return None if self._recorded is None else _uses(self._recorded)

    def _traced_uses(self, module: nn.Module) -> _Uses | UntraceableError:
        if id(module) not in self._uses:
            found = self._trace(module)
            self._uses[id(module)] = found if isinstance(found, UntraceableError) else _uses(found)
        return self._uses[id(module)]

    def _trace(self, module: nn.Module) -> Graph | UntraceableError:
        if id(module) not in self._traced:
            try:
                self._traced[id(module)] = traced(module)
            except UntraceableError as error:
                self._traced[id(module)] = error
        return self._traced[id(module)]

    def needs_an_example(self, purpose: str, reason: Exception, otherwise: str) -> InputError:
        """Return the sentence that asks for an example."""
        name = type(self._network).__name__
        if not _has_forward(self._network):
            return InputError(f"{purpose} cannot be found: {name} has no forward; {otherwise}")
        return InputError(
            f"{purpose} cannot be found: {name} cannot be traced without an input ({reason}); pass "
            f"example=, an input that it takes, or {otherwise}"
        )


def _has_forward(module: nn.Module) -> bool:
    missing = inspect.getattr_static(nn.Module, "forward")
    return inspect.getattr_static(module, "forward", missing) is not missing

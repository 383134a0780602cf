"""The one look at a network's structure: on an example, or by symbolic tracing without one."""

import inspect
from collections.abc import Sequence
from functools import cached_property

from torch import nn

from gossamer.errors import InputError
from gossamer.graph.calls import Graph
from gossamer.graph.examples import Example
from gossamer.graph.recording import recorded
from gossamer.graph.symbolic import UntraceableError, traced
from gossamer.graph.weights import multiplied_parameters, used_parameters


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

    def multiplies_with(self, parameter: nn.Parameter, around: Sequence[nn.Module]) -> bool:
        """Tell whether an operation multiplies values with a parameter.

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
        if self._recorded is not None:
            return id(parameter) in self._multiplied
        failed: UntraceableError | None = None
        computing = [module for module in around if _has_forward(module)]
        for module in computing:
            found = self._trace(module)
            if isinstance(found, UntraceableError):
                failed = failed or found
            elif id(parameter) in used_parameters(found):
                return id(parameter) in multiplied_parameters(found)
        if failed is not None:
            raise failed
        return not computing

    @cached_property
    def _multiplied(self) -> set[int]:
        assert self._recorded is not None
        return multiplied_parameters(self._recorded)

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

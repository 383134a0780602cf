"""Parameters of two or more dimensions that are no weight of an operation."""

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from gossamer.graph.capture import Structure, Use
from gossamer.graph.operations import WEIGHTED
from gossamer.graph.symbolic import UntraceableError
from gossamer.masks.names import bare_name
from gossamer.masks.storages import first_names

_FREE = "no operation is seen to multiply with it"
_UNUSED = "the forward does not use it: name it in include to prune it all the same"
_NOT_IN_EXAMPLE = "the example does not use it: give one that does, or name it in include"
"""Why free parameters are left alone."""


def free_parameters(
    root: nn.Module, candidates: Sequence[tuple[str, nn.Parameter]], structure: Structure
) -> dict[str, str]:
    """Return the names of those that are no weight of an operation, each with the reason.

    Raises
    ------
    InputError
        If that cannot be told of one, as there is no example and no forward can be traced.
    """
    parameters = dict(root.named_parameters(remove_duplicate=False))
    firsts = first_names(parameters)
    groups = {id(value): firsts[name] for name, value in parameters.items()}
    weights = {groups[key] for key in _weights_by_type(root)}
    around = _Around(root)
    reasons = {}
    for name, parameter in candidates:
        if groups[id(parameter)] in weights:
            continue
        try:
            use = structure.use_of(parameter, around(parameter))
        except UntraceableError as error:
            raise structure.needs_an_example(
                f"whether {name} is a weight of an operation (and not, say, a position embedding)",
                error,
                "name the parameter in include or exclude",
            ) from error
        if use == Use.MULTIPLIED:
            weights.add(groups[id(parameter)])
        reasons[name] = _reason(use, structure)
    return {
        name: reasons[name]
        for name, parameter in candidates
        if groups[id(parameter)] not in weights
    }


def _reason(use: Use, structure: Structure) -> str:
    if use != Use.NONE:
        return _FREE
    return _NOT_IN_EXAMPLE if structure.has_example else _UNUSED


def _weights_by_type(root: nn.Module) -> set[int]:
    """Return the ids of the parameters that are weights by the type of a module that holds them."""
    return {
        id(parameter)
        for module in root.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, ParametrizationList)
        or (isinstance(module, WEIGHTED) and "weight" in name)
    }


class _Around:
    """Which modules are around the parameters of a network, the outermost first."""

    def __init__(self, root: nn.Module) -> None:
        self._names = {id(value): bare_name(name) for name, value in root.named_parameters()}
        self._modules = {bare_name(name): module for name, module in root.named_modules()}

    def __call__(self, parameter: nn.Parameter) -> list[nn.Module]:
        parts = self._names[id(parameter)].split(".")[:-1]
        paths = [".".join(parts[:length]) for length in range(len(parts) + 1)]
        return [self._modules[path] for path in paths if path in self._modules]

"""Parameters of two or more dimensions that are no weight of an operation."""

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from gossamer.graph.capture import Structure
from gossamer.graph.operations import WEIGHTED
from gossamer.graph.symbolic import UntraceableError
from gossamer.masks.names import bare_name
from gossamer.masks.storages import first_names

FREE = "no operation is seen to multiply with it"
"""Why a free parameter is left alone."""


def free_parameters(
    root: nn.Module, candidates: Sequence[tuple[str, nn.Parameter]], structure: Structure
) -> list[str]:
    """Return the names of those that are no weight of an operation.

    Raises
    ------
    InputError
        If that cannot be told of one, as there is no example and no forward can be traced.
    """
    parameters = dict(root.named_parameters(remove_duplicate=False))
    firsts = first_names(parameters)
    groups = {id(value): firsts[name] for name, value in parameters.items()}
    weights = {groups[key] for key in _weights_by_type(root)}
    for name, parameter in candidates:
        if groups[id(parameter)] in weights:
            continue
        try:
            if structure.multiplies_with(parameter, _around(root, parameter)):
                weights.add(groups[id(parameter)])
        except UntraceableError as error:
            raise structure.needs_an_example(
                f"whether {name} is a weight of an operation (and not, say, a position embedding)",
                error,
                "name the parameter in include or exclude",
            ) from error
    return [name for name, parameter in candidates if groups[id(parameter)] not in weights]


def _weights_by_type(root: nn.Module) -> set[int]:
    """Return the ids of the parameters that are weights by the type of a module that holds them."""
    return {
        id(parameter)
        for module in root.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, ParametrizationList)
        or (isinstance(module, WEIGHTED) and "weight" in name)
    }


def _around(root: nn.Module, parameter: nn.Parameter) -> list[nn.Module]:
    """Return the modules around a parameter, the outermost first."""
    (first,) = [bare_name(name) for name, one in root.named_parameters() if one is parameter]
    parts = first.split(".")[:-1]
    modules = {bare_name(name): module for name, module in root.named_modules()}
    paths = [".".join(parts[:length]) for length in range(len(parts) + 1)]
    return [modules[path] for path in paths if path in modules]

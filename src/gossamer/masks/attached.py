"""What goes with the units of a layer: its bias, and the normalisation that acts on them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from gossamer.core.errors import InputError
from gossamer.graph.calls import Call
from gossamer.graph.capture import Structure
from gossamer.graph.normalisations import Behind, Source, normalisations_behind, parameters_of
from gossamer.graph.operations import WEIGHTED
from gossamer.masks.layers import PrunableWeight, excluded_parameters
from gossamer.masks.names import modules_by_name, parameters_by_name
from gossamer.masks.storages import first_names


@dataclass(frozen=True)
class AttachedParameter:
    """A bias, scale or shift with entries for each unit of a layer, along one dimension."""

    name: str
    shape: torch.Size
    dimension: int = 0

    def spread(self, kept: Tensor) -> Tensor:
        """Return the mask of the parameter that keeps the units where `kept` is True."""
        behind = len(self.shape) - 1 - self.dimension
        return kept.view(-1, *[1] * behind).expand(self.shape).clone()


def attached_parameters(
    root: nn.Module,
    layers: Sequence[PrunableWeight],
    exclude: str | Sequence[str],
    structure: Structure,
) -> dict[str, tuple[AttachedParameter, ...]]:
    """Return, for each layer with units, the parameters that have entries for each of its units.

    They are the bias and the scale and shift of the normalisation that follows: what a unit adds
    to the output beside its weights, and what must go with it. What `exclude` names is left out.

    Raises
    ------
    InputError
        If it cannot be told which normalisation acts on the units of which layer.
    """
    parameters = parameters_by_name(root)
    firsts = first_names(parameters)
    names = {id(value): firsts[name] for name, value in parameters.items()}
    excluded = excluded_parameters(root, exclude, structure)
    # What attention and recurrence hold beside their weights is found with their groups.
    modules = modules_by_name(root)
    apart = {
        n
        for n, m in modules.items()
        if isinstance(m, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention)
    }
    with_units = [one for one in layers if one.units is not None and one.module not in apart]
    sources = [
        Source(_holders(root, names, names[id(one.weight)]), one.weight, one.sizes[0])
        for one in with_units
    ]
    behind = _behind(root, sources, excluded, structure)
    return {
        layer.name: tuple(
            AttachedParameter(names[id(parameter)], parameter.shape, dimension)
            for parameter, dimension in _per_unit(layer, source, norms)
            if id(parameter) not in excluded
        )
        for layer, source, norms in zip(with_units, sources, behind, strict=True)
    } | {layer.name: () for layer in layers if layer.module in apart}


def _behind(
    root: nn.Module, sources: Sequence[Source], excluded: set[int], structure: Structure
) -> list[Behind]:
    """Return what normalises the units of each layer; without a look where nothing can."""
    if not _may_normalise(root, {source.units for source in sources}, excluded):
        return [Behind() for _ in sources]
    graph = structure.graph(
        "which normalisation acts on the units of which layer",
        "exclude the normalisations by name (shifts of pruned units then stay)",
    )
    found = normalisations_behind(graph, sources)
    for source, behind in zip(sources, found, strict=True):
        for call in behind.unclear:
            if any(id(parameter) not in excluded for parameter in parameters_of(call)):
                raise _unclear(root, source, call)
    return found


def _may_normalise(root: nn.Module, units: set[int], excluded: set[int]) -> bool:
    """Tell whether any parameter outside of layers may be a scale or shift of so many units."""
    return any(
        isinstance(parameter, UninitializedParameter) or units & set(parameter.shape)
        for module in root.modules()
        if not isinstance(module, (*WEIGHTED, nn.PReLU))
        for parameter in module.parameters(recurse=False)
        if id(parameter) not in excluded
    )


def _unclear(root: nn.Module, source: Source, call: Call) -> InputError:
    modules = {id(module): name for name, module in modules_by_name(root).items()}
    names = {id(value): name for name, value in parameters_by_name(root).items()}
    layer = modules[id(source.modules[0])] or type(source.modules[0]).__name__
    norm = (
        names[id(parameters_of(call)[0])].rpartition(".")[0]
        if call.module is None
        else modules[id(call.module)] or type(call.module).__name__
    )
    return InputError(
        f"whether {norm} normalises the units of {layer} depends on the shape of what it is given "
        "(it may be tokens or places instead): pass example=, an input that the network takes"
    )


def _holders(root: nn.Module, names: Mapping[int, str], weight: str) -> list[nn.Module]:
    """Return the modules that share a weight."""
    return [
        module
        for module in root.modules()
        if any(names[id(parameter)] == weight for parameter in module.parameters(recurse=False))
    ]


def _per_unit(
    layer: PrunableWeight, source: Source, behind: Behind
) -> Iterator[tuple[nn.Parameter, int]]:
    """Yield the parameters with entries for each unit, and the dimension they lie along."""
    for module in source.modules:
        for parameter in module.parameters(recurse=False):
            if parameter.dim() == 1 and len(parameter) == source.units:
                yield parameter, 0
    for parameter, dimension in behind.parameters:
        if isinstance(parameter, UninitializedParameter):
            raise InputError(
                f"a normalisation behind layer {layer.module!r} has no values yet: run one batch "
                "through the network before pruning it"
            )
        yield parameter, dimension

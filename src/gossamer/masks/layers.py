"""Which weights of a network can be pruned, what belongs to their units, and what to leave out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from gossamer.errors import InputError
from gossamer.masks.graph import normalisers_of, output_modules, traced_graph
from gossamer.masks.names import bare_module, bare_name, parameters_by_name

OUTPUT_LAYER = "output layer"
"""In `exclude`: the layer whose result is the network's output."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)


@dataclass(frozen=True)
class UnitLayout:
    """Where the units (neurons, filters) of a weight lie: rows, or dimension 1 in groups."""

    dimension: int = 0
    groups: int = 1

    def rows(self, weight: Tensor) -> Tensor:
        """Return a view or copy of shape [units, weights of a unit]."""
        if self.dimension == 0:
            return weight.flatten(1)
        split = weight.reshape(self.groups, -1, *weight.shape[1:]).transpose(1, 2)
        return split.flatten(0, 1).flatten(1)

    def spread(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """Return the boolean weight mask of `shape` that keeps the units where `kept` is True."""
        if self.dimension == 0:
            return kept.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()
        units = kept.view(self.groups, 1, -1, *[1] * (len(shape) - 2))
        inputs = shape[0] // self.groups
        return units.expand(self.groups, inputs, *shape[1:]).reshape(shape).clone()


@dataclass(frozen=True)
class PrunableWeight:
    """One weight tensor that can be pruned."""

    name: str
    module: str
    weight: nn.Parameter
    units: UnitLayout | None
    """None for a weight that has no units, such as an embedding."""


def prunable_weights(model: nn.Module, exclude: str | Sequence[str] = ()) -> list[PrunableWeight]:
    """Find the weights that can be pruned, in the order of `named_parameters`.

    A weight is a parameter of two or more dimensions; biases and normalisation parameters are
    none. A weight that several modules share is listed once, under its first name.

    Parameters
    ----------
    model
        Any module; a compiled or data-parallel one is looked into.
    exclude
        Patterns (``*``, ``?``) of parameter or module names to leave out, or ``"output layer"``.

    Raises
    ------
    InputError
        If nothing can be pruned, a pattern matches nothing, or a weight has no values yet or is
        computed from others (parametrized).
    """
    root = bare_module(model)
    patterns = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    excluded = _excluded_parameters(root, patterns)
    found = [
        _describe(name, module_name, module, weight)
        for name, module_name, module, weight in _weights(root)
        if id(weight) not in excluded
    ]
    if not found:
        reason = " that `exclude` leaves" if patterns else ""
        raise InputError(
            f"{type(root).__name__} has no weight{reason} to prune: it needs a floating-point "
            "parameter of two or more dimensions"
        )
    return found


def attached_parameters(
    model: nn.Module, layers: Sequence[PrunableWeight]
) -> dict[str, tuple[str, ...]]:
    """Return, for each layer, the parameters that hold one entry for each of its units.

    They are the bias and the scale and shift of the normalisation that follows: what a unit adds
    to the output beside its weights, and what must go with it.
    """
    root = bare_module(model)
    graph = traced_graph(root)
    modules = {bare_name(name): module for name, module in root.named_modules()}
    names = {id(value): name for name, value in parameters_by_name(root).items()}
    attached = {}
    for layer in layers:
        if layer.units is None:
            continue
        units = layer.units.rows(layer.weight).shape[0]
        owners = [modules[layer.module], *normalisers_of(root, layer.module, graph)]
        attached[layer.name] = tuple(
            names[id(parameter)]
            for owner in owners
            for parameter in owner.parameters(recurse=False)
            if parameter is not layer.weight and parameter.shape == (units,)
        )
    return attached


def _weights(root: nn.Module) -> Iterator[tuple[str, str, nn.Module, nn.Parameter]]:
    """Yield name, module name, module and parameter of each distinct weight."""
    seen: set[int] = set()
    for module_name, module in root.named_modules():
        if isinstance(module, _NORMALISATIONS):
            continue
        for short, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, UninitializedParameter):
                raise InputError(
                    f"layer {bare_name(module_name)!r} has no weights yet: run one batch through "
                    "the network before pruning it"
                )
            if (
                parameter.dim() < 2
                or not parameter.is_floating_point()
                or short.startswith("bias")
                or id(parameter) in seen
            ):
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{short}" if module_name else short
            yield bare_name(name), bare_name(module_name), module, parameter


def _describe(
    name: str, module_name: str, module: nn.Module, weight: nn.Parameter
) -> PrunableWeight:
    if isinstance(module, parametrize.ParametrizationList):
        layer = module_name.removesuffix(".parametrizations.weight")
        raise InputError(
            f"the weight of layer {layer!r} is parametrized, so it is computed from others and "
            "cannot be pruned: remove the parametrization first, or exclude the layer"
        )
    if weight.is_meta:
        raise InputError(f"{name} is on the meta device and has no values to prune")
    return PrunableWeight(name, module_name, weight, _unit_layout(module, name))


def _unit_layout(module: nn.Module, name: str) -> UnitLayout | None:
    if not name.endswith("weight"):
        return None
    if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        return UnitLayout()
    if isinstance(module, _TRANSPOSED):
        return UnitLayout(dimension=1, groups=module.groups)
    return None


def _excluded_parameters(root: nn.Module, patterns: tuple[str, ...]) -> set[int]:
    """Return the ids of the parameters that the patterns name; shared ones by any name."""
    named = [
        (bare_name(name), id(parameter))
        for name, parameter in root.named_parameters(remove_duplicate=False)
    ]
    excluded: set[int] = set()
    for pattern in patterns:
        if pattern == OUTPUT_LAYER:
            outputs = output_modules(root)
            hit = {id(p) for module in outputs for p in module.parameters(recurse=False)}
        else:
            hit = {
                key
                for name, key in named
                if fnmatchcase(name, pattern) or fnmatchcase(name, pattern.rstrip(".") + ".*")
            }
        if not hit:
            raise InputError(
                f"exclude={pattern!r} matches no parameter or module; the parameters are "
                f"{', '.join(name for name, _ in named) or 'none'}"
            )
        excluded |= hit
    return excluded

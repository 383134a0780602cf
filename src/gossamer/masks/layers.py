"""Which weights of a network can be pruned, what belongs to their units, and what to leave out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize
from torch.nn.utils import prune as torch_prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gossamer.core.errors import InputError
from gossamer.core.formats import listed
from gossamer.graph.capture import Structure
from gossamer.graph.examples import Example
from gossamer.graph.operations import NORMALISATIONS
from gossamer.graph.outputs import NotFollowedError, output_parameters
from gossamer.masks.binding import refuse_sharded, refuse_without_values
from gossamer.masks.free_parameters import free_parameters
from gossamer.masks.names import (
    bare_module,
    bare_name,
    names_it,
    parameters_by_name,
)
from gossamer.masks.storages import distinct, first_names, in_order_of, refuse_tangled
from gossamer.masks.units import UnitLayout
from gossamer.networks.sparse_layer import SparseLayer

OUTPUT_LAYER = "output layer"
"""In `exclude`: the layer whose result is the network's output."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_COMPUTING_HOOKS = (
    (WeightNorm, "name", ("_g", "_v"), "torch.nn.utils.remove_weight_norm"),
    (SpectralNorm, "name", ("_orig",), "torch.nn.utils.remove_spectral_norm"),
    (torch_prune.BasePruningMethod, "_tensor_name", ("_orig",), "torch.nn.utils.prune.remove"),
)
"""Hooks that compute a weight: kind, where they name it, what the names of its parts add, and what
makes it a parameter with the values that it has."""


@dataclass(frozen=True)
class PrunableWeight:
    """One weight tensor that can be pruned."""

    name: str
    module: str
    weight: nn.Parameter
    units: UnitLayout | None
    """None for a weight that has no units, such as an embedding."""

    @property
    def layout(self) -> UnitLayout:
        """Where the units lie; for a weight that has none its rows stand for them."""
        return self.units or UnitLayout()

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many units it has, inputs each of them, and positions a kernel: 1 of no convolution.

        A unit of a convolution in groups has the inputs of its group alone.
        """
        shape = self.layout.kernels(torch.empty(self.weight.shape, device="meta")).shape
        return shape[0], shape[1], shape[2]


@dataclass(frozen=True)
class Survey:
    """What of a network can be pruned, and what is left alone although nobody asked for it."""

    weights: tuple[PrunableWeight, ...]
    left_alone: Mapping[str, str]
    """Parameter names, each with the reason."""


def prunable_weights(
    model: nn.Module,
    exclude: str | Sequence[str] = (),
    *,
    include: str | Sequence[str] = (),
    example: Example | None = None,
) -> list[PrunableWeight]:
    """Find the weights that can be pruned, in the order of `named_parameters`.

    A weight is a parameter of two or more dimensions that a linear operation, a convolution, an
    embedding, a recurrent cell or an attention projection multiplies with. Of PyTorch's layers
    that is known; for a parameter of a module of one's own it is found from what the network
    computes. Biases, normalisation parameters and free parameters (position embeddings, class
    tokens, learned queries, layer scales) are none; tokens that stand in a matrix product
    themselves, as in ``tokens @ keys.mT``, are weights of it. A weight that several
    modules share, or that several parameters hold in the same memory, is listed once, under its
    first name.

    Parameters
    ----------
    model
        Any module; a compiled or data-parallel one is looked into.
    exclude
        Patterns (``*``, ``?``) of parameter or module names to leave out, or ``"output layer"``.
    include
        Patterns of names of free parameters that are to be pruned all the same.
    example
        What the model takes: a tensor, a tuple of positional arguments or a dict of keyword
        arguments. It is needed where structure matters and the forward cannot be traced without.

    Raises
    ------
    InputError
        If nothing can be pruned, a pattern matches nothing, a weight has no values yet, is
        computed from others (parametrized), sharded, or shares its memory in part, a layer stores
        its non-zeros only, or structure matters and cannot be found.
    """
    root = bare_module(model)
    refuse_sharded(model)
    return list(survey(root, Structure(root, example), exclude, include).weights)


def survey(
    root: nn.Module,
    structure: Structure,
    exclude: str | Sequence[str] = (),
    include: str | Sequence[str] = (),
) -> Survey:
    """Find the weights that can be pruned, and what is left alone; see `prunable_weights`."""
    excluded = excluded_parameters(root, exclude, structure)
    _refuse_packed(root, excluded)
    candidates = [found for found in _weights(root) if id(found[3]) not in excluded]
    for found in candidates:
        _refuse_without_values(*found)
    named = _included(include, [(name, weight) for name, _, _, weight in _weights(root)])
    undecided = [(name, weight) for name, _, _, weight in candidates if id(weight) not in named]
    free = free_parameters(root, undecided, structure)
    weights = [found for found in candidates if found[0] not in free]
    if not weights:
        reason = " that `exclude` leaves" if excluded else ""
        shared = " (one that layers share is left out with any of them)" if excluded else ""
        named_free = f"; name free parameters in include ({', '.join(free)})" if free else ""
        raise InputError(
            f"{type(root).__name__} has no weight{reason} to prune: it needs a floating-point "
            "parameter of two or more dimensions that an operation multiplies with"
            f"{shared}{named_free}"
        )
    by_name = {name: weight for name, _, _, weight in weights}
    refuse_tangled(parameters_by_name(root), by_name)
    layouts = _unit_layouts(root)
    found_weights = tuple(
        PrunableWeight(name, _module_name(name), weight, layouts.get(id(weight)))
        for name, weight in distinct(by_name).items()
    )
    return Survey(found_weights, free | _complex(root, excluded))


def _refuse_packed(root: nn.Module, excluded: Collection[int]) -> None:
    """Refuse layers that store their non-zeros only: a share of what they lack means nothing."""
    packed = [
        name or type(layer).__name__
        for name, layer in root.named_modules()
        if isinstance(layer, SparseLayer) and id(layer.values) not in excluded
    ]
    if packed:
        raise InputError(
            f"layers of {type(root).__name__} that store their non-zeros only ({listed(packed)}) "
            "cannot be pruned: make them dense again by gossamer.networks.unpack(model), or name "
            "them in exclude"
        )


def _complex(root: nn.Module, excluded: set[int]) -> dict[str, str]:
    """Return the complex parameters that would be looked at if they were real, with the reason."""
    return {
        name: "its numbers are complex, and only real ones are pruned"
        for name, parameter in parameters_by_name(root).items()
        if parameter.is_complex() and not isinstance(parameter, UninitializedParameter)
        if parameter.dim() > 1 and id(parameter) not in excluded
    }


def _included(
    include: str | Sequence[str], candidates: Sequence[tuple[str, nn.Parameter]]
) -> set[int]:
    """Return the ids of the parameters that `include` names."""
    included: set[int] = set()
    for pattern in patterns_of(include, "include"):
        hit = {id(weight) for name, weight in candidates if names_it(pattern, name)}
        if not hit:
            raise InputError(
                f"include={pattern!r} matches no floating-point parameter of two or more "
                f"dimensions; they are {', '.join(name for name, _ in candidates) or 'none'}"
            )
        included |= hit
    return included


def excluded_parameters(
    root: nn.Module,
    exclude: str | Sequence[str],
    structure: Structure,
    argument: str = "exclude",
) -> set[int]:
    """Return the ids of the parameters that patterns name; a shared weight by any of its names.

    Raises
    ------
    InputError
        If a pattern matches nothing or is no string, or the output layer cannot be found.
    """
    named_parameters = list(root.named_parameters(remove_duplicate=False))
    named = [(bare_name(name), id(parameter)) for name, parameter in named_parameters]
    excluded: set[int] = set()
    for pattern in patterns_of(exclude, argument):
        if pattern == OUTPUT_LAYER:
            hit = {id(parameter) for parameter in _output_layer(structure, argument)}
        else:
            hit = {key for name, key in named if names_it(pattern, name)}
        if not hit:
            raise InputError(
                f"{argument}={pattern!r} matches no parameter or module; the parameters are "
                f"{', '.join(name for name, _ in named) or 'none'}"
            )
        excluded |= hit
    firsts = first_names(dict(named_parameters))
    weights = {firsts[name] for name, p in named_parameters if id(p) in excluded}
    return {id(p) for name, p in named_parameters if firsts[name] in weights}


def _output_layer(structure: Structure, argument: str) -> list[nn.Parameter]:
    """Return the parameters of the output layer."""
    otherwise = f'name the layer in {argument} instead of "output layer"'
    graph = structure.graph("the output layer", otherwise)
    try:
        found = output_parameters(graph)
    except NotFollowedError as error:
        raise InputError(f"the output layer cannot be found: {error}; {otherwise}") from error
    if not found:
        raise InputError(
            "the output layer cannot be found: no layer with weights leads to the output; "
            + otherwise
        )
    return found


def patterns_of(given: str | Sequence[str], argument: str) -> list[str]:
    """Return one or several patterns as a list.

    Raises
    ------
    InputError
        If one is no string.
    """
    patterns = [given] if isinstance(given, str) else given
    if not isinstance(patterns, Sequence) or not all(isinstance(p, str) for p in patterns):
        raise InputError(
            f"{argument} must be a pattern of parameter or module names, or a list of them, "
            f"not {given!r}"
        )
    return list(patterns)


def _weights(root: nn.Module) -> Iterator[tuple[str, str, nn.Module, nn.Parameter]]:
    """Yield name, name within the module, module and parameter of each distinct weight."""
    seen: set[int] = set()
    for module_name, module in root.named_modules():
        if isinstance(module, NORMALISATIONS):
            continue
        for short, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not _is_weight(short, parameter):
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{short}" if module_name else short
            yield bare_name(name), short, module, parameter


def _is_weight(short: str, parameter: nn.Parameter) -> bool:
    if short.startswith("bias") or not parameter.is_floating_point():
        return False
    if isinstance(parameter, UninitializedParameter):
        return True
    return parameter.dim() > 1 and parameter.numel() > 0


def _refuse_without_values(name: str, short: str, module: nn.Module, weight: nn.Parameter) -> None:
    """Raise where a weight has no values to prune, or its values are computed from others."""
    layer, _, parametrized = name.partition("parametrizations.")
    computed = _read_by_hooks(module).get(short)
    if isinstance(module, parametrize.ParametrizationList) and parametrized:
        remove = "torch.nn.utils.parametrize.remove_parametrizations"
        computed = (parametrized.partition(".")[0], remove)
    if computed:
        weight_name, remove = computed
        layer = layer.rstrip(".") if parametrized else _module_name(name)
        at = f"model.get_submodule({layer!r})" if layer else "model"
        raise InputError(
            f"the {weight_name} of layer {layer!r} is computed from others (parametrized) before "
            f"each forward and cannot be pruned: call `{remove}({at}, {weight_name!r})`, which "
            "keeps the values that it has now, or exclude the layer"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"{name} belongs to a scripted module, which does not say what it computes: prune the "
            "network before torch.jit.script or torch.jit.trace, or exclude the layer"
        )
    if isinstance(weight, UninitializedParameter):
        raise InputError(
            f"layer {_module_name(name)!r} has no weights yet: run one batch through the network "
            "before pruning it"
        )
    refuse_without_values(name, weight)


def _read_by_hooks(module: nn.Module) -> dict[str, tuple[str, str]]:
    """Return the parameters from which hooks of torch compute a weight before each forward.

    Each has the name of that weight, and what makes it a parameter.
    """
    hooks = module._forward_pre_hooks.values()
    return {
        f"{name}{suffix}": (name, remove)
        for hook in hooks
        for kind, attribute, suffixes, remove in _COMPUTING_HOOKS
        if isinstance(hook, kind) and (name := getattr(hook, attribute))
        for suffix in suffixes
    }


def _unit_layouts(root: nn.Module) -> dict[int, UnitLayout | None]:
    """Return where the units of each parameter lie, by id; nowhere if its holders differ.

    A holder may have the weight as a parameter of its own over the same memory: the units of both
    have to be the same elements.
    """
    layouts: dict[int, set[UnitLayout | None]] = {}
    for module in root.modules():
        for short, parameter in module.named_parameters(recurse=False):
            layouts.setdefault(id(parameter), set()).add(_unit_layout(module, short))
    agreed = {key: found.pop() for key, found in layouts.items() if len(found) == 1}
    parameters = parameters_by_name(root)
    for name, first in first_names(parameters).items():
        one, other = parameters[first], parameters[name]
        layout, its = agreed.get(id(one)), agreed.get(id(other))
        if one is not other and not _same_units(one, layout, other, its):
            agreed[id(one)] = agreed[id(other)] = None
    return agreed


def _same_units(
    one: nn.Parameter, layout: UnitLayout | None, other: nn.Parameter, its: UnitLayout | None
) -> bool:
    """Tell whether two parameters over the same memory have the same elements in each unit."""
    if layout is None or its is None:
        return False
    numbers = in_order_of(_unit_numbers(one, layout), one, other)
    return torch.equal(numbers, _unit_numbers(other, its))


def _unit_numbers(weight: nn.Parameter, layout: UnitLayout) -> Tensor:
    """Return for each element the number of its unit."""
    rows = layout.rows(torch.empty(weight.shape))
    return layout.from_rows(torch.arange(len(rows))[:, None].expand(rows.shape), weight.shape)


def _unit_layout(module: nn.Module, short: str) -> UnitLayout | None:
    if short != "weight":
        return None
    if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        return UnitLayout()
    if isinstance(module, _TRANSPOSED):
        return UnitLayout(dimension=1, groups=module.groups)
    return None


def _module_name(name: str) -> str:
    return name.rpartition(".")[0]

"""Finding the parameters of a network that the entries of a mask are about."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from gossamer.core.errors import InputError
from gossamer.masks.names import bare_module, parameters_by_name
from gossamer.masks.storages import first_names, follow, in_order_of, refuse_tangled
from gossamer.masks.values import WITHOUT_ZERO


def bound(entries: Mapping[str, Tensor], model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that entries are about, by name; see `Mask.bind`."""
    refuse_sharded(model)
    parameters = parameters_by_name(model)
    for name, kept in entries.items():
        if name not in parameters:
            wrapped = name in {other.removeprefix("module.") for other in parameters}
            hint = "; give the network that it wraps, its .module" if wrapped else ""
            raise InputError(
                f"the mask has an entry for {name!r}, which is no parameter of this "
                f"{type(bare_module(model)).__name__}; they are "
                f"{', '.join(parameters) or 'none'}{hint}"
            )
        refuse_without_values(name, parameters[name])
        if parameters[name].shape != kept.shape:
            raise InputError(
                f"the mask's {name} has shape {tuple(kept.shape)}, the network's "
                f"{tuple(parameters[name].shape)}"
            )
    refuse_tangled(parameters, entries)
    return {name: parameters[name] for name in entries}


def placed(
    entries: Mapping[str, Tensor], model: nn.Module, ties: Mapping[str, Any]
) -> dict[str, tuple[nn.Parameter, Tensor]]:
    """Return each parameter that entries are about with what is kept of it; see `Mask.placed`."""
    found = {name: (parameter, entries[name]) for name, parameter in bound(entries, model).items()}
    parameters = parameters_by_name(model)
    kept_of_first: dict[str, str] = {}
    firsts = first_names(parameters)
    for name in entries:
        kept_of_first.setdefault(firsts[name], name)
    for name, first in firsts.items():
        if first not in kept_of_first:
            continue
        owner = kept_of_first[first]
        kept = in_order_of(entries[owner], parameters[owner], parameters[name])
        if name in entries and not torch.equal(kept, entries[name]):
            raise InputError(
                f"{owner} and {name} are one weight in this network, in the same memory, but the "
                "mask keeps other entries of one than of the other: find a mask on this network"
            )
        found[name] = parameters[name], kept
    for name, tie in _untied(ties, found, parameters).items():
        found[name] = parameters[name], _followed(name, tie, entries, parameters)
    return found


def _untied(
    ties: Mapping[str, Any], found: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]
) -> dict[str, Any]:
    """Return those ties of the network that a mask was found on which this one does not have."""
    return {name: tie for name, tie in ties.items() if name in parameters and name not in found}


def _followed(
    name: str, tie: Any, entries: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]
) -> Tensor:
    try:
        return follow(entries[tie["first"]], tie).view(parameters[name].shape)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} lay in the memory of another parameter when the mask was found, but does not "
            f"here, and which of its entries are pruned cannot be told ({error}): let them share "
            "their memory again, or find a mask on this network"
        ) from error


def refuse_sharded(model: nn.Module) -> None:
    """Refuse a network whose parameters are pieces of a flat one (FullyShardedDataParallel).

    Raises
    ------
    InputError
        If it is one.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")  # not imported here, which takes a while
    if fsdp is None or not isinstance(model, nn.Module):
        return
    if any(isinstance(module, fsdp.FullyShardedDataParallel) for module in model.modules()):
        raise InputError(
            f"{type(model).__name__} is sharded by FullyShardedDataParallel, so its weights lie in "
            "pieces: prune the network before it is wrapped (masks cannot be enforced on it then)"
        )


def refuse_without_values(name: str, parameter: nn.Parameter) -> None:
    """Refuse a parameter that cannot be set to zero entry by entry.

    Raises
    ------
    InputError
        If it has no values yet or no zero, is sharded, or is not stored dense.
    """
    if isinstance(parameter, UninitializedParameter):
        raise InputError(f"the network's {name} has no values yet: run one batch through it first")
    if parameter.is_meta:
        raise InputError(f"{name} is on the meta device and has no values to prune")
    if parameter.is_nested or is_traceable_wrapper_subclass(parameter):
        kind = "nested tensor" if parameter.is_nested else type(parameter.data).__name__
        if hasattr(parameter, "placements"):
            raise InputError(
                f"{name} is sharded (a {kind}), so its entries lie on several devices: prune the "
                "network before sharding it (masks cannot be enforced on sharded weights)"
            )
        raise InputError(
            f"{name} is a {kind}, whose values lie in other tensors; only plain weights can be "
            "pruned"
        )
    if parameter.layout != torch.strided:
        raise InputError(
            f"{name} is stored as {parameter.layout}; only dense weights can be pruned"
        )
    if parameter.dtype in WITHOUT_ZERO:
        raise InputError(
            f"{name} is {parameter.dtype}, which cannot hold a zero by itself: prune the network "
            "before converting it"
        )

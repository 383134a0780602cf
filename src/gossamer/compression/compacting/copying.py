"""A copy of a user's network that is plain and can be cut: dense layers, no hooks, no wrappers."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import prune

from gossamer.errors import InputError
from gossamer.masks.names import bare_module, uncompiled
from gossamer.measure.running import told
from gossamer.nets.packing import unpack

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
_HOOKS_BEFORE = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy without wrappers, hooks and gradients, whose layers are dense.

    What `torch.nn.utils.prune` masks becomes a plain weight with zeros. Hooks that compute a
    weight, such as those of `torch.nn.utils.weight_norm`, stay.

    Raises
    ------
    InputError
        If `model` is no module, cannot be copied, or has parameters without values.
    """
    root = bare_module(model)
    for name, parameter in root.named_parameters():
        if isinstance(parameter, UninitializedParameter) or parameter.is_meta:
            raise InputError(
                f"The parameter {name!r} has no values yet, but units are removed by the values "
                "of their weights: run one batch through the network, or load its weights."
            )
    try:
        twin = copy.deepcopy(root, _computed_tensors(root))
    except Exception as error:
        raise InputError(
            f"The network {type(root).__name__} cannot be copied ({told(error)}): make "
            "copy.deepcopy(network) work."
        ) from error
    for module in list(twin.modules()):
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = uncompiled(child)
        _remove_hooks(module)
    for parameter in twin.parameters():
        parameter.grad = None
    return unpack(twin)


def _computed_tensors(root: nn.Module) -> dict[int, Tensor]:
    """Return copies of tensors that an earlier forward left, by id: deepcopy refuses these."""
    values = (value for module in root.modules() for value in vars(module).values())
    return {
        id(value): value.detach().clone()
        for value in values
        if isinstance(value, Tensor) and not value.is_leaf
    }


def _remove_hooks(module: nn.Module) -> None:
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
    computes_weight = any(isinstance(value, Tensor) for value in vars(module).values())
    for hooks in (*_HOOKS, *(() if computes_weight else _HOOKS_BEFORE)):
        getattr(module, hooks).clear()


def in_double(network: nn.Module) -> nn.Module:
    """Return a copy of a network in float64, on the processor: some devices have no such type."""
    return copy.deepcopy(network).to("cpu", torch.float64)

"""A copy of a user's network that is plain and can be cut: dense layers, and no wrappers."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import prune
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer.compression.compacting.hooks import check_no_outer_hooks
from gossamer.core.errors import InputError
from gossamer.masks.names import bare_module, uncompiled
from gossamer.measures.functional.running import told
from gossamer.networks.packing import unpack


def given_module(model: nn.Module) -> nn.Module:
    """Return the network inside its wrappers.

    Raises
    ------
    InputError
        If it is no module, or one that was scripted, traced or exported.
    """
    if isinstance(model, torch.jit.ScriptModule | torch.export.ExportedProgram):
        raise InputError(
            f"a torch.nn.Module was expected, not {type(model).__name__}: give the module that it "
            "was made from, before torch.jit or torch.export"
        )
    return bare_module(model)


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy without wrappers, gradients and their hooks, whose layers are dense.

    What `torch.nn.utils.prune` masks becomes a plain weight with zeros. Forward hooks stay.

    Raises
    ------
    InputError
        If `model` is no module, cannot be copied, has parameters without values, or there are
        hooks that its copy would not have.
    """
    root = given_module(model)
    check_no_outer_hooks(model, root)
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
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, child in module._modules.items():
            if child is not None and (inner := uncompiled(child)) is not child:
                check_no_outer_hooks(child, inner)
                module._modules[name] = inner
        _make_plain(module)
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


def _make_plain(module: nn.Module) -> None:
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
    module._backward_hooks.clear()
    module._backward_pre_hooks.clear()


@contextlib.contextmanager
def standing_alone(network: nn.Module) -> Iterator[None]:
    """Refuse that what runs meanwhile, a copy of a network, computes with the network's tensors.

    A hook or a forward that was given a module when it was made may hold on to that module.

    Parameters
    ----------
    network
        The network inside its wrappers.

    Raises
    ------
    InputError
        If it does.
    """
    held = [*network.named_parameters(), *network.named_buffers()]
    watch = _Reading({_memory(tensor): name for name, tensor in held if tensor.numel()})
    with watch:
        yield
    if watch.read:
        raise InputError(
            f"A copy of {type(network).__name__} still computes with {watch.read!r} of the network "
            "it was copied from, through a hook or a forward that keeps hold of that: let it use "
            "the module that it is called with, as hooks of (module, inputs, output) and "
            "types.MethodType(forward, module) do."
        )


class _Reading(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which of some tensors, named by their memory, is read by any operation."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = names
        self.read = ""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        for value in pytree.tree_leaves((args, kwargs or {})):
            if isinstance(value, Tensor):
                self.read = self.read or self._names.get(_memory(value), "")
        return func(*args, **(kwargs or {}))


def _memory(tensor: Tensor) -> int:
    """Return where the numbers of a tensor lie; 0 for one that has no memory of its own."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


@contextlib.contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Put the numbers of a network's buffers back at the end."""
    before = [(value, value.clone()) for value in network.buffers()]
    try:
        yield
    finally:
        for value, kept in before:
            if not value.is_inference() and not torch.equal(value, kept):
                value.copy_(kept)


def in_double(network: nn.Module) -> nn.Module:
    """Return a copy of a network in float64, on the processor: some devices have no such type."""
    return copy.deepcopy(network).to("cpu", torch.float64)

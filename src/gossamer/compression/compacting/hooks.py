"""What runs beside the forward of a network's classes: hooks, and forwards of single objects.

A hook may change what is computed, or only watch it. Which of the two is found by running the
network: what gives nothing back and changes nothing that it can see has only watched.
"""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import prune as torch_prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils import _pytree as pytree

from gossamer.compression.probing import inputs_like
from gossamer.errors import InputError
from gossamer.measure.modes import evaluation
from gossamer.measure.running import run

COMPUTING_HOOKS = (torch_prune.BasePruningMethod, WeightNorm, SpectralNorm)
"""Hooks of PyTorch that compute a weight from others before each call."""

_KINDS = ("_forward_pre_hooks", "_forward_hooks")
_GLOBAL = ("_global_forward_pre_hooks", "_global_forward_hooks")


@dataclass(frozen=True)
class Hook:
    """A forward hook of a module: of which, of what kind, under which number, and its name."""

    module: str
    kind: str
    number: int
    name: str


def hooks_of(network: nn.Module) -> list[Hook]:
    """Return the forward hooks of all modules, those before a forward first."""
    return [
        Hook(name, kind, number, name_of(hook))
        for name, module in network.named_modules()
        for kind in _KINDS
        for number, hook in getattr(module, kind).items()
    ]


def name_of(hook: object) -> str:
    """Return the name of a hook as its user wrote it.

    Examples
    --------
    >>> name_of(len), name_of(partial(len)), name_of(nn.ReLU())
    ('len', 'len', 'ReLU')
    """
    if isinstance(hook, partial):
        return name_of(hook.func)
    return str(getattr(hook, "__name__", type(hook).__name__))


def what_runs_beside(module: nn.Module) -> str:
    """Say what else runs when a module is called; empty if that is its class's forward alone."""
    own = [name_of(hook) for kind in _KINDS for hook in getattr(module, kind).values()]
    if own:
        return f"it has the hook {', '.join(own)}, which may depend on its widths"
    if "forward" in vars(module) and not isinstance(module, torch.jit.ScriptModule):
        return "its forward was replaced in the object"
    return ""


def check_no_outer_hooks(model: nn.Module, inside: nn.Module) -> None:
    """Refuse hooks that a copy of a network would not have: of all modules, and of wrappers.

    Parameters
    ----------
    model
        The network as it was given.
    inside
        The one inside its wrappers, such as a data-parallel one.

    Raises
    ------
    InputError
        If there is one, by its name.
    """
    for kind in _GLOBAL:
        for hook in getattr(torch_module, kind).values():
            raise InputError(
                f"The hook {name_of(hook)} was registered for all modules of the process, so that "
                "nothing tells what belongs to the network: remove it for this call, with the "
                "handle that registering it returned."
            )
    within = {id(module) for module in inside.modules()}
    for hook in hooks_of(model):
        if id(model.get_submodule(hook.module)) not in within:
            raise InputError(
                f"The hook {hook.name} is on a wrapper around {type(inside).__name__}, which is "
                "taken off: register it on the network inside, or remove it."
            )


def watching_hooks(network: nn.Module, example: Tensor) -> list[Hook]:
    """Return the hooks that only watch: they give nothing back, nor write.

    That is found on an example, and on random numbers a hundred times as large, which a hook that
    bounds numbers would change.

    Parameters
    ----------
    network
        Its hooks are run.
    example
        An input of it.

    Raises
    ------
    InputError
        If it fails on it.
    """
    found = [hook for hook in hooks_of(network) if not _computes(network, hook)]
    if not found:
        return []
    changing: set[Hook] = set()
    for hook in found:
        hooks = getattr(network.get_submodule(hook.module), hook.kind)
        hooks[hook.number] = _Watched(hooks[hook.number], partial(changing.add, hook))
    try:
        with evaluation(network), torch.no_grad():
            run(network, example.clone())
            if example.is_floating_point() and example.numel():
                with contextlib.suppress(InputError):  # the network need not take these
                    run(network, 100 * inputs_like(example)[0])
    finally:
        for hook in found:
            hooks = getattr(network.get_submodule(hook.module), hook.kind)
            hooks[hook.number] = hooks[hook.number].hook
    return [hook for hook in found if hook not in changing]


def _computes(network: nn.Module, hook: Hook) -> bool:
    hooks = getattr(network.get_submodule(hook.module), hook.kind)
    return isinstance(hooks[hook.number], COMPUTING_HOOKS)


class _Watched:
    """A hook, and who is told if it changes something."""

    def __init__(self, hook: Callable[..., Any], tell: Callable[[], object]) -> None:
        self.hook = hook
        self._tell = tell

    def __call__(self, module: nn.Module, *values: Any) -> Any:
        before = [(tensor, tensor.clone()) for tensor in _tensors(module, values)]
        kept = {name: id(value) for name, value in vars(module).items()}
        given = self.hook(module, *values)
        same = all(_unchanged(tensor, copied) for tensor, copied in before)
        renewed = {name: id(value) for name, value in vars(module).items()} != kept
        if given is not None or not same or renewed:
            self._tell()
        return given


def _tensors(module: nn.Module, values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors that a hook is given, and those of its module."""
    leaves = pytree.tree_leaves(list(values))
    yield from (leaf for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_meta)
    yield from module.parameters()
    yield from module.buffers()


def _unchanged(tensor: Tensor, before: Tensor) -> bool:
    if tensor.shape != before.shape or tensor.dtype != before.dtype:
        return False
    return bool(((tensor == before) | ((tensor != tensor) & (before != before))).all())


def quiet_copy(network: nn.Module, watching: Iterable[Hook]) -> nn.Module:
    """Return a copy of a network without some of its hooks."""
    twin = copy.deepcopy(network)
    for hook in watching:
        module = twin.get_submodule(hook.module)
        del getattr(module, hook.kind)[hook.number]
        for more in (f"{hook.kind}_with_kwargs", f"{hook.kind}_always_called"):
            getattr(module, more, {}).pop(hook.number, None)
    return twin


def replaced_forward(network: nn.Module) -> str:
    """Say why the class of a network does not tell what it computes; empty if it does."""
    if "forward" in vars(network):
        return (
            "its forward was replaced in the object, so that its class does not tell what it "
            "computes: define the forward in a class of its own"
        )
    if not type(network).__call__.__module__.startswith("torch."):
        return (
            f"{type(network).__name__} has a __call__ of its own, so that its forward does not "
            "tell what it computes: do all in the forward"
        )
    return ""

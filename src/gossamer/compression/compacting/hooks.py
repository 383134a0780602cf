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

from gossamer.compression.outputs import comparable
from gossamer.compression.probing import inputs_like
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.modes import evaluation
from gossamer.measures.functional.running import run

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


def watching_hooks(network: nn.Module, example: Arguments) -> list[Hook]:
    """Return the hooks that only watch: they give nothing back, nor write.

    That is found on an example, and on random numbers a hundred times as large, which a hook that
    bounds numbers would change. A hook may keep something as an attribute of its module, if the
    network gives the same without the hook and the attribute.

    Parameters
    ----------
    network
        Its hooks are run.
    example
        Inputs of it.

    Raises
    ------
    InputError
        If it fails on it.
    """
    found = [hook for hook in hooks_of(network) if not _computes(network, hook)]
    if not found:
        return []
    as_given = copy.deepcopy(network)
    changing: set[Hook] = set()
    kept: dict[Hook, set[str]] = {}
    for hook in found:
        hooks = getattr(network.get_submodule(hook.module), hook.kind)
        keep = kept.setdefault(hook, set()).update
        hooks[hook.number] = _Watched(hooks[hook.number], partial(changing.add, hook), keep)
    try:
        given = _outputs(network, example)
    finally:
        for hook in found:
            hooks = getattr(network.get_submodule(hook.module), hook.kind)
            hooks[hook.number] = hooks[hook.number].hook
    watching = [hook for hook in found if hook not in changing]
    if any(kept[hook] for hook in watching):
        without = quiet_copy(as_given, watching)
        for hook in watching:
            for name in kept[hook]:
                vars(without.get_submodule(hook.module)).pop(name, None)
        if not _gives(without, example, given):
            return [hook for hook in watching if not kept[hook]]
    return watching


def _outputs(network: nn.Module, example: Arguments) -> list[Any]:
    """Return what a network gives for an example and, if it takes them, for large numbers."""
    with evaluation(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        found = comparable(run(network, example.clone()))
        if any(tensor.is_floating_point() and tensor.numel() for tensor in example):
            with contextlib.suppress(InputError):
                found += comparable(run(network, inputs_like(example)[0].mapped(_large)))
    return found


def _large(tensor: Tensor) -> Tensor:
    return 100 * tensor if tensor.is_floating_point() else tensor


def _gives(network: nn.Module, example: Arguments, expected: list[Any]) -> bool:
    try:
        found = _outputs(network, example)
    except InputError:
        return False
    return len(found) == len(expected) and all(map(_same, found, expected))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return _unchanged(first, second)
    return bool(first == second)


def _computes(network: nn.Module, hook: Hook) -> bool:
    hooks = getattr(network.get_submodule(hook.module), hook.kind)
    return isinstance(hooks[hook.number], COMPUTING_HOOKS)


class _Watched:
    """A hook, who is told if it changes something, and who of attributes that it keeps."""

    def __init__(
        self,
        hook: Callable[..., Any],
        tell: Callable[[], object],
        keep: Callable[[set[str]], object],
    ) -> None:
        self.hook = hook
        self._tell = tell
        self._keep = keep

    def __call__(self, module: nn.Module, *values: Any) -> Any:
        before = [(tensor, tensor.clone()) for tensor in _tensors(module, values)]
        held, attributes = _held(module), dict(vars(module))
        given = self.hook(module, *values)
        same = all(_unchanged(tensor, copied) for tensor, copied in before)
        after = vars(module)
        gone = attributes.keys() - after.keys()
        if given is not None or not same or _held(module) != held or gone:
            self._tell()
        self._keep({n for n in after if n not in attributes or after[n] is not attributes[n]})
        return given


def _held(module: nn.Module) -> list[dict[str, int]]:
    """Return by name which parameters, buffers, submodules and own functions a module has."""
    held = (module._parameters, module._buffers, module._modules)
    own = {"forward": vars(module).get("forward"), "training": module.training}
    return [{name: id(value) for name, value in one.items()} for one in (*held, own)]


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

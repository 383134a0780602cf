"""Parameters of a model by the names they have before any wrapper.

`torch.compile`, the data-parallel wrappers and averaged copies prefix parameter names; a mask found
on the bare model must fit the wrapped one and the other way round.
"""

from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gossamer.core.errors import InputError

_COMPILED = "_orig_mod"
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_WRAPPERS = (*PARALLEL, AveragedModel)


def bare_name(name: str) -> str:
    """Return a parameter or module name without the parts that `torch.compile` adds.

    Examples
    --------
    >>> bare_name("_orig_mod.encoder._orig_mod.weight")
    'encoder.weight'
    """
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def bare_module(model: nn.Module) -> nn.Module:
    """Return the module inside `torch.compile`, data-parallel wrappers and averaged copies.

    An averaged copy is an `AveragedModel`, or any module that only keeps another one as its
    ``module``, without a forward of its own.

    Raises
    ------
    InputError
        If `model` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"a torch.nn.Module was expected, not {type(model).__name__}")
    while (
        inner := model.get_submodule("module") if _only_wraps(model) else uncompiled(model)
    ) is not model:
        model = inner
    return model


def _only_wraps(model: nn.Module) -> bool:
    if isinstance(model, _WRAPPERS):
        return True
    if isinstance(model, torch.jit.ScriptModule | nn.ModuleDict):
        return False
    keeps_one = [name for name, _ in model.named_children()] == ["module"]
    bare = not list(model.parameters(recurse=False)) and type(model).forward is nn.Module.forward
    return keeps_one and bare


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module inside the wrappers of `torch.compile`."""
    while (inner := dict(module.named_children()).get(_COMPILED)) is not None:
        module = inner
    return module


def modules_by_name(model: nn.Module) -> dict[str, nn.Module]:
    """Return every module by each of its bare names; a compiled one is what it wraps."""
    root = bare_module(model)
    return {bare_name(name): module for name, module in root.named_modules(remove_duplicate=False)}


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every parameter once, by bare name; a shared one has its first name."""
    return {bare_name(name): value for name, value in bare_module(model).named_parameters()}


def names_it(pattern: str, name: str) -> bool:
    """Tell whether a pattern (``*``, ``?``) is about a parameter, or a module around it.

    Examples
    --------
    >>> names_it("encoder", "encoder.0.weight"), names_it("*.bias", "encoder.0.weight")
    (True, False)
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.rstrip(".") + ".*")

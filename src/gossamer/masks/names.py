"""Parameters of a model by the names they have before any wrapper.

`torch.compile` and the data-parallel wrappers prefix parameter names; a mask found on the bare
model must fit the wrapped one and the other way round.
"""

from torch import nn

from gossamer.errors import InputError

_COMPILED = "_orig_mod."
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def bare_name(name: str) -> str:
    """Return a parameter or module name without the parts that `torch.compile` adds.

    Examples
    --------
    >>> bare_name("_orig_mod.encoder._orig_mod.weight")
    'encoder.weight'
    """
    return name.replace(_COMPILED, "")


def bare_module(model: nn.Module) -> nn.Module:
    """Return the module inside `torch.compile` and data-parallel wrappers.

    Raises
    ------
    InputError
        If `model` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"a torch.nn.Module was expected, not {type(model).__name__}")
    while True:
        if isinstance(model, _PARALLEL):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every parameter once, by bare name; a shared one has its first name."""
    return {bare_name(name): value for name, value in bare_module(model).named_parameters()}

"""The smaller network as a plain module again: its weights, and which widths they need."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.compression.compacting.layers import has_usual_widths
from gossamer.compression.compacting.solving import NARROWED
from gossamer.core.errors import InputError
from gossamer.core.files import as_path, replacing
from gossamer.networks.attention import NarrowMultiheadAttention
from gossamer.networks.normalisation import NarrowNorm, narrow

_WIDTHS = ("in_features", "out_features", "in_channels", "out_channels", "groups", "num_features")
"""What layers keep of their widths beside the shapes of their weights."""
_OF_NORMS = ("zeros", "axis")
"""What normalisations keep that count channels which are gone."""
_NOTE = "gossamer.widths"


def save_shrunk(model: nn.Module, path: Path) -> None:
    """Write the weights of a network whose layers may be narrower than its class makes them."""
    widths = {
        name: {
            w: int(vars(module)[w])
            for w in (
                *_WIDTHS,
                *(_OF_NORMS if isinstance(module, NarrowNorm) else ()),
                *vars(module).get(NARROWED, ()),
            )
            if isinstance(vars(module).get(w), int)
        }
        for name, module in model.named_modules()
    }
    note = json.dumps({name: found for name, found in widths.items() if found})
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, {_NOTE: note})


def load_shrunk(model: nn.Module, path: Path | str) -> nn.Module:
    """Return a network with the weights and widths of a file that `gossamer.shrink` wrote.

    Parameters
    ----------
    model
        The network as its own code makes it; it stays as it is.
    path
        The file, ``model.safetensors``.

    Returns
    -------
    nn.Module
        A copy of the same classes and names, as narrow as the file says, in evaluation mode. It
        trains, saves and exports like any module.

    Raises
    ------
    InputError
        If the file is none, or of another network.

    Examples
    --------
    >>> import tempfile
    >>> small = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_shrunk(small, Path(folder) / "model.safetensors")
    ...     wide = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    ...     loaded = load_shrunk(wide, Path(folder) / "model.safetensors")
    >>> loaded[0], bool((loaded(torch.ones(1, 4)) == small(torch.ones(1, 4))).all())
    (Linear(in_features=4, out_features=2, bias=True), True)
    """
    path = as_path(path)
    try:
        with safe_open(path, "pt") as file:
            note = (file.metadata() or {}).get(_NOTE)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as weights ({error}).") from error
    if note is None:
        raise InputError(
            f"{path}: does not say how wide its layers are, as a file of gossamer.shrink does: "
            "load it with model.load_state_dict."
        )
    small = plain_copy(model)
    _set_widths(small, json.loads(note), path)
    _set_tensors(small, tensors, path)
    for module in small.modules():
        if isinstance(module, nn.MultiheadAttention) and not has_usual_widths(module):
            NarrowMultiheadAttention.of(module)
    return small.eval()


def _set_widths(model: nn.Module, widths: Mapping[str, Mapping[str, int]], path: Path) -> None:
    modules = dict(model.named_modules())
    if missing := [name for name in widths if name not in modules]:
        raise InputError(_another(path, f"a module {missing[0]!r}"))
    for name, found in widths.items():
        module = modules[name]
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and "zeros" in found:
            narrow(module, found["zeros"], found["axis"])
            continue
        for width, value in found.items():
            setattr(module, width, value)
        if other := set(found).difference(_WIDTHS, _OF_NORMS):
            setattr(module, NARROWED, tuple(sorted(other)))


def _set_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    own = {name for name, _ in (*model.named_parameters(remove_duplicate=False),
                                *model.named_buffers(remove_duplicate=False))}  # fmt: skip
    held = {name for name in model.state_dict() if name in own}
    tied = _tied(model)
    if missing := sorted(held - set(tensors)):
        raise InputError(f"{path}: lacks {missing[0]!r}, which the network has: is it the same?")
    for name, value in tensors.items():
        place, _, leaf = name.rpartition(".")
        try:
            module = model.get_submodule(place)
        except AttributeError as error:
            raise InputError(_another(path, repr(name))) from error
        before: Any = getattr(module, leaf, None)
        if leaf in module._buffers:
            module._buffers[leaf] = value
        elif isinstance(before, nn.Parameter) or leaf in module._parameters:
            trained = before.requires_grad if before is not None else True
            module._parameters[leaf] = nn.Parameter(value, trained and value.is_floating_point())
        else:
            raise InputError(_another(path, repr(name)))
    for first, *others in tied:
        for name in others:
            if torch.equal(model.get_parameter(name), model.get_parameter(first)):
                place, _, leaf = name.rpartition(".")
                model.get_submodule(place)._parameters[leaf] = model.get_parameter(first)


def _tied(model: nn.Module) -> list[list[str]]:
    """Return the names of each parameter that stands in several places."""
    found: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(parameter), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def _another(path: Path, what: str) -> str:
    return f"{path}: holds {what}, which the network has not: give the network it was made from."

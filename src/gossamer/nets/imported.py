"""A user's own network: ``package.module:callable``, imported, called and checked."""

import contextlib
import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.streams import stream_seed


def imported_network(name: str, input_shape: Sequence[int], classes: int, seed: int) -> nn.Module:
    """Return the network that a user's callable gives: see `gossamer.nets.build`."""
    with _current_directory_importable():
        return _network(name, _module(name), input_shape, classes, seed)


def imported_identity(
    name: str, input_shape: Sequence[int], classes: int, seed: int
) -> dict[str, Any]:
    """Return the hashes of a user's network: see `gossamer.nets.identity`."""
    with _current_directory_importable():
        module = _module(name)
        network = _network(name, module, input_shape, classes, seed)
    return {
        "name": name,
        "sources": _source_hashes(module, network),
        "weights": weights_hash(network.state_dict()),
    }


def weights_hash(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of tensors, in order.

    Entries that are not tensors (a module's extra state) do not count.

    Examples
    --------
    >>> weights_hash({"a": torch.zeros(2)}) == weights_hash({"a": torch.zeros(2)})
    True
    >>> weights_hash({"a": torch.zeros(2)}) == weights_hash({"b": torch.zeros(2)})
    False
    """
    digest = hashlib.sha256()
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    """Put the current directory first on `sys.path`, as ``python -m`` does, for a while."""
    path = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path


def _module(name: str) -> ModuleType:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise InputError(
            f"The network {name!r} is not of the form 'package.module:callable': give the module "
            "as in an import statement, a colon, and the name of a function or class in it."
        )
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, module):
            raise InputError(
                f"The network {name!r} needs the module {module!r}, and there is no module "
                f"{error.name!r} in {Path.cwd()} nor among the installed packages: run in the "
                "folder that holds it, or install it."
            ) from error
        raise InputError(
            f"The module {module!r} of the network {name!r} fails when it is imported "
            f"({_told(error)}): make 'import {module}' work first."
        ) from error


def _is_part(missing: str | None, module: str) -> bool:
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _callable(name: str, module: ModuleType) -> Callable[[], Any]:
    attribute = name.partition(":")[2]
    if not hasattr(module, attribute):
        raise InputError(
            f"The module {module.__name__!r} of the network {name!r} has no {attribute!r}: name a "
            "function or class in it that returns the network."
        )
    found = getattr(module, attribute)
    if not callable(found):
        raise InputError(
            f"The network {name!r} is of type {type(found).__name__}, but a function or class was "
            "expected: name one that returns the network when it is called without arguments."
        )
    return found  # type: ignore[no-any-return]  # whether it takes no arguments, the call tells


def _network(
    name: str, module: ModuleType, input_shape: Sequence[int], classes: int, seed: int
) -> nn.Module:
    make = _callable(name, module)
    # Only the processor's generator is seeded, as only there the weights are drawn: the
    # generators of other devices need not be saved.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(stream_seed(seed, "initialise"))
        network = _called(name, make)
        _check_output(name, network, input_shape, classes)
    return network.train()


def _called(name: str, make: Callable[[], Any]) -> nn.Module:
    try:
        network = make()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"The network {name!r} fails when it is called without arguments ({_told(error)}): "
            "give a function or class that needs none and returns the network."
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"The network {name!r} returned a value of type {type(network).__name__}, but a "
            "torch.nn.Module was expected: return the network itself."
        )
    if next(network.parameters(), None) is None:
        raise InputError(
            f"The network {name!r} has no parameters, but a network to be trained and pruned was "
            "expected: register its weights as nn.Parameter or as submodules."
        )
    return network.float().cpu()


def _check_output(name: str, network: nn.Module, input_shape: Sequence[int], classes: int) -> None:
    shape = (2, *input_shape)
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(shape))
    except Exception as error:
        raise InputError(
            f"The network {name!r} fails on an input of shape {shape} ({_told(error)}): it must "
            "take a batch of the dataset's examples."
        ) from error
    got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    if not isinstance(output, Tensor) or output.shape != (2, classes):
        raise InputError(
            f"The network {name!r} gives an output of {got} for an input of shape {shape}, but "
            f"{(2, classes)} was expected: it must return one logit per class of the dataset."
        )


def _source_hashes(module: ModuleType, network: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of the named module's file and of those that define its layers.

    Layers of torch itself do not count, as the record of a trial holds torch's version.
    """
    layers = {type(layer).__module__ for layer in network.modules()}
    defining = {layer for layer in layers if layer.partition(".")[0] != "torch"}
    return {name: _file_hash(name) for name in sorted({module.__name__, *defining})}


def _file_hash(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        raise InputError(
            f"The module {module!r} has no source file, but the key of a trial holds the hash of "
            "its network's source: put the network into a .py file."
        )
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _told(error: BaseException) -> str:
    """Return an error on one line, fit to stand inside a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

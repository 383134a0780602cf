"""A user's own network: ``package.module:callable``, imported, called and checked.

The module may be given as a file, too: ``folder/nets.py:callable``.
"""

import ast
import contextlib
import hashlib
import importlib
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.core.formats import listed
from gossamer.networks.arguments import check_call, shown_arguments, typed_arguments
from gossamer.networks.generators import generators_kept, seed_generators

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


def imported_network(
    name: str,
    input_shape: Sequence[int],
    classes: int | None,
    seed: int,
    args: Mapping[str, Any] = NO_ARGUMENTS,
) -> nn.Module:
    """Return the network that a user's callable gives: see `gossamer.networks.build`.

    Without a number of classes it may give any tensor that has a row for each example.
    """
    with _importable(name):
        return _network(name, _module(name), input_shape, classes, seed, args)


def imported_identity(
    name: str,
    input_shape: Sequence[int],
    classes: int,
    seed: int,
    args: Mapping[str, Any] = NO_ARGUMENTS,
) -> dict[str, Any]:
    """Return the hashes of a user's network: see `gossamer.networks.identity`."""
    with _importable(name):
        module = _module(name)
        network = _network(name, module, input_shape, classes, seed, args)
        sources = _source_hashes(module.__name__, network)
    # A buffer that is not persistent shapes the outputs too, and is in no state_dict.
    buffers = dict(network.named_buffers(remove_duplicate=False))
    weights = network.state_dict()
    weights |= {key: buffers[key] for key in buffers if key not in weights}
    found = {"name": name, "sources": sources, "weights": weights_hash(weights)}
    return found | ({"args": dict(args)} if args else {})


def imported_value(name: str, what: str, *, called: bool = True) -> Any:
    """Return what a user's ``package.module:callable`` is, or what it gives without arguments.

    Parameters
    ----------
    name
        With the module's name or its file before the colon.
    what
        What it is to give, for complaints, such as ``"data"``.
    called
        Whether it is called; otherwise the callable itself is returned.

    Raises
    ------
    InputError
        If the module cannot be imported, lacks the callable, or that fails.
    """
    with _importable(name):
        make = _callable(name, _module(name, what), what)
        if not called:
            return make
        try:
            return make()
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"The {what} {name!r} fails when it is called without arguments ({_told(error)}): "
                f"name a function that gives the {what} so."
            ) from error


def imported_module(name: str, args: Mapping[str, Any] = NO_ARGUMENTS, seed: int = 0) -> nn.Module:
    """Return the network that a user's callable gives, whatever it takes and gives.

    Raises
    ------
    InputError
        As `gossamer.networks.build`, but for its outputs, which are not looked at.
    """
    with _importable(name):
        make = _callable(name, _module(name))
        check_call(name, make, args)
        with generators_kept(), torch.device("cpu"):
            seed_generators(seed)
            return _called(name, make, typed_arguments(name, make, args)).train()


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
def _importable(name: str) -> Iterator[None]:
    """Put the current directory first on `sys.path`, as ``python -m`` does, for a while.

    Before it comes the folder of a file that a network is named by, as ``python file.py`` does.
    """
    path = list(sys.path)
    file = _named_file(name)
    first = [] if file is None else [str(file.absolute().parent)]
    sys.path[:0] = [*first, str(Path.cwd())]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path


def _named_file(name: str) -> Path | None:
    """Return the file that a network is named by, if it is."""
    module, _, _ = name.rpartition(":")
    return Path(module) if module.endswith(".py") else None


def _module(name: str, what: str = "network") -> ModuleType:
    module, _, attribute = name.rpartition(":")
    file = _named_file(name)
    if file is not None:
        if not file.is_file():
            raise InputError(f"The {what} {name!r} is in {file}, but there is no such file.")
        module = file.stem
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise InputError(
            f"The {what} {name!r} is not of the form 'package.module:callable': give the module "
            "as in an import statement, or its file, a colon, and the name of a function or class "
            "in it."
        )
    found = _imported(name, module, what)
    if file is not None and not _is_file_of(found, file):
        raise InputError(
            f"The {what} {name!r} is in {file}, but Python has another module {module!r} already, "
            f"from {getattr(found, '__file__', None) or 'itself'}: give the file another name."
        )
    return found


def _is_file_of(module: ModuleType, file: Path) -> bool:
    theirs = getattr(module, "__file__", None)
    return theirs is not None and Path(theirs).exists() and file.samefile(theirs)


def _imported(name: str, module: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, module):
            raise InputError(
                f"The {what} {name!r} needs the module {module!r}, and there is no module "
                f"{error.name!r} in {Path.cwd()} nor among the installed packages: run in the "
                "folder that holds it, or install it."
            ) from error
        raise InputError(
            f"The module {module!r} of the {what} {name!r} fails when it is imported "
            f"({_told(error)}): make 'import {module}' work first."
        ) from error


def _is_part(missing: str | None, module: str) -> bool:
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _callable(name: str, module: ModuleType, what: str = "network") -> Callable[..., Any]:
    attribute = name.rpartition(":")[2]
    if not hasattr(module, attribute):
        raise InputError(
            f"The module {module.__name__!r} of the {what} {name!r} has no {attribute!r}: name a "
            f"function or class in it that returns the {what}."
        )
    found = getattr(module, attribute)
    if not callable(found):
        raise InputError(
            f"The {what} {name!r} is of type {type(found).__name__}, but a function or class was "
            f"expected: name one that returns the {what} when it is called."
        )
    return found  # type: ignore[no-any-return]  # what it takes and returns is checked at the call


def _network(
    name: str,
    module: ModuleType,
    input_shape: Sequence[int],
    classes: int | None,
    seed: int,
    args: Mapping[str, Any],
) -> nn.Module:
    make = _callable(name, module)
    check_call(name, make, args)
    args = typed_arguments(name, make, args)
    with generators_kept(), torch.device("cpu"):
        seed_generators(seed)
        network = _called(name, make, args)
        _check_output(name, network, input_shape, classes)
    return network.train()


def _called(name: str, make: Callable[..., Any], args: Mapping[str, Any]) -> nn.Module:
    try:
        network = make(**deepcopy(dict(args)))
    except (Exception, SystemExit) as error:
        how = f"as {name}{shown_arguments(args)}" if args else "without arguments"
        texts = [
            f"{one} was taken as the text {args[one]!r}"
            for one in args
            if isinstance(args[one], str)
        ]
        raise InputError(
            f"The network {name!r} fails when it is called {how} ({_told(error)}): "
            + (f"{listed(texts)}; give what it can work with, or " if texts else "give ")
            + "a function or class that returns the network when it is called so.",
            fields=("args",) if args else (),
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
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(
            f"The network {name!r} has only frozen parameters, but a network to be trained was "
            "expected: leave requires_grad of at least one of them True."
        )
    return network.float().cpu()


def _check_output(
    name: str, network: nn.Module, input_shape: Sequence[int], classes: int | None
) -> None:
    shape = (2, *input_shape)
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(shape))
    except Exception as error:
        whose = "the dataset's examples" if classes is not None else "examples of --input-shape"
        raise InputError(
            f"The network {name!r} fails on an input of shape {shape} ({_told(error)}): it must "
            f"take a batch of {whose}."
        ) from error
    got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    if classes is None:
        if not isinstance(output, Tensor) or output.shape[:1] != (2,):
            raise InputError(
                f"The network {name!r} gives an output of {got} for an input of shape {shape}, but "
                "one tensor with a row for each example was expected: return that alone."
            )
    elif not isinstance(output, Tensor) or output.shape != (2, classes):
        raise InputError(
            f"The network {name!r} gives an output of {got} for an input of shape {shape}, but "
            f"{(2, classes)} was expected: it must return one logit per class of the dataset."
        )


_VERSIONED = frozenset({"gossamer", "torch"})


def _source_hashes(module: str, network: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of the files of the named module, of its layers and of what they import.

    Layers count with their base classes. Those of torch and of this library do not, as the record
    of a trial holds their versions.
    """
    bases = {base.__module__ for layer in network.modules() for base in type(layer).__mro__}
    passed_over = _VERSIONED | sys.stdlib_module_names
    defining = {base for base in bases if _package(base) not in passed_over}
    files = _imported_files({module, *defining}, own=_package(module))
    return {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in sorted(files)}


def _imported_files(modules: set[str], own: str) -> dict[str, Path]:
    """Return the files of modules and of all that they import, themselves or through others.

    Import statements are read, not what happens to be loaded: the same source then gives the same
    files in every process. Installed packages are not followed, unless it is the `own` one.
    """
    files: dict[str, Path] = {}
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file is None and name in modules:
            raise InputError(
                f"The module {name!r} has no source file, but the key of a trial holds the hash of "
                "its network's source: put the network into a .py file."
            )
        if file is None:
            continue
        followed = _package(name) == own or not _is_installed(name, file)
        if followed or name in modules:
            files[name] = file
        if followed:
            waiting |= _imports(name, file) - files.keys()
    return files


def _package(module: str) -> str:
    return module.partition(".")[0]


def _file(module: str) -> Path | None:
    """Return the file of a module, which may not be loaded, without loading it."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
    else:
        spec, places = None, sys.path
        for name in accumulate(module.split("."), "{}.{}".format):
            spec = PathFinder.find_spec(name, places) if places else None
            places = (spec and spec.submodule_search_locations) or []
        file = spec.origin if spec and spec.has_location else None
    return Path(file) if file is not None and Path(file).is_file() else None


def _is_installed(module: str, file: Path) -> bool:
    return (
        _package(module) in _VERSIONED
        or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)
        or file.is_relative_to(sysconfig.get_path("stdlib"))
    )


def _imports(module: str, file: Path) -> set[str]:
    """Return the modules that the import statements of a file may mean, and their packages."""
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    found = {module}
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            with contextlib.suppress(ImportError):  # a relative import that leads nowhere
                source = resolve_name("." * node.level + (node.module or ""), package)
                found |= {f"{source}.{alias.name}" for alias in node.names}
    return {part for name in found for part in accumulate(name.split("."), "{}.{}".format)}


def _parsed(file: Path) -> ast.AST:
    """Return the syntax of a file; one that is not Python, such as a compiled one, is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return ast.Module([], [])


def _told(error: BaseException) -> str:
    """Return an error on one line, fit to stand inside a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

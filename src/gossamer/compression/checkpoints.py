"""Weights of a network from a file that a training wrote, without running what such a file holds.

Trainings write the state_dict alone, or inside a dict beside the optimizer's; wrappers put prefixes
before its names. Which part of a file is the network's, the network itself tells: the names and
shapes of its own state_dict.
"""

import pickle
import re
import struct
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.core.system import failure_reason

State = Mapping[str, Any]

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names that torch's own wrappers put between the names of modules."""
_COUNTS = "num_batches_tracked"
"""Of batch normalisations; evaluation needs none, and older files lack them."""
_DEPTH = 2
_MOST_SHOWN = 8
_MAGICS = {
    b"\x89GSM": "a compressed file",
    b"\x93NUM": "an array of NumPy",
    b"\x1f\x8b": "a compressed archive",
}
_ALONE = "write the weights alone, by torch.save(model.state_dict(), 'weights.pt'), and give those"


def load_weights(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a file.

    Parameters
    ----------
    network
        Changed in place.
    path
        A safetensors file, or what `torch.save` wrote: a state_dict, or a dict that holds one
        beside other things. Prefixes of wrappers such as ``module.`` and ``_orig_mod.`` are left
        out, and ``weight_orig`` times ``weight_mask``, as `torch.nn.utils.prune` names them, is
        the weight. It is read with ``weights_only=True``.

    Raises
    ------
    InputError
        If the file cannot be read, holds no weights or several that fit, or others than the
        network has, which are then listed.
    """
    candidates = list(_candidates(read_tensors(path), network))
    if not candidates:
        raise InputError(f"{path}: holds no tensors by name; a state_dict was expected.")
    complete = [one for one in candidates if not any(_lacks(one.state, network))]
    if len(complete) > 1 and not _all_equal([one.state for one in complete]):
        example = max(complete, key=lambda one: len(one.prefix))
        raise InputError(
            f"{path}: holds several state_dicts that fit, {', '.join(map(str, complete))}: write "
            f"the one to be used alone, such as by torch.save({example.expression(path)}, "
            "'weights.pt')."
        )
    chosen = min(complete or candidates, key=lambda one: len(one.problems(network)))
    if problems := chosen.problems(network):
        inside = f" (in {chosen})" if chosen.keys or chosen.prefix else ""
        raise InputError(
            f"{path}: holds other weights{inside} than the network has: "
            f"{_shortened(problems)}; the state_dict of this very network was expected."
        )
    own = network.state_dict()
    taken = {name: chosen.state[name] for name in own if name in chosen.state}
    _check_values(path, taken, own)
    network.load_state_dict(own | taken)


def _check_values(path: Path, taken: State, own: State) -> None:
    """Refuse numbers that the network cannot have been trained to, or would hold as others."""
    tensors = {name: value for name, value in taken.items() if isinstance(own[name], Tensor)}
    real = [name for name in tensors if own[name].is_floating_point() or own[name].is_complex()]
    whole = [n for n in real if not (tensors[n].is_floating_point() or tensors[n].is_complex())]
    if whole:
        held = f"{whole[0]} is {tensors[whole[0]].dtype}"
        raise InputError(
            f"{path}: holds whole numbers for weights that the network has in floating point "
            f"({_shortened(whole)}; {held}), as quantized files do, which lack their scales here: "
            "give the file from before quantization, or multiply by the scales first."
        )
    cut = [n for n in tensors if not n.endswith(_COUNTS) and not _fits(tensors[n], own[n])]
    if cut:
        raise InputError(
            f"{path}: holds fractions or complex numbers where the network has none "
            f"({_shortened(cut)}); the state_dict of this very network was expected."
        )
    broken = [n for n in real if not tensors[n].to(own[n].dtype).isfinite().all()]
    if broken:
        raise InputError(
            f"{path}: holds NaN or infinite numbers, or some beyond the range of the network's "
            f"type ({_shortened(broken)}); give weights from before the training diverged."
        )


def _fits(given: Tensor, own: Tensor) -> bool:
    """Return whether conversion to the type of a network's tensor loses no more than digits."""
    if own.is_complex() or (own.is_floating_point() and not given.is_complex()):
        return True
    return not given.is_complex() and bool((given == given.to(own.dtype)).all())


@dataclass(frozen=True)
class _Candidate:
    """A part of a file that may be the network's state_dict."""

    keys: tuple[str, ...]
    """Lead to it from the outermost dict."""
    prefix: str
    """Stands before its names in the file, and is left out here."""
    state: State

    def __str__(self) -> str:
        place = "".join(f"[{key!r}]" for key in self.keys)
        named = f"names that begin with {self.prefix!r}" if self.prefix else ""
        return ", ".join(filter(None, (place, named))) or "its own names"

    def expression(self, path: Path) -> str:
        """Return the Python that reads this part alone."""
        whole = f"torch.load({str(path)!r}, weights_only=True)"
        read = whole + "".join(f"[{key!r}]" for key in self.keys)
        if not self.prefix:
            return read
        prefix = repr(self.prefix)
        return (
            f"{{k.removeprefix({prefix}): v for k, v in {read}.items() if k.startswith({prefix})}}"
        )

    def problems(self, network: nn.Module) -> list[str]:
        """Return how it differs from what the network takes."""
        expected = network.state_dict()
        more = (
            f"{name} is in the file alone"
            for name, value in self.state.items()
            if name not in expected and isinstance(value, Tensor)
        )
        return [*_lacks(self.state, network), *more]


def read_tensors(path: Path) -> Any:
    """Return what a file of weights holds: tensors, by name or in dicts within dicts.

    Raises
    ------
    InputError
        If it cannot be read, or holds what only running code would bring back.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read as weights ({failure_reason(error)}); a safetensors file, or "
            "one that torch.save wrote of a state_dict, was expected."
        ) from error
    for magic, what in _MAGICS.items():
        if start.startswith(magic):
            raise InputError(
                f"{path}: is {what}, not weights; a safetensors file, or one that torch.save wrote "
                "of a state_dict, was expected."
            )
    is_safetensors = start[8:] == b"{" or path.suffix == ".safetensors"
    return _read_safetensors(path) if is_safetensors else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: cannot be read as weights ({_one_line(error)}); a whole safetensors file of "
            "the network's state_dict was expected."
        ) from error


_ENDS_OF_DAMAGED = (
    OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
"""What a damaged pickle ends in, which is of many kinds."""


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # of torch about what it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise InputError(_damaged(path)) from error
        raise InputError(f"{path}: {_held(path, refused[1])}.") from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise InputError(f"{path}: is a TorchScript archive, not weights; {_ALONE}.") from error
        raise InputError(_damaged(path)) from error
    except _ENDS_OF_DAMAGED as error:
        raise InputError(_damaged(path)) from error


def _numpy_scalars() -> list[Any]:
    """Return what NumPy's numbers are stored by, which makes numbers of bytes and nothing else.

    Files of NumPy 1 name it by another module than those of NumPy 2.
    """
    make: Any = np.float64(0).__reduce__()[0]
    names = (f"numpy.{core}.multiarray.scalar" for core in ("core", "_core"))
    types = {type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}
    return [*((make, name) for name in names), np.dtype, *types]


def _held(path: Path, name: str) -> str:
    """Return what a file holds beside tensors, by the name of its class, and what to do."""
    trusted = (
        "if you trust where the file comes from, as its code runs then, read it with "
        f"torch.load({str(path)!r}, weights_only=False), and "
    )
    if name == "argparse.Namespace":
        return (
            f"holds the options of a script beside tensors ({name}), which PyTorch reads only "
            f"where it is allowed to: with torch.serialization.safe_globals([argparse.Namespace]) "
            f"around it, torch.load({str(path)!r}, weights_only=True) reads it and runs no code "
            "of the file; write the state_dict in that with torch.save, and give the new file"
        )
    if name.startswith("torch.nn.") or name.partition(".")[0] not in sys.stdlib_module_names | {
        "torch",
        "numpy",
        "builtins",
    }:
        return (
            f"holds Python objects beside tensors ({name}), as a whole model does, which only "
            f"running code from the file could read; {trusted}{_ALONE}"
        )
    return (
        f"holds Python objects beside tensors ({name}), which only running code from the file "
        f"could read; {trusted}write the state_dict in that alone with torch.save, and give that "
        "file"
    )


def _damaged(path: Path) -> str:
    return (
        f"{path}: is damaged, not whole, or nothing that torch.save wrote; write it again, or give "
        "a safetensors file."
    )


def _candidates(read: Any, network: nn.Module) -> Iterator[_Candidate]:
    expected = network.state_dict()
    twins = _twins(network)
    for keys, state in _states(read):
        names = _without_wrappers(_multiplied(state), expected)
        for prefix in _prefixes(names, expected):
            own = {n.removeprefix(prefix): v for n, v in names.items() if n.startswith(prefix)}
            for name, twin in twins.items():  # of which safetensors keeps one, whichever
                for one, other in ((name, twin), (twin, name)):
                    if one not in own and other in own:
                        own[one] = own[other]
            yield _Candidate(keys, prefix, own)


def _states(read: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    """Yield dicts that hold tensors by name, with the keys that lead to them."""
    if not isinstance(read, Mapping) or not all(isinstance(key, str) for key in read):
        return
    if any(isinstance(value, Tensor) for value in read.values()):
        yield keys, read
    if len(keys) < _DEPTH:
        for key, value in read.items():
            yield from _states(value, (*keys, key))


def _without_wrappers(state: State, expected: State) -> dict[str, Any]:
    return {
        name
        if name in expected
        else ".".join(part for part in name.split(".") if part not in _WRAPPERS): value
        for name, value in state.items()
    }


def _multiplied(state: State) -> dict[str, Any]:
    """Return a state in which each original weight and its mask became the pruned weight."""
    found = dict(state)
    for name in state:
        stem = name.removesuffix("_orig")
        mask = state.get(f"{stem}_mask")
        if stem != name and isinstance(mask, Tensor) and mask.shape == state[name].shape:
            del found[name], found[f"{stem}_mask"]
            found[stem] = state[name] * mask
    return found


def _prefixes(state: State, expected: State) -> list[str]:
    """Return what stands before names that the network has."""
    found = {""}
    for name in state:
        parts = name.split(".")
        for start in range(1, len(parts)):
            rest = ".".join(parts[start:])
            if rest in expected:
                found.add(name.removesuffix(rest))
    return sorted(found)


def _twins(network: nn.Module) -> dict[str, str]:
    """Return for each name of a shared tensor but the first that first one."""
    first: dict[tuple[Any, ...], str] = {}
    found = {}
    for name, value in network.state_dict().items():
        if isinstance(value, Tensor) and value.numel():
            place = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
            found[name] = first.setdefault(place, name)
    return {name: leader for name, leader in found.items() if name != leader}


def _lacks(state: State, network: nn.Module) -> Iterator[str]:
    """Yield what the network takes and a state has not, or in another shape."""
    for name, own in network.state_dict().items():
        given = state.get(name)
        if not isinstance(own, Tensor) or (given is None and name.endswith(_COUNTS)):
            continue
        if given is None:
            yield f"{name} is missing"
        elif not isinstance(given, Tensor):
            yield f"{name} is {type(given).__name__}, not a tensor"
        elif given.shape != own.shape:
            yield f"{name} is {list(given.shape)} in the file and {list(own.shape)} in the network"


def _shortened(problems: Sequence[str]) -> str:
    more = len(problems) - _MOST_SHOWN
    shown = ", ".join(problems[:_MOST_SHOWN])
    return f"{shown}, and {more} more" if more > 0 else shown


def _all_equal(states: Sequence[State]) -> bool:
    first, *others = ({k: v for k, v in s.items() if isinstance(v, Tensor)} for s in states)
    return all(
        other.keys() == first.keys() and all(torch.equal(first[k], other[k]) for k in first)
        for other in others
    )


def _one_line(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return " ".join(reason.split()).rstrip(".")

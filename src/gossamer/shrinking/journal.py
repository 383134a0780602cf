"""What a search keeps on disk, so that one that was killed goes on where it stood."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.core.files import replacing
from gossamer.core.system import failure_reason
from gossamer.graph.examples import tensors_in
from gossamer.masks import Mask
from gossamer.networks.imported import weights_hash
from gossamer.records.shrinking import Tried
from gossamer.shrinking.data import Data
from gossamer.shrinking.forms import same
from gossamer.shrinking.options import Options
from gossamer.shrinking.split import Split, mapped
from gossamer.shrinking.task import Task, device_of, outputs_of

VERSION = 2
"""Of the search: states of another one are not gone on with."""
_FOLDER = "state"
_LOOKED_AT = 16
_NUMBERS = 256


@dataclass(eq=False)
class Journal:
    """The candidates so far, each with its weights and its mask; in memory without a folder.

    Parameters
    ----------
    folder
        Where they are kept; None keeps them in memory.
    key
        Of what determines the search.

    Raises
    ------
    InputError
        If the folder holds another search.
    """

    folder: Path | None
    key: str
    tried: list[Tried] = field(default_factory=list)
    earlier: float = 0.0
    """Seconds that earlier calls took, up to the last of what they kept."""
    _opened: float = field(default_factory=time.monotonic)
    _states: dict[int, tuple[dict[str, Tensor], Mask]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            known = self.note("search")
            if known is None:
                self.write("search", {"key": self.key, "version": VERSION})
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({failure_reason(error)}), expected a folder "
                "for what is found."
            ) from error
        if known is not None and known != {"key": self.key, "version": VERSION}:
            raise self.another()
        self.earlier = self.note("spent") or 0.0
        while (told := self.note(_name(len(self.tried)))) is not None:
            self.tried.append(Tried.model_validate(told))

    @property
    def _place(self) -> Path:
        assert self.folder is not None
        return self.folder / _FOLDER

    def note(self, name: str) -> Any:
        """Return a note that was kept under a name; None if there is none."""
        if self.folder is None:
            return None
        path = self._place / f"{name}.json"
        try:
            return json.loads(path.read_text()) if path.is_file() else None
        except ValueError as error:
            raise InputError(
                f"{path}: is damaged ({error}): remove {self._place} to begin anew."
            ) from error

    def write(self, name: str, value: Any) -> None:
        """Keep a note."""
        if self.folder is not None:
            with replacing(self._place / f"{name}.json") as path:
                path.write_text(json.dumps(value, indent=1, allow_nan=False))

    def check_look(self, look: "Look") -> None:
        """Refuse to go on with what was kept of a network that answers otherwise.

        Its class, its loss and its metric are code, which no hash of weights and data tells.

        Raises
        ------
        InputError
            If outputs, losses, metrics or examples are others than they were.
        """
        known = self.note("look")
        if known is None:
            self.write("look", look.to_dict())
        elif not look.is_like(known):
            raise self.another()

    def another(self) -> InputError:
        """Return what is raised where the folder holds another search."""
        return InputError(
            f"{self.folder}: holds a search of another network, of other data, with other "
            f"options or of another version: give another folder, or remove {self._place} to "
            "begin anew."
        )

    def keep(self, tried: Tried, network: nn.Module, mask: Mask) -> None:
        """Keep a candidate; its note comes last, so that it is there whole or not at all."""
        state = {name: value.detach().cpu().clone() for name, value in _tensors(network).items()}
        if self.folder is None:
            self._states[tried.number] = (state, mask)
        else:
            name = _name(tried.number)
            with replacing(self._place / f"{name}.safetensors") as path:
                save_file({n: value.contiguous() for n, value in state.items()}, path)
            mask.save(self._place / f"{name}.mask.safetensors")
            self.write(name, tried.model_dump(mode="json"))
        self.tried.append(tried)
        self.keep_time()

    def keep_time(self) -> None:
        """Keep how long the search has taken, for a later call that goes on."""
        self.write("spent", self.earlier + time.monotonic() - self._opened)

    def restore(self, number: int, network: nn.Module) -> Mask:
        """Give a network the weights of a candidate, and return its mask."""
        if self.folder is None:
            state, mask = self._states[number]
        else:
            state = load_file(self._place / f"{_name(number)}.safetensors")
            mask = Mask.load(self._place / f"{_name(number)}.mask.safetensors")
        own = _tensors(network)
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)
        return mask


def _name(number: int) -> str:
    return f"candidate-{number:02d}"


def _tensors(network: nn.Module) -> Mapping[str, Tensor]:
    return {n: value for n, value in network.state_dict().items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Look:
    """A few of the numbers that a network gives, and digests of examples that no key holds.

    Numbers may differ by rounding, as other threads or processors make it; digests may not.
    """

    numbers: list[list[float]]
    """The loss, the metric, and each output."""
    digests: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as JSON has it."""
        return {"numbers": self.numbers, "digests": self.digests}

    def is_like(self, known: Mapping[str, Any]) -> bool:
        """Return whether the same network gave both, on the same examples."""
        return list(known["digests"]) == self.digests and (
            [len(one) for one in known["numbers"]] == [len(one) for one in self.numbers]
            and all(map(_are_close, known["numbers"], self.numbers))
        )


def _are_close(held: Sequence[float], own: Sequence[float]) -> bool:
    scale = float(np.abs(held).max(initial=0.0))
    return bool(np.allclose(held, own, rtol=1e-3, atol=1e-3 * scale))


def look_at(network: nn.Module, data: Data, task: Task) -> Look:
    """Return what a network in evaluation mode and its task give on a few validation examples."""
    inputs, targets = next(data.validation.batches(_LOOKED_AT))
    where = device_of(network)
    with torch.no_grad():
        outputs = outputs_of(network, inputs, where)
        targets = mapped(targets, lambda one: one.to(where))
        values = [
            task.loss(outputs, targets).reshape(1),
            task.values(outputs, targets, len(tensors_in(targets)[0])),
            *(one.reshape(-1)[:_NUMBERS] for one in tensors_in(outputs)),
        ]
    numbers = [value.double().nan_to_num(0.0, 0.0, 0.0).tolist() for value in values]
    splits = (data.train, data.validation, data.test)
    digests = [_digest(one) for one in splits if one is not None and not one.is_resident]
    return Look(numbers, digests)


def _digest(split: Split) -> str:
    """Return a digest of some examples that are read anew each time, as one seed augments them.

    Where they draw by streams of their own, which no seed reaches, targets alone count.
    """
    some = split.sample(_LOOKED_AT, 0)
    (once,), (again,) = (list(some.batches(_LOOKED_AT, seed=0)) for _ in range(2))
    digest = hashlib.sha256()
    for one in tensors_in(once if same(once, again) else once[1]):
        digest.update(one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def search_key(network: nn.Module, data: Data, options: Options, more: Mapping[str, Any]) -> str:
    """Return the hash of what determines a search."""
    digest = hashlib.sha256(weights_hash(network.state_dict()).encode())
    digest.update(json.dumps([options.key(), dict(more), torch.__version__]).encode())
    for split in (data.train, data.validation, data.test):
        if split is None or not split.is_resident:
            digest.update(str(0 if split is None else len(split)).encode())
            continue
        for one in tensors_in((split.inputs, split.targets)):
            flat = one.detach().cpu().contiguous().reshape(-1)
            digest.update(repr((str(one.dtype), tuple(one.shape))).encode())
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()

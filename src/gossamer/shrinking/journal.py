"""What a search keeps on disk, so that one that was killed goes on where it stood."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.core.files import replacing
from gossamer.graph.examples import tensors_in
from gossamer.masks import Mask
from gossamer.networks.imported import weights_hash
from gossamer.records.shrinking import Tried
from gossamer.shrinking.data import Data
from gossamer.shrinking.options import Options

VERSION = 1
"""Of the search: states of another one are not gone on with."""
_FOLDER = "state"


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
    _states: dict[int, tuple[dict[str, Tensor], Mask]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        self._place.mkdir(parents=True, exist_ok=True)
        known = self.note("search")
        if known is None:
            self.write("search", {"key": self.key, "version": VERSION})
        elif known != {"key": self.key, "version": VERSION}:
            raise InputError(
                f"{self.folder}: holds a search of another network, of other data or with other "
                f"options: give another folder, or remove {self._place} to begin anew."
            )
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

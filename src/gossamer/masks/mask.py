"""The mask as a value: which weights are kept."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.core.files import as_path
from gossamer.core.streams import stream
from gossamer.masks.binding import bound, placed
from gossamer.masks.choices import valid_seed
from gossamer.masks.enforcement import Enforcement, enforce
from gossamer.masks.names import bare_name
from gossamer.masks.packing import UNREADABLE, read_packed, write_packed
from gossamer.masks.storages import distinct
from gossamer.masks.units import UnitLayout
from gossamer.masks.values import clear, nonzero


@dataclass(frozen=True, eq=False)
class Mask(Mapping[str, Tensor]):
    """Which weights of a network are kept: parameter names to boolean tensors, True is kept.

    A mask never changes a module, a parameter name or a ``state_dict``; it fits any network
    whose parameters have its names and shapes.

    Parameters
    ----------
    weights
        One boolean tensor for each prunable weight, of the weight's shape.
    attached
        One boolean tensor for each bias, scale or shift that goes with pruned units. These do
        not count in the sparsity.
    unit_dimensions
        The dimension, 0 or 1, along which the units of a weight lie, where it has units.
    provenance
        Where the mask comes from; JSON values.
    unit_groups
        How many groups the units of a weight lie in, where that is more than one (grouped
        transposed convolutions).

    Raises
    ------
    InputError
        If there is no weight, or an entry is not a boolean tensor of a fitting shape.

    Examples
    --------
    >>> mask = Mask({"weight": torch.tensor([[True, False], [False, False]])})
    >>> mask.sparsity, mask.densities
    (0.75, {'weight': 0.25})
    """

    weights: Mapping[str, Tensor]
    attached: Mapping[str, Tensor] = field(default_factory=dict)
    unit_dimensions: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    unit_groups: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in ("weights", "attached"):
            entries = _mapping(kind, getattr(self, kind))
            checked = {bare_name(str(n)): _checked(str(n), value) for n, value in entries.items()}
            object.__setattr__(self, kind, MappingProxyType(checked))
        if not self.weights:
            raise InputError("a mask needs at least one weight")
        if both := set(self.weights) & set(self.attached):
            raise InputError(f"{min(both)} is given as a weight and as attached to units")
        for kind in ("unit_dimensions", "unit_groups"):
            entries = dict(_mapping(kind, getattr(self, kind)))
            object.__setattr__(self, kind, MappingProxyType(entries))
        for name in {**self.unit_dimensions, **self.unit_groups}:
            self._check_units(name)
        object.__setattr__(self, "provenance", MappingProxyType(_json_values(self.provenance)))

    def _check_units(self, name: str) -> None:
        if name not in self.weights:
            raise InputError(f"units are described for {name}, which is no weight of the mask")
        dimension, groups = self.unit_dimensions.get(name), self.unit_groups.get(name, 1)
        shape = tuple(self.weights[name].shape)
        known = type(dimension) is int and dimension in (0, 1) and len(shape) > 1
        grouped = type(groups) is int and groups > 0 and shape[0] % groups == 0
        if not known or not grouped or (dimension == 0 and groups > 1):
            raise InputError(
                f"the units of {name}, of shape {shape}, cannot lie along dimension {dimension!r} "
                f"in {groups!r} groups"
            )

    def __reduce__(self) -> tuple[type["Mask"], tuple[dict[str, Any], ...]]:
        """Copy and pickle by value; the read-only views in it can do neither."""
        return type(self), tuple(dict(getattr(self, item.name)) for item in fields(self))

    def __getitem__(self, name: str) -> Tensor:
        name = bare_name(str(name))
        return self.weights[name] if name in self.weights else self.attached[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.weights
        yield from self.attached

    def __len__(self) -> int:
        return len(self.weights) + len(self.attached)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return (
            set(self.weights) == set(other.weights)
            and set(self.attached) == set(other.attached)
            and all(torch.equal(self[name], other[name]) for name in self)
        )

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: "Mask") -> "Mask":
        """Return the mask that keeps what both keep; an entry of one alone stays as it is.

        Examples
        --------
        >>> first = Mask({"weight": torch.tensor([[True, False, True]])})
        >>> (first & Mask({"weight": torch.tensor([[True, True, False]])}))["weight"].tolist()
        [[True, False, False]]
        """
        return Mask(
            weights=_joined(self.weights, other.weights),
            attached=_joined(self.attached, other.attached),
            unit_dimensions={**self.unit_dimensions, **other.unit_dimensions},
            unit_groups={**self.unit_groups, **other.unit_groups},
            provenance={
                **other.provenance,
                **({"shared": ties} if (ties := {**self._ties, **other._ties}) else {}),
                "earlier": dict(self.provenance),
            },
        )

    def __repr__(self) -> str:
        left = list(self.left_alone)
        more = f" and {len(left) - 4} more" if len(left) > 4 else ""
        by = f" by {score}" if (score := self.provenance.get("score")) else ""
        return (
            f"Mask({len(self.weights)} weights, {self.zeros:,} of {self.size:,} pruned{by}, "
            f"sparsity {self.sparsity:.4f}"
            + (f"; left alone: {', '.join(left[:4])}{more}" if left else "")
            + ")"
        )

    @property
    def left_alone(self) -> dict[str, str]:
        """Parameters of two or more dimensions that `prune` left alone unasked, and why.

        Such as position embeddings, with which no operation multiplies, and layers that have no
        groups of the pattern. It is a part of the provenance.
        """
        left = self.provenance.get("left_alone", {})
        return dict(left) if isinstance(left, dict) else {}

    @property
    def size(self) -> int:
        """How many weights can be pruned."""
        return sum(value.numel() for value in self.weights.values())

    @property
    def zeros(self) -> int:
        """How many weights are pruned."""
        return self.size - sum(int(value.sum()) for value in self.weights.values())

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that is pruned."""
        return self.zeros / self.size

    @property
    def densities(self) -> dict[str, float]:
        """Fraction of each weight tensor that is kept."""
        return {name: int(v.sum()) / v.numel() for name, v in self.weights.items()}

    def apply(self, model: nn.Module) -> None:
        """Set what is pruned to zero in a network, once.

        Raises
        ------
        InputError
            As `bind`.
        """
        for parameter, kept in self.placed(model).values():
            clear(parameter, ~kept)

    def enforce(self, model: nn.Module, optimizer: object) -> Enforcement:
        """Keep what is pruned at zero while `optimizer` trains `model`; see `masks.enforce`."""
        return enforce(self, model, optimizer)

    def bind(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the network's parameters that the mask is about, by name.

        Raises
        ------
        InputError
            If the network lacks one, has it in another shape, or cannot have it masked: it has no
            values yet, is sharded, or shares its memory with others in part.
        """
        return bound(self, model)

    def placed(self, model: nn.Module) -> dict[str, tuple[nn.Parameter, Tensor]]:
        """Return each parameter that the mask is about with what it keeps of it, by name.

        Beside those of `bind` these are the parameters that cover the same memory as one of them
        (a decoder that holds the transpose of its encoder), or did so in the network that the mask
        was found on, and no longer do in a copy: they follow it entry by entry.

        Raises
        ------
        InputError
            As `bind`, or if the mask contradicts itself where two parameters are one weight.
        """
        return placed(self, model, self._ties)

    def violations(self, model: nn.Module) -> dict[str, int]:
        """Count, by parameter, the values that are pruned and yet not zero; empty if all holds.

        What several parameters share is counted once.
        """
        entries = self.placed(model)
        counts = {
            name: int((nonzero(parameter).cpu() & ~entries[name][1]).count_nonzero())
            for name, parameter in distinct({name: p for name, (p, _) in entries.items()}).items()
        }
        return {name: count for name, count in counts.items() if count}

    def overlap(self, other: "Mask") -> float:
        """Return the Jaccard index of the kept weights of two masks of the same network.

        1 means the same weights, 0 none in common; two masks that keep nothing are the same.

        Raises
        ------
        InputError
            If the masks are not over the same weights and shapes.
        """
        self._must_match(other)
        both = sum(int((v & other.weights[name]).sum()) for name, v in self.weights.items())
        either = sum(int((v | other.weights[name]).sum()) for name, v in self.weights.items())
        return both / either if either else 1.0

    def overlap_by_chance(self, other: "Mask") -> float:
        """Return the `overlap` to expect if the kept weights of each layer lay at random.

        The expected number of weights in common over that of weights in either, where each layer
        keeps as many as it does.

        Raises
        ------
        InputError
            If the masks are not over the same weights and shapes.

        Examples
        --------
        >>> half = Mask({"weight": torch.tensor([[True, False, True, False]])})
        >>> round(half.overlap_by_chance(half), 4)
        0.3333
        """
        self._must_match(other)
        mine, theirs = self.densities, other.densities
        sizes = {name: value.numel() for name, value in self.weights.items()}
        both = sum(sizes[name] * mine[name] * theirs[name] for name in sizes)
        either = sum(sizes[name] * (mine[name] + theirs[name]) for name in sizes) - both
        return both / either if either else 1.0

    def overlaps(self, other: "Mask") -> dict[str, float]:
        """Return the Jaccard index of the kept weights, by weight tensor; see `overlap`."""
        self._must_match(other)
        return {
            name: Mask({name: value}).overlap(Mask({name: other.weights[name]}))
            for name, value in self.weights.items()
        }

    def shuffled(self, seed: int, within: str = "layer") -> "Mask":
        """Return a mask with the same counts at random positions.

        Parameters
        ----------
        seed
            Seed of the positions.
        within
            ``"layer"`` keeps the count of every weight tensor, ``"unit"`` that of every unit too
            (rows, for a weight without units). Attached entries are dropped: after a shuffle no
            whole unit is meant to be gone.

        Raises
        ------
        InputError
            If `within` is neither.
        """
        if within not in ("layer", "unit"):
            raise InputError(f"shuffle within 'layer' or 'unit', not {within!r}")
        seed = valid_seed(seed)
        return Mask(
            weights={
                name: _shuffle_all(value, stream(seed, "shuffle mask", name))
                if within == "layer"
                else _shuffle_units(value, self.layout(name), stream(seed, "shuffle mask", name))
                for name, value in self.weights.items()
            },
            unit_dimensions=self.unit_dimensions,
            unit_groups=self.unit_groups,
            provenance={**self.provenance, "shuffled": within, "shuffle_seed": seed},
        )

    @property
    def _ties(self) -> Mapping[str, Any]:
        """What is known of parameters that lay in the memory of others."""
        ties = self.provenance.get("shared")
        return ties if isinstance(ties, Mapping) else {}

    def layout(self, name: str) -> UnitLayout:
        """Return where the units of a weight lie; its rows stand for them where it has none."""
        return UnitLayout(self.unit_dimensions.get(name, 0), self.unit_groups.get(name, 1))

    def save(self, path: str | Path) -> None:
        """Write the mask as packed bits (safetensors), with its provenance.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        notes = {
            "provenance": json.dumps(dict(self.provenance)),
            "units": json.dumps(dict(self.unit_dimensions)),
            "groups": json.dumps(dict(self.unit_groups)),
        }
        write_packed(as_path(path), {"weights": self.weights, "attached": self.attached}, notes)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a mask that `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged or no mask.
        """
        kinds, notes = read_packed(as_path(path))
        try:
            if unknown := set(kinds) - {"weights", "attached"}:
                raise ValueError(f"it holds {min(unknown)!r}")
            return cls(
                weights=kinds.get("weights", {}),
                attached=kinds.get("attached", {}),
                unit_dimensions=json.loads(notes["units"]),
                unit_groups=json.loads(notes["groups"]),
                provenance=json.loads(notes["provenance"]),
            )
        except UNREADABLE as error:
            raise InputError(f"{path} is no gossamer mask: {error}") from error

    def _must_match(self, other: "Mask") -> None:
        if not isinstance(other, Mask):
            raise InputError(f"a mask can be compared to a mask only, not {type(other).__name__}")
        mine = {name: tuple(value.shape) for name, value in self.weights.items()}
        theirs = {name: tuple(value.shape) for name, value in other.weights.items()}
        if mine != theirs:
            raise InputError(
                "masks can be compared over the same weights only; one has "
                f"{_shapes(mine)}, the other {_shapes(theirs)}"
            )


def _joined(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    shared = {name: first[name] & second[name] for name in first if name in second}
    return {**first, **second, **shared}


def _checked(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"the mask of {name} must be a boolean tensor, not {kind}")
    if value.numel() == 0:
        raise InputError(f"the mask of {name} is empty: its shape is {tuple(value.shape)}")
    return value.detach().cpu().contiguous().clone()


def _mapping(field_name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"the {field_name} of a mask must be a mapping from names, not {value!r}")
    return value


def _json_values(provenance: object) -> dict[str, Any]:
    """Return a copy of a provenance, as it will be read back from a file."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(_mapping("provenance", provenance))))
    except TypeError as error:
        raise InputError(f"the provenance of a mask must hold JSON values: {error}") from error
    return copied


def _shuffle_all(value: Tensor, stream: np.random.Generator) -> Tensor:
    order = torch.from_numpy(stream.permutation(value.numel()))
    return value.flatten()[order].view(value.shape)


def _shuffle_units(value: Tensor, layout: UnitLayout, stream: np.random.Generator) -> Tensor:
    rows = layout.rows(value)
    order = torch.from_numpy(stream.random(rows.shape).argsort(axis=1, kind="stable"))
    return layout.from_rows(rows.gather(1, order), value.shape)


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())

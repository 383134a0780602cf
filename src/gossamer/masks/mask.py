"""The mask as a value: which weights are kept."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.errors import InputError
from gossamer.masks.enforcement import Enforcement, enforce
from gossamer.masks.names import bare_module, bare_name, parameters_by_name
from gossamer.masks.packing import read_packed, write_packed
from gossamer.streams import stream


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
        One boolean vector for each bias, scale or shift that goes with pruned units. These do
        not count in the sparsity.
    unit_dimensions
        The dimension along which the units of a weight lie, where it has units.
    provenance
        Where the mask comes from; JSON values.

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

    def __post_init__(self) -> None:
        if not self.weights:
            raise InputError("a mask needs at least one weight")
        if both := set(self.weights) & set(self.attached):
            raise InputError(f"{min(both)} is given as a weight and as attached to units")
        for kind, entries in (("weights", self.weights), ("attached", self.attached)):
            checked = {str(name): _checked(str(name), value) for name, value in entries.items()}
            object.__setattr__(self, kind, MappingProxyType(checked))
        for name in set(self.unit_dimensions) - set(self.weights):
            raise InputError(f"units are described for {name}, which is no weight of the mask")
        object.__setattr__(self, "unit_dimensions", MappingProxyType(dict(self.unit_dimensions)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __getitem__(self, name: str) -> Tensor:
        name = bare_name(name)
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

    def __repr__(self) -> str:
        return (
            f"Mask({len(self.weights)} weights, {self.zeros:,} of {self.size:,} pruned, "
            f"sparsity {self.sparsity:.4f})"
        )

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
            If the network lacks a parameter of the mask, or has it in another shape.
        """
        for name, parameter in self.bind(model).items():
            with torch.no_grad():
                parameter.masked_fill_(~self[name].to(parameter.device), 0)

    def enforce(self, model: nn.Module, optimizer: Optimizer) -> Enforcement:
        """Keep what is pruned at zero while `optimizer` trains `model`; see `masks.enforce`."""
        return enforce(self, model, optimizer)

    def bind(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the network's parameters that the mask is about, by name.

        Raises
        ------
        InputError
            If the network lacks one, or has it in another shape.
        """
        parameters = parameters_by_name(model)
        kind = type(bare_module(model)).__name__
        for name in self:
            if name not in parameters:
                raise InputError(
                    f"the mask has an entry for {name!r}, which is no parameter of this {kind}; "
                    f"they are {', '.join(parameters) or 'none'}"
                )
            if parameters[name].shape != self[name].shape:
                raise InputError(
                    f"the mask's {name} has shape {tuple(self[name].shape)}, the network's "
                    f"{tuple(parameters[name].shape)}"
                )
        return {name: parameters[name] for name in self}

    def violations(self, model: nn.Module) -> dict[str, int]:
        """Count, by parameter, the values that are pruned and yet not zero; empty if all holds."""
        counts = {
            name: int(torch.count_nonzero(parameter.detach().cpu()[~self[name]]))
            for name, parameter in self.bind(model).items()
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
        shuffle = _shuffle_layer if within == "layer" else _shuffle_units
        return Mask(
            weights={
                name: shuffle(value, self.unit_dimensions.get(name, 0), seed, name)
                for name, value in self.weights.items()
            },
            unit_dimensions=self.unit_dimensions,
            provenance={**self.provenance, "shuffled": within, "shuffle_seed": seed},
        )

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
        }
        write_packed(Path(path), {"weights": self.weights, "attached": self.attached}, notes)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a mask that `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged or no mask.
        """
        kinds, notes = read_packed(Path(path))
        try:
            units, provenance = json.loads(notes["units"]), json.loads(notes["provenance"])
            return cls(kinds["weights"], kinds.get("attached", {}), units, provenance)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is no gossamer mask: {error}") from error

    def _must_match(self, other: "Mask") -> None:
        mine = {name: tuple(value.shape) for name, value in self.weights.items()}
        theirs = {name: tuple(value.shape) for name, value in other.weights.items()}
        if mine != theirs:
            raise InputError(
                "masks can be compared over the same weights only; one has "
                f"{_shapes(mine)}, the other {_shapes(theirs)}"
            )


def _checked(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"the mask of {name} must be a boolean tensor, not {kind}")
    if value.numel() == 0:
        raise InputError(f"the mask of {name} is empty: its shape is {tuple(value.shape)}")
    return value.detach().cpu().contiguous().clone()


def _shuffle_layer(value: Tensor, dimension: int, seed: int, name: str) -> Tensor:  # noqa: ARG001
    order = stream(seed, "shuffle mask", name).permutation(value.numel())
    return value.flatten()[torch.from_numpy(order)].view(value.shape)


def _shuffle_units(value: Tensor, dimension: int, seed: int, name: str) -> Tensor:
    rows = value.movedim(dimension, 0)
    draws = stream(seed, "shuffle mask", name).random((rows.shape[0], rows[0].numel()))
    order = torch.from_numpy(draws.argsort(axis=1, kind="stable"))
    return rows.flatten(1).gather(1, order).view(rows.shape).movedim(0, dimension).contiguous()


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())

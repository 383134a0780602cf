"""What a measure says of itself, and what it is taken of.

Importing a measure does not import torch; taking it does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.data.resident import Resident
    from gossamer.masks import Mask
    from gossamer.records.record import Layer, Phase

Condition = Literal["validation", "leakage", "overlaps", "latency"]
"""What a study must ask for to have a measure."""


@dataclass(frozen=True)
class Measure:
    """One number that is known of a network."""

    name: str
    label: str
    meaning: str
    """In sentences, for a reader of the report."""
    unit: str
    """In which it is kept: fraction, nats, parameters, bytes and so on."""
    better: Literal["higher", "lower"] | None = None
    """What a user wishes for; None where that is a matter of choice."""
    empty: str = ""
    """When a trial that is done has no value; empty if it always has one."""
    examples: str | None = None
    """The measure that says of how many examples this one is a share, if any does."""
    condition: Condition | None = None


@dataclass(frozen=True)
class Taken:
    """What taking measures found, as a `Record` has it."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    layers: "tuple[Layer, ...]" = ()

    @classmethod
    def together(cls, parts: "Iterable[Taken]") -> "Taken":
        """Return what several found."""
        numbers: dict[str, float] = {}
        per_class: dict[str, tuple[float, ...]] = {}
        layers: tuple[Layer, ...] = ()
        for part in parts:
            numbers |= part.numbers
            per_class |= part.per_class
            layers = part.layers or layers
        return cls(numbers, per_class, layers)


@dataclass(frozen=True)
class Subject:
    """A finished network and the data that it is measured on; all on one device."""

    network: "nn.Module"
    """As a dense one that computes the same, if it is packed."""
    trainable_parameters: int
    mask: "Mask | None"
    sample: "Resident"
    """The training examples that the training accuracy is taken over."""
    train: "Resident"
    test: "Resident"
    classes: int
    sparsity_requested: float = 0.0

    @property
    def example(self) -> "Tensor":
        """One input."""
        return self.test.inputs[:1]

    @cached_property
    def prunable(self) -> list[str]:
        """Names of the weights that sparsity is the share of."""
        from gossamer.masks import prunable_weights

        if self.mask is not None:
            return list(self.mask.weights)
        return [layer.name for layer in prunable_weights(self.network, example=self.example)]

    @cached_property
    def _taken(self) -> dict[str, Taken]:
        return {}

    def of(self, measurement: "Measurement") -> Taken:
        """Return what another measurement finds of this network, taken once."""
        if measurement.name not in self._taken:
            assert measurement.take is not None
            self._taken[measurement.name] = measurement.take(self)
        return self._taken[measurement.name]


@dataclass(frozen=True)
class Measurement:
    """Measures that are taken together, in one file.

    `gossamer.measures.register` adds it to those that every trial has. Where the version of one
    changes, or a new one comes, it alone is taken of networks that are measured already, and what
    needs it.
    """

    name: str
    measures: tuple[Measure, ...]
    version: int = 1
    needs: "tuple[Measurement, ...]" = ()
    """What it takes numbers from."""
    leakage: bool = False
    """Whether it is taken only where a study asks for leakage."""
    optional: bool = False
    """Whether it is taken only where a study asks for it by its name."""
    take: Callable[[Subject], Taken] | None = None
    """Takes it of a finished network; None where networks are measured together."""
    read: "Callable[[Phase], Mapping[str, float]] | None" = None
    """Reads it off the history of the training that a recipe ends in."""

    def current(self, versions: Mapping[str, int]) -> bool:
        """Tell whether a record of measurements with these versions has it as it is now."""
        return versions.get(self.name) == self.version and all(
            one.current(versions) for one in self.needs
        )

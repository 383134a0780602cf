"""Patterns: which weights go together. A group is kept or pruned as a whole."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.masks.layers import PrunableWeight


class Pattern(Protocol):
    """How the weights of a layer fall into groups."""

    def applies(self, layer: PrunableWeight) -> bool:
        """Tell whether this layer has such groups."""

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the L2 norm of each group, shape [groups]."""

    def group_size(self, layer: PrunableWeight) -> int:
        """Return how many weights a group of this layer holds."""

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Turn kept groups, shape [groups], into kept weights of the layer's shape."""


@dataclass(frozen=True)
class Weight:
    """Every weight by itself."""

    def applies(self, layer: PrunableWeight) -> bool:  # noqa: ARG002
        """Every layer has single weights."""
        return True

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the magnitude of each weight."""
        return _values(layer).abs().flatten()

    def group_size(self, layer: PrunableWeight) -> int:  # noqa: ARG002
        """Return 1."""
        return 1

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Give the flat decision the layer's shape."""
        return kept.view(layer.weight.shape)


@dataclass(frozen=True)
class Unit:
    """All incoming weights of a unit: a neuron of a linear layer, a filter of a convolution."""

    def applies(self, layer: PrunableWeight) -> bool:
        """Only linear layers and convolutions have units."""
        return layer.units is not None

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the L2 norm of each unit's incoming weights, in float64."""
        assert layer.units is not None
        rows = layer.units.rows(_values(layer))
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        return norms

    def group_size(self, layer: PrunableWeight) -> int:
        """Return the number of incoming weights of a unit."""
        assert layer.units is not None
        return layer.units.rows(layer.weight.detach()).shape[1]

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Keep or prune whole units."""
        assert layer.units is not None
        return layer.units.spread(kept, layer.weight.shape)


def _values(layer: PrunableWeight) -> Tensor:
    """Return a weight in float32 at least: exact, and NumPy has no bfloat16."""
    weight = layer.weight.detach()
    return weight.float() if weight.dtype.itemsize < torch.float32.itemsize else weight


PATTERNS: dict[str, Pattern] = {"weight": Weight(), "unit": Unit()}


def pattern_named(pattern: str) -> Pattern:
    """Return the pattern of a name.

    Raises
    ------
    InputError
        If there is no such pattern.
    """
    if not isinstance(pattern, str) or pattern not in PATTERNS:
        raise InputError(f"unknown pattern {pattern!r}: choose one of {', '.join(PATTERNS)}")
    return PATTERNS[pattern]

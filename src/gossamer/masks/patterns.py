"""Patterns: which weights go together, and what a pattern itself says about how many stay."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.masks.allocations import Allocation, FixedFanIn, chooser
from gossamer.masks.checks import valid_count
from gossamer.masks.choosing import Chooser, within_runs
from gossamer.masks.layers import PrunableWeight


class Pattern(Protocol):
    """How the weights of a layer fall into groups, each kept or pruned as a whole."""

    score: ClassVar[str]
    """Name of the score that compares its groups where none is given."""

    def obstacle(self, layer: PrunableWeight) -> str:
        """Return why a layer has no such groups, as the end of a sentence; empty where it has."""

    def chooser(self, allocation: Allocation, sparsity: float | None) -> Chooser:
        """Return how the groups that go are chosen; most patterns leave it to the allocation.

        Raises
        ------
        InputError
            If pattern, allocation and sparsity contradict each other.
        """

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the L2 norm of each group, shape [groups]."""

    def sizes(self, layer: PrunableWeight) -> Tensor:
        """Return how many weights each group holds, shape [groups]."""

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Turn kept groups, shape [groups], into kept weights of the layer's shape."""


@dataclass(frozen=True)
class Weight:
    """Every weight by itself."""

    score: ClassVar[str] = "magnitude"

    def obstacle(self, layer: PrunableWeight) -> str:  # noqa: ARG002
        """Every layer has single weights."""
        return ""

    def chooser(self, allocation: Allocation, sparsity: float | None) -> Chooser:
        """Leave it to the allocation."""
        return chooser(allocation, sparsity)

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the magnitude of each weight."""
        return _values(layer).abs().flatten()

    def sizes(self, layer: PrunableWeight) -> Tensor:
        """Return ones."""
        return _ones(layer.weight.numel())

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Give the flat decision the layer's shape."""
        return kept.view(layer.weight.shape)


@dataclass(frozen=True)
class Unit:
    """All incoming weights of a unit: a neuron of a linear layer, a filter of a convolution."""

    score: ClassVar[str] = "relative-rms"

    def obstacle(self, layer: PrunableWeight) -> str:
        """Only linear layers and convolutions have units."""
        less = "has no units, or none that all layers which share it see alike"
        return less if layer.units is None else ""

    def chooser(self, allocation: Allocation, sparsity: float | None) -> Chooser:
        """Leave it to the allocation."""
        return _chooser_of_groups("unit", allocation, sparsity)

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the L2 norm of each unit's incoming weights, in float64."""
        rows = layer.layout.rows(_values(layer))
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        return norms

    def sizes(self, layer: PrunableWeight) -> Tensor:
        """Return the number of incoming weights of each unit."""
        units, incoming = layer.layout.rows(layer.weight.detach()).shape
        return incoming * _ones(units)

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Keep or prune whole units."""
        return layer.layout.spread(kept, layer.weight.shape)


@dataclass(frozen=True)
class NByM:
    """Of each m consecutive inputs of a unit, n are kept (Mishra et al. 2021).

    Which ones they are is a matter of the score. Inputs are the features of a linear layer, the
    channels of a convolution (at each position of its kernel), and dimension 1 of a weight
    without units. A layer whose inputs are not a multiple of m, such as a first convolution of
    three channels, is left alone unless it is named. The pattern fixes the sparsity of every other
    layer, 1 - n / m, so the allocation is left out.

    Parameters
    ----------
    n
        How many of the inputs are kept.
    m
        Of how many.

    Raises
    ------
    InputError
        If they are no whole numbers with 1 <= n <= m.

    References
    ----------
    Mishra et al. (2021), "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378.

    Examples
    --------
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Linear(8, 1)
    >>> model.weight.data = torch.tensor([[3.0, 1.0, 4.0, 2.0, 9.0, 8.0, 7.0, 6.0]])
    >>> prune(model, pattern=NByM(2, 4))["weight"].int().tolist()
    [[1, 0, 1, 0, 1, 1, 0, 0]]
    """

    name: ClassVar[str] = "n-by-m"
    score: ClassVar[str] = "magnitude"
    n: int
    m: int

    def __post_init__(self) -> None:
        for field in ("n", "m"):
            object.__setattr__(self, field, valid_count(getattr(self, field), f"{field} of NByM"))
        if self.n > self.m:
            raise InputError(
                f"NByM keeps n of m inputs, so n cannot be {self.n} where m is {self.m}"
            )

    def obstacle(self, layer: PrunableWeight) -> str:
        """Only inputs that are a multiple of m fall into groups of m."""
        inputs = layer.layout.kernels(layer.weight.detach()).shape[1]
        whole = inputs % self.m == 0
        return "" if whole else f"has {inputs} inputs, which is not a multiple of {self.m}"

    def chooser(self, allocation: Allocation, sparsity: float | None) -> Chooser:
        """Choose among each m consecutive inputs."""
        if not isinstance(allocation, str):
            raise InputError(
                f"{self!r} fixes what every layer keeps, so it cannot stand beside {allocation!r}: "
                "leave the allocation out"
            )
        own = 1 - self.n / self.m
        if sparsity is None:
            sparsity = own
        if not math.isclose(sparsity, own, abs_tol=1e-9):
            raise InputError(
                f"{self!r} fixes the sparsity at {own:g}, so it cannot be {sparsity:g}: leave the "
                "sparsity out"
            )
        chooser(allocation, sparsity)  # refuses a name that is no allocation
        return partial(within_runs, kept=self.n, length=self.m)

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the magnitude of each weight, m consecutive inputs beside each other."""
        return layer.layout.kernels(_values(layer).abs()).transpose(1, 2).flatten()

    def sizes(self, layer: PrunableWeight) -> Tensor:
        """Return ones."""
        return _ones(layer.weight.numel())

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Undo the order of `norms`."""
        units, inputs, positions = layer.layout.kernels(layer.weight.detach()).shape
        rows = kept.view(units, positions, inputs).transpose(1, 2).flatten(1)
        return layer.layout.from_rows(rows, layer.weight.shape)


@dataclass(frozen=True)
class Block:
    """Weights go in blocks of consecutive units by consecutive inputs (Narang et al. 2017).

    Inputs are the features of a linear layer, the channels of a convolution (at each position of
    its kernel: a block lies within one), and dimension 1 of a weight without units, whose rows
    stand for units. Blocks are scored by their L2 norm. Those at the edge may be smaller; they
    count as what they hold.

    Parameters
    ----------
    rows
        Units of a block.
    columns
        Inputs of a block.

    Raises
    ------
    InputError
        If they are no whole numbers from 1.

    References
    ----------
    Narang et al. (2017), "Block-Sparse Recurrent Neural Networks", arXiv 1711.02782.

    Examples
    --------
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Linear(3, 4)
    >>> model.weight.data = torch.tensor([[1.0, 5, 2], [1, 5, 2], [4, 3, 9], [4, 3, 9]])
    >>> prune(model, 0.5, pattern=Block(2, 1))["weight"].int().tolist()
    [[0, 1, 0], [0, 1, 0], [1, 0, 1], [1, 0, 1]]
    """

    name: ClassVar[str] = "block"
    score: ClassVar[str] = "magnitude"
    rows: int
    columns: int

    def __post_init__(self) -> None:
        for field in ("rows", "columns"):
            object.__setattr__(self, field, valid_count(getattr(self, field), f"{field} of Block"))

    def obstacle(self, layer: PrunableWeight) -> str:  # noqa: ARG002
        """Every layer has blocks."""
        return ""

    def chooser(self, allocation: Allocation, sparsity: float | None) -> Chooser:
        """Leave it to the allocation."""
        return _chooser_of_groups(repr(self), allocation, sparsity)

    def norms(self, layer: PrunableWeight) -> Tensor:
        """Return the L2 norm of each block, in float64."""
        blocks = self._blocks(layer.layout.kernels(_values(layer)))
        norms: Tensor = torch.linalg.vector_norm(blocks, dim=(1, 3), dtype=torch.float64)
        return norms.flatten()

    def sizes(self, layer: PrunableWeight) -> Tensor:
        """Return the number of weights in each block."""
        kernels = layer.layout.kernels(layer.weight.detach())
        inside = torch.ones(kernels.shape, dtype=torch.bool)
        return self._blocks(inside).sum(dim=(1, 3)).flatten()

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        """Keep or prune whole blocks."""
        shape = layer.layout.kernels(layer.weight.detach()).shape
        blocks = self._blocks(torch.zeros(shape, dtype=torch.bool))
        grid = kept.view(blocks.shape[0], 1, blocks.shape[2], 1, blocks.shape[4])
        filled = grid.expand(blocks.shape).flatten(0, 1).flatten(1, 2)
        return layer.layout.from_rows(filled[: shape[0], : shape[1]].flatten(1), layer.weight.shape)

    def _blocks(self, kernels: Tensor) -> Tensor:
        """Cut [units, inputs, positions] up, with zeros (False) beyond the edges.

        The shape is [blocks down, rows, blocks across, columns, positions].
        """
        units, inputs, positions = kernels.shape
        rows, columns = min(self.rows, units), min(self.columns, inputs)
        padded = functional.pad(kernels, (0, 0, 0, -inputs % columns, 0, -units % rows))
        return padded.reshape(-1, rows, padded.shape[1] // columns, columns, positions)


def _chooser_of_groups(pattern: str, allocation: Allocation, sparsity: float | None) -> Chooser:
    """Return the allocation's chooser, if it can choose groups of several weights."""
    if isinstance(allocation, FixedFanIn):
        raise InputError(
            f"{allocation!r} keeps single weights of each unit, so the pattern must be 'weight', "
            f"not {pattern!r}"
        )
    return chooser(allocation, sparsity)


def _values(layer: PrunableWeight) -> Tensor:
    """Return a weight in float32 at least: exact, and NumPy has no bfloat16."""
    weight = layer.weight.detach()
    return weight.float() if weight.dtype.itemsize < torch.float32.itemsize else weight


def _ones(groups: int) -> Tensor:
    """Return a view of a single one: large layers have as many groups as weights."""
    return torch.ones(1, dtype=torch.int64).expand(groups)


PATTERNS: dict[str, Pattern] = {"weight": Weight(), "unit": Unit()}


def resolved_pattern(pattern: str | NByM | Block) -> Pattern:
    """Return the pattern of a name; a pattern is itself.

    Raises
    ------
    InputError
        If there is no such pattern.
    """
    if isinstance(pattern, (NByM, Block)):
        return pattern
    if not isinstance(pattern, str) or pattern not in PATTERNS:
        raise InputError(
            f"unknown pattern {pattern!r}: choose one of {', '.join(PATTERNS)}, NByM(n, m) and "
            "Block(rows, columns)"
        )
    return PATTERNS[pattern]

"""Patterns: which weights go together, and what a pattern itself says about how many stay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from gossamer.core.errors import InputError
from gossamer.core.formats import listed
from gossamer.masks.allocations import ALLOCATIONS, Allocation
from gossamer.masks.choices import Choice, resolved

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.masks.layers import PrunableWeight


class Pattern(Choice):
    """How the weights of a layer fall into groups, each kept or pruned as a whole."""

    score: ClassVar[str] = "magnitude"
    """Name of the score that compares its groups where none is given."""
    is_single: ClassVar[bool] = False
    """Whether each group is one weight."""
    fixes_sparsity: ClassVar[bool] = False
    """Whether it says how many of its groups stay, so that nobody else may."""

    @property
    def run(self) -> tuple[int, int] | None:
        """Where it fixes it: how many groups stay, and of how many consecutive ones."""
        return None

    def obstacle(self, layer: "PrunableWeight") -> str:  # noqa: ARG002
        """Return why a layer has no such groups, as the end of a sentence; empty where it has."""
        return ""

    def groups(self, values: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Return values of the layer's shape group by group, ``[..., rows, columns]``.

        The last two dimensions are those of a group; where a layer ends within one, zeros stand
        for what is not there.
        """
        raise NotImplementedError

    def spread(self, kept: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Turn kept groups, in the order of `groups`, into kept weights of the layer's shape."""
        raise NotImplementedError

    def agreed_sparsity(self, allocation: Allocation, sparsity: float | None) -> float | None:
        """Return the sparsity that is asked of the network; None where the allocation fixes it.

        Raises
        ------
        InputError
            If pattern, allocation and sparsity contradict each other, or none says how sparse.
        """
        if allocation.compares == "unit" and not self.is_single:
            raise InputError(
                f"{allocation!r} keeps single weights of each unit, so the pattern must be "
                f"'weight', not {self}"
            )
        if allocation.fixes_sparsity and sparsity is not None:
            raise InputError(
                f"{allocation!r} fixes the sparsity, so it cannot be {sparsity:g} too: leave the "
                "sparsity out"
            )
        if not allocation.fixes_sparsity and sparsity is None:
            kinds: list[type[Allocation | Pattern]] = [*ALLOCATIONS.values(), *PATTERNS.values()]
            fixing = listed([kind.__name__ for kind in kinds if kind.fixes_sparsity])
            raise InputError(
                f"the sparsity must be a number from 0 to 1, not None: only {fixing} fix it "
                "themselves"
            )
        return sparsity


@dataclass(frozen=True)
class Weight(Pattern):
    """Every weight by itself."""

    name: ClassVar[str] = "weight"
    is_word: ClassVar[bool] = True
    is_single: ClassVar[bool] = True

    def groups(self, values: "Tensor", layer: "PrunableWeight") -> "Tensor":  # noqa: ARG002
        """Return each weight by itself; see `Pattern.groups`."""
        return values.reshape(-1, 1, 1)

    def spread(self, kept: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Give the flat decision the layer's shape."""
        return kept.view(layer.weight.shape)


@dataclass(frozen=True)
class Unit(Pattern):
    """All incoming weights of a unit: a neuron of a linear layer, a filter of a convolution."""

    name: ClassVar[str] = "unit"
    is_word: ClassVar[bool] = True
    score: ClassVar[str] = "relative-rms"

    def obstacle(self, layer: "PrunableWeight") -> str:
        """Only linear layers and convolutions have units."""
        less = "has no units, or none that all layers which share it see alike"
        return less if layer.units is None else ""

    def groups(self, values: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Return the incoming weights of each unit; see `Pattern.groups`."""
        return layer.layout.rows(values)[:, None]

    def spread(self, kept: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Keep or prune whole units."""
        return layer.layout.spread(kept, layer.weight.shape)


@dataclass(frozen=True)
class NByM(Pattern):
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
    >>> import torch
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Linear(8, 1)
    >>> model.weight.data = torch.tensor([[3.0, 1.0, 4.0, 2.0, 9.0, 8.0, 7.0, 6.0]])
    >>> prune(model, pattern=NByM(2, 4))["weight"].int().tolist()
    [[1, 0, 1, 0, 1, 1, 0, 0]]
    """

    name: ClassVar[str] = "n-by-m"
    example: ClassVar[Mapping[str, Any]] = {"n": 2, "m": 4}
    is_single: ClassVar[bool] = True
    fixes_sparsity: ClassVar[bool] = True
    n: PositiveInt
    m: PositiveInt

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n > self.m:
            raise InputError(
                f"NByM keeps n of m inputs, so n cannot be {self.n} where m is {self.m}"
            )

    @property
    def run(self) -> tuple[int, int]:
        """How many groups stay, and of how many consecutive ones."""
        return self.n, self.m

    def obstacle(self, layer: "PrunableWeight") -> str:
        """Only inputs that are a multiple of m fall into groups of m."""
        _, inputs, _ = layer.sizes
        whole = inputs % self.m == 0
        return "" if whole else f"has {inputs} inputs, which is not a multiple of {self.m}"

    def groups(self, values: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Return each weight by itself, m consecutive inputs beside each other."""
        return layer.layout.kernels(values).transpose(1, 2).reshape(-1, 1, 1)

    def spread(self, kept: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Undo the order of `groups`."""
        units, inputs, positions = layer.sizes
        rows = kept.view(units, positions, inputs).transpose(1, 2).flatten(1)
        return layer.layout.from_rows(rows, layer.weight.shape)

    def agreed_sparsity(self, allocation: Allocation, sparsity: float | None) -> float:
        """Return that of the pattern; see `Pattern.agreed_sparsity`."""
        if not allocation.is_word:
            raise InputError(
                f"{self!r} fixes what every layer keeps, so it cannot stand beside "
                f"{allocation}: leave the allocation out"
            )
        own = 1 - self.n / self.m
        if sparsity is not None and not math.isclose(sparsity, own, abs_tol=1e-9):
            raise InputError(
                f"{self!r} fixes the sparsity at {own:g}, so it cannot be {sparsity:g}: leave the "
                "sparsity out"
            )
        return own


@dataclass(frozen=True)
class Block(Pattern):
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
    >>> import torch
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Linear(3, 4)
    >>> model.weight.data = torch.tensor([[1.0, 5, 2], [1, 5, 2], [4, 3, 9], [4, 3, 9]])
    >>> prune(model, 0.5, pattern=Block(2, 1))["weight"].int().tolist()
    [[0, 1, 0], [0, 1, 0], [1, 0, 1], [1, 0, 1]]
    """

    name: ClassVar[str] = "block"
    example: ClassVar[Mapping[str, Any]] = {"rows": 4, "columns": 1}
    rows: PositiveInt
    columns: PositiveInt

    def groups(self, values: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Return each block, in the order of rows, columns and positions of the kernel."""
        return self._blocks(layer.layout.kernels(values)).permute(0, 2, 4, 1, 3)

    def spread(self, kept: "Tensor", layer: "PrunableWeight") -> "Tensor":
        """Keep or prune whole blocks."""
        units, inputs, _ = layer.sizes
        blocks = self._blocks(kept.new_zeros(layer.sizes))
        grid = kept.view(blocks.shape[0], 1, blocks.shape[2], 1, blocks.shape[4])
        filled = grid.expand(blocks.shape).flatten(0, 1).flatten(1, 2)
        return layer.layout.from_rows(filled[:units, :inputs].flatten(1), layer.weight.shape)

    def _blocks(self, kernels: "Tensor") -> "Tensor":
        """Cut [units, inputs, positions] up, with zeros (False) beyond the edges.

        The shape is [blocks down, rows, blocks across, columns, positions].
        """
        units, inputs, positions = kernels.shape
        rows, columns = min(self.rows, units), min(self.columns, inputs)
        down, across = -(-units // rows), -(-inputs // columns)
        padded = kernels.new_zeros(down * rows, across * columns, positions)
        padded[:units, :inputs] = kernels
        return padded.reshape(down, rows, across, columns, positions)


PATTERNS: dict[str, type[Pattern]] = {kind.name: kind for kind in (Weight, Unit, NByM, Block)}
"""All that a recipe can name; one more is one more row."""


def resolved_pattern(given: str | Pattern) -> Pattern:
    """Return the pattern of a word; a pattern is itself.

    Raises
    ------
    InputError
        If there is no such pattern.
    """
    return resolved(given, Pattern, PATTERNS)

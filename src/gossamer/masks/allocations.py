"""Allocations: how the weights that stay are shared out over the layers."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from numbers import Real
from typing import ClassVar

from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.masks.checks import valid_count, valid_sparsity
from gossamer.masks.choosing import (
    Chooser,
    RankedLayer,
    across_layers,
    within_layers,
    within_units,
)
from gossamer.masks.layers import PrunableWeight
from gossamer.masks.names import names_it


@dataclass(frozen=True)
class ErdosRenyi:
    """Each layer keeps epsilon x (inputs + units) connections (Mocanu et al. 2018).

    A weight of shape [units, inputs, kernel] counts its units and inputs once, whatever the
    kernel: for a linear layer these are its features, for a convolution its channels (a unit of a
    grouped one has in_channels / groups inputs); a weight without units counts its first two
    dimensions. The number is rounded, halves to even, and lies between 1 and the layer's size.
    It fixes the sparsity, so none is given beside it.

    Parameters
    ----------
    epsilon
        Connections for each unit and input; about the mean number of connections of a neuron.

    Raises
    ------
    InputError
        If `epsilon` is not a finite number above 0.

    References
    ----------
    Mocanu et al. (2018), "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science", Nature Communications 9, arXiv 1707.04780.

    Examples
    --------
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> mask = prune(model, allocation=ErdosRenyi(4), score="random")
    >>> [int(kept.sum()) for kept in mask.weights.values()]
    [1200, 440]
    """

    name: ClassVar[str] = "erdos-renyi"
    epsilon: float

    def __post_init__(self) -> None:
        given = self.epsilon
        if isinstance(given, bool) or not isinstance(given, Real) or not 0 < given < math.inf:
            raise InputError(f"epsilon must be a finite number above 0, not {given!r}")
        object.__setattr__(self, "epsilon", float(given))

    def choose(self, layers: Sequence[RankedLayer]) -> list[Tensor]:
        """Choose what goes; see `choosing.Chooser`."""
        return _keeping(layers, [self._connections(ranked.layer) for ranked in layers])

    def _connections(self, layer: PrunableWeight) -> int:
        units, inputs, _ = layer.layout.kernels(layer.weight.detach()).shape
        size = layer.weight.numel()
        # Compared before it is rounded: a huge epsilon has no whole number.
        return round(min(max(self.epsilon * (units + inputs), 1), size))


@dataclass(frozen=True)
class ERK:
    """Erdos-Renyi-Kernel: larger layers are sparser (Evci et al. 2020).

    The density of a layer is proportional to (the sum of its weight's dimensions) / (their
    product), kernel included, scaled so that the total is the sparsity asked for. A layer that
    would be denser than 1 is dense, and the others share the rest in proportion; the same holds
    for one that would keep less than one weight. Fractions of a weight go to the layers with the
    largest of them, so that exactly ``round(sparsity * n)`` weights go.

    References
    ----------
    Evci et al. (2020), "Rigging the Lottery: Making All Tickets Winners", ICML,
    arXiv 1911.11134.

    Examples
    --------
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> mask = prune(model, 0.9, allocation=ERK())
    >>> [int(kept.sum()) for kept in mask.weights.values()], mask.sparsity
    ([1537, 563], 0.9)
    """

    name: ClassVar[str] = "erk"

    def choose(self, layers: Sequence[RankedLayer], sparsity: float) -> list[Tensor]:
        """Choose what goes; see `choosing.Chooser`."""
        shapes = [ranked.layer.weight.shape for ranked in layers]
        if sparsity == 1:
            return _keeping(layers, [0] * len(layers))
        sizes = [shape.numel() for shape in shapes]
        total = sum(sizes) - round(sparsity * sum(sizes))
        return _keeping(layers, _proportional([sum(shape) for shape in shapes], sizes, total))


@dataclass(frozen=True)
class FixedFanIn:
    """Every unit keeps the same number of incoming weights, or all if it has fewer.

    Which ones they are is a matter of the score, compared within the unit: a neuron of a linear
    layer, a filter of a convolution, a row of a weight without units. It fixes the sparsity, so
    none is given beside it, and needs the pattern "weight".

    Parameters
    ----------
    connections
        Incoming weights that a unit keeps.

    Raises
    ------
    InputError
        If `connections` is no whole number from 1.

    References
    ----------
    Lasby et al. (2024), "Dynamic Sparse Training with Structured Sparsity", ICLR,
    arXiv 2305.02299.

    Examples
    --------
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Sequential(nn.Linear(20, 5), nn.ReLU(), nn.Linear(5, 2))
    >>> mask = prune(model, allocation=FixedFanIn(7))
    >>> mask["0.weight"].sum(1).tolist(), mask["2.weight"].sum(1).tolist()
    ([7, 7, 7, 7, 7], [5, 5])
    """

    name: ClassVar[str] = "fixed-fan-in"
    connections: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", valid_count(self.connections, "connections"))

    def choose(self, layers: Sequence[RankedLayer]) -> list[Tensor]:
        """Choose what goes; see `choosing.Chooser`."""
        return within_units(layers, self.connections)


Allocation = str | Mapping[str, float] | ErdosRenyi | ERK | FixedFanIn
"""What `prune` takes: "uniform", "global", sparsities by name, or one of the values above."""

_ChooserAtSparsity = Callable[[Sequence[RankedLayer], float], list[Tensor]]


def chooser(allocation: Allocation, sparsity: float | None) -> Chooser:
    """Return how an allocation chooses what goes, at this sparsity.

    Raises
    ------
    InputError
        If there is no such allocation, if it needs a sparsity and none is given, or if it fixes
        the sparsity and one is given all the same.
    """
    if isinstance(allocation, (ErdosRenyi, FixedFanIn)):
        if sparsity is not None:
            raise InputError(
                f"{allocation!r} fixes the sparsity, so it cannot be {sparsity:g} too: leave the "
                "sparsity out"
            )
        return allocation.choose
    choose = _choice_at_a_sparsity(allocation)
    if sparsity is None:
        raise InputError(
            "the sparsity must be a number from 0 to 1, not None: only ErdosRenyi, FixedFanIn and "
            "NByM fix it themselves"
        )
    return lambda layers: choose(layers, sparsity)


def _choice_at_a_sparsity(allocation: str | Mapping[str, float] | ERK) -> _ChooserAtSparsity:
    if isinstance(allocation, ERK):
        return allocation.choose
    if isinstance(allocation, Mapping):
        return partial(_choose_by_name, _valid_shares(allocation))
    if isinstance(allocation, str) and allocation in NAMED:
        return NAMED[allocation]
    raise InputError(
        f"unknown allocation {allocation!r}: choose one of {', '.join(NAMED)}, "
        "ErdosRenyi(epsilon), ERK() and FixedFanIn(connections), or give a mapping from layer "
        "names to sparsities"
    )


def _valid_shares(allocation: Mapping[str, float]) -> dict[str, float]:
    for pattern in allocation:
        if not isinstance(pattern, str):
            raise InputError(f"allocation must map names to sparsities, not {pattern!r}")
    return {
        pattern: valid_sparsity(share, f"the sparsity of {pattern!r}")
        for pattern, share in allocation.items()
    }


def _choose_by_name(
    shares: Mapping[str, float], layers: Sequence[RankedLayer], sparsity: float
) -> list[Tensor]:
    """Choose in each layer; of several patterns that name it the closest counts."""
    sparsities = []
    used: set[str] = set()
    for layer in (ranked.layer for ranked in layers):
        fitting = [pattern for pattern in shares if names_it(pattern, layer.name)]
        used.update(fitting)
        exact = (layer.name, layer.module)
        # A rule that does not depend on the order of the mapping, which JSON may not keep.
        closest = max(fitting, key=lambda p: (p in exact, len(p), p), default=None)
        sparsities.append(sparsity if closest is None else shares[closest])
    if unused := [pattern for pattern in shares if pattern not in used]:
        raise InputError(
            f"allocation names {unused[0]!r}, which is no prunable weight; they are "
            f"{', '.join(ranked.layer.name for ranked in layers)}"
        )
    return within_layers(layers, sparsities)


NAMED: dict[str, _ChooserAtSparsity] = {
    "global": across_layers,
    "uniform": partial(_choose_by_name, {}),
}


def _keeping(layers: Sequence[RankedLayer], kept: Sequence[int]) -> list[Tensor]:
    """Choose in each layer, so that it keeps as many weights as is said, or nearly as groups go.

    A sparsity that is a ratio of whole numbers gives, times the size, the same number again.
    """
    sizes = [ranked.layer.weight.numel() for ranked in layers]
    sparsities = [(size - count) / size for size, count in zip(sizes, kept, strict=True)]
    return within_layers(layers, sparsities)


def _proportional(proportions: Sequence[int], sizes: Sequence[int], total: int) -> list[int]:
    """Share out `total` in proportion to `proportions`, from 1 to its size for each layer.

    Computed in fractions, so that nothing depends on rounding errors.
    """

    def shares(scale: Fraction) -> list[Fraction]:
        return [
            min(max(scale * proportion, Fraction(1)), Fraction(size))
            for proportion, size in zip(proportions, sizes, strict=True)
        ]

    def held(scale: Fraction) -> Fraction:
        return sum(shares(scale), Fraction(0))

    # Where a share begins to grow, and where it is full; between these the sum grows linearly.
    begins = {Fraction(1, proportion) for proportion in proportions}
    fills = {
        Fraction(size, proportion) for proportion, size in zip(proportions, sizes, strict=True)
    }
    bends = sorted(begins | fills)
    above = bisect_left(bends, Fraction(total), key=held)
    if above == 0:  # one a layer is all there is to share, or more than that
        return [1] * len(sizes)
    start, end = bends[above - 1], bends[above]
    missing = (total - held(start)) / (held(end) - held(start))
    return _rounded(shares(start + missing * (end - start)))


def _rounded(shares: Sequence[Fraction]) -> list[int]:
    """Round down, and give what is left to the largest remainders, the earlier of equal ones.

    Examples
    --------
    >>> _rounded([Fraction(5, 2), Fraction(8, 3), Fraction(11, 6)])
    [2, 3, 2]
    """
    counts = [math.floor(share) for share in shares]
    left = int(sum(shares)) - sum(counts)
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
    for i in by_remainder[:left]:
        counts[i] += 1
    return counts

"""Allocations: how the weights that stay are shared out over the layers."""

import math
import operator
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from gossamer.core.errors import InputError
from gossamer.masks.choices import Choice, resolved, valid_sparsity

if TYPE_CHECKING:
    from gossamer.masks.layers import PrunableWeight
    from gossamer.masks.saliency import ScoreContext

Compared = Literal["network", "layer", "unit"]
"""Among which weights the lowest go: all of the network, those of a layer, or those of a unit."""


class Allocation(Choice):
    """How sparse each layer becomes."""

    fixes_sparsity: ClassVar[bool] = False
    """Whether it says how sparse the network becomes, so that nobody else may."""
    compares: ClassVar[Compared] = "layer"
    needs_batches: ClassVar[bool] = False
    """Whether it asks anything of batches."""

    def sparsities(self, layers: "Sequence[PrunableWeight]", sparsity: float) -> list[float]:
        """Return the sparsity of each layer at one of the network, 0 where the allocation fixes it.

        A ratio of whole numbers gives, times the size of the layer, the same number again.
        """
        raise NotImplementedError

    def asked(self, contexts: "Sequence[ScoreContext]", sparsity: float) -> list[float]:
        """Return the `sparsities` of layers of which more is known than their weights."""
        return self.sparsities([context.layer for context in contexts], sparsity)


@dataclass(frozen=True)
class Uniform(Allocation):
    """The same share of every layer."""

    name: ClassVar[str] = "uniform"
    is_word: ClassVar[bool] = True

    def sparsities(self, layers: "Sequence[PrunableWeight]", sparsity: float) -> list[float]:
        """Return the sparsity for each; see `Allocation.sparsities`."""
        return [sparsity] * len(layers)


@dataclass(frozen=True)
class Global(Uniform):
    """The lowest of the whole network go; the same share of each layer if a score compares less."""

    name: ClassVar[str] = "global"
    compares: ClassVar[Compared] = "network"


@dataclass(frozen=True)
class ByName(Allocation):
    """A sparsity for each layer that is named; the others take that of the network."""

    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        for pattern in self.shares:
            if not isinstance(pattern, str):
                raise InputError(f"allocation must map names to sparsities, not {pattern!r}")
        valid = {
            pattern: valid_sparsity(share, f"the sparsity of {pattern!r}")
            for pattern, share in self.shares.items()
        }
        object.__setattr__(self, "shares", valid)

    def __str__(self) -> str:
        return repr(self.shares)

    def written(self) -> dict[str, float]:
        """Return the sparsities by name."""
        return dict(self.shares)

    def sparsities(self, layers: "Sequence[PrunableWeight]", sparsity: float) -> list[float]:
        """Return that of the closest name; see `Allocation.sparsities`.

        Raises
        ------
        InputError
            If a name is that of no layer.
        """
        from gossamer.masks.names import names_it  # which needs torch

        found = []
        used: set[str] = set()
        for layer in layers:
            fitting = [pattern for pattern in self.shares if names_it(pattern, layer.name)]
            used.update(fitting)
            exact = (layer.name, layer.module)
            # A rule that does not depend on the order of the mapping, which JSON may not keep.
            closest = max(fitting, key=lambda p: (p in exact, len(p), p), default=None)
            found.append(sparsity if closest is None else self.shares[closest])
        if unused := [pattern for pattern in self.shares if pattern not in used]:
            raise InputError(
                f"allocation names {unused[0]!r}, which is no prunable weight; they are "
                f"{', '.join(layer.name for layer in layers)}"
            )
        return found


@dataclass(frozen=True)
class ErdosRenyi(Allocation):
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
    example: ClassVar[Mapping[str, Any]] = {"epsilon": 20}
    fixes_sparsity: ClassVar[bool] = True
    epsilon: PositiveFloat

    def sparsities(self, layers: "Sequence[PrunableWeight]", sparsity: float) -> list[float]:  # noqa: ARG002
        """Return what the connections leave; see `Allocation.sparsities`."""
        return _leaving(layers, [self._connections(layer) for layer in layers])

    def _connections(self, layer: "PrunableWeight") -> int:
        units, inputs, _ = layer.sizes
        size = layer.weight.numel()
        # Compared before it is rounded: a huge epsilon has no whole number.
        return round(min(max(self.epsilon * (units + inputs), 1), size))


@dataclass(frozen=True)
class ERK(Allocation):
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

    def sparsities(self, layers: "Sequence[PrunableWeight]", sparsity: float) -> list[float]:
        """Return what the densities leave; see `Allocation.sparsities`."""
        shapes = [layer.weight.shape for layer in layers]
        if sparsity == 1:
            return [1.0] * len(layers)
        sizes = [shape.numel() for shape in shapes]
        total = sum(sizes) - round(sparsity * sum(sizes))
        return _leaving(layers, _proportional([sum(shape) for shape in shapes], sizes, total))


@dataclass(frozen=True)
class FixedFanIn(Allocation):
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
    example: ClassVar[Mapping[str, Any]] = {"connections": 50}
    fixes_sparsity: ClassVar[bool] = True
    compares: ClassVar[Compared] = "unit"
    connections: PositiveInt

    def sparsities(self, layers: "Sequence[PrunableWeight]", sparsity: float) -> list[float]:  # noqa: ARG002
        """Return what the connections leave; see `Allocation.sparsities`."""
        kept = [
            units * min(self.connections, inputs * positions)
            for units, inputs, positions in (layer.sizes for layer in layers)
        ]
        return _leaving(layers, kept)


@dataclass(frozen=True)
class OWL(Allocation):
    """Layers of many outliers keep more: weight x input norm far above the mean (Yin et al. 2024).

    The density of a layer is that of the network, and `spread` to either side of it as the share
    of its weights whose ``|w|`` times the L2 norm of their inputs exceeds `outliers` times the mean
    in the layer: twice the spread lies between the layers of fewest and of most. All weights
    together keep the sparsity asked for, exactly. It needs batches.

    The authors take the weights of a transformer block together; here each weight is a layer.

    Parameters
    ----------
    outliers
        How many times the mean makes an outlier; 5 or 7 in the paper.
    spread
        Half of the distance between the densities of the densest and the sparsest layer; 0.08 in
        the paper, at a sparsity of 0.7.

    Raises
    ------
    InputError
        If the options are no numbers above 0, or a layer would have to keep less than nothing or
        more than all.

    References
    ----------
    Yin et al. (2024), "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for Pruning
    LLMs to High Sparsity", ICML, arXiv 2310.05175.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from gossamer import prune
    >>> model = nn.Sequential(nn.Linear(4, 10, bias=False), nn.Linear(10, 4, bias=False))
    >>> _ = model[0].weight.data.fill_(1.0), model[1].weight.data.fill_(1.0)
    >>> _ = model[1].weight.data[:, 0].fill_(99.0)
    >>> mask = prune(model, 0.5, allocation=OWL(5, 0.1), batches=[(torch.ones(2, 4), None)])
    >>> [int(kept.sum()) for kept in mask.weights.values()], mask.sparsity
    ([16, 24], 0.5)
    """

    name: ClassVar[str] = "owl"
    example: ClassVar[Mapping[str, Any]] = {"outliers": 5.0, "spread": 0.08}
    needs_batches: ClassVar[bool] = True
    outliers: PositiveFloat
    spread: PositiveFloat

    def asked(self, contexts: "Sequence[ScoreContext]", sparsity: float) -> list[float]:
        """Return what the outliers leave; see `Allocation.asked`."""
        sizes = [context.weight.numel() for context in contexts]
        if sparsity in (0, 1):
            return [float(sparsity)] * len(sizes)
        total = sum(sizes) - round(sparsity * sum(sizes))
        shares = [Fraction(self._outliers(context), context.weight.numel()) for context in contexts]
        fewest, most = min(shares), max(shares)
        scale = Fraction(2 * self.spread) / (most - fewest) if most > fewest else Fraction(0)
        mean = sum(map(operator.mul, shares, sizes), Fraction(0)) / sum(sizes)
        kept = [
            size * (Fraction(total, sum(sizes)) + scale * (share - mean))
            for share, size in zip(shares, sizes, strict=True)
        ]
        for context, count, size in zip(contexts, kept, sizes, strict=True):
            if not 0 < count <= size:
                raise InputError(
                    f"{self!r} would keep {float(count / size):.1%} of {context.layer.name} at a "
                    f"sparsity of {sparsity:g}: give it a smaller spread"
                )
        return _leaving([context.layer for context in contexts], _rounded(kept))

    def _outliers(self, context: "ScoreContext") -> int:
        """Return how many weights of a layer are outliers."""
        saliency = context.weight.abs() * context.input_norms
        return int((saliency > self.outliers * saliency.mean()).sum())


ALLOCATIONS: dict[str, type[Allocation]] = {
    kind.name: kind for kind in (Global, Uniform, ERK, ErdosRenyi, FixedFanIn, OWL)
}
"""All that a recipe can name; one more is one more row."""


AnyAllocation = str | Mapping[str, float] | Allocation
"""What `prune` takes: "uniform", "global", sparsities by name, or an allocation."""


def resolved_allocation(given: AnyAllocation) -> Allocation:
    """Return the allocation of a word or of sparsities by name; an allocation is itself.

    Raises
    ------
    InputError
        If there is no such allocation.
    """
    if isinstance(given, Mapping):
        return ByName(given)
    or_else = ", or give a mapping from layer names to sparsities"
    return resolved(given, Allocation, ALLOCATIONS, or_else)


def partway(sparsity: float, share: float) -> float:
    """Return the sparsity after a share of a way on which the density falls exponentially.

    Examples
    --------
    >>> round(partway(0.99, 0.5), 12), partway(0.99, 1)
    (0.9, 0.99)
    """
    return sparsity if share == 1 else 1 - (1 - sparsity) ** share


def _leaving(layers: "Sequence[PrunableWeight]", kept: Sequence[int]) -> list[float]:
    """Return the sparsities at which layers keep so many weights."""
    sizes = [layer.weight.numel() for layer in layers]
    return [(size - count) / size for size, count in zip(sizes, kept, strict=True)]


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

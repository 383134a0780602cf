"""How sparse each layer becomes: what its sensitivity and its share of the cost justify."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gossamer.graph.examples import Example
from gossamer.masks import Mask, Pattern, find_mask
from gossamer.measures.functional.modes import evaluation
from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.fine_tuning import distance, learnt_outputs
from gossamer.shrinking.layout import laid_out, layout_of
from gossamer.shrinking.split import Split, mapped
from gossamer.shrinking.task import Task, outputs_of

LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Sparsities at which each layer is tried alone."""
_DENSITIES = np.geomspace(1.0, 0.01, 93)
"""Shares of its weights that a layer may keep."""
_LEAST_DAMAGE = 1e-7
_LEAST_SHARE = 0.5
"""Of a layer's time with nearly no weights, what is held to stay with none at all."""
_NEXT_TO_NOTHING = 0.01

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Weighted:
    """What is known of a layer to decide how much of it stays."""

    tolerance: Tolerance
    cost: float
    """Of all its weights, in the units of the target."""
    costs_at: tuple[float, ...] = ()
    """Of those that stay at each of the tolerance's sparsities; none: in proportion to them."""

    def costs(self) -> Numbers:
        """Return the cost at each of `_DENSITIES`, falling: as measured, with lines in between.

        What is left when nearly all weights are gone cannot be saved, so it is no cost.
        """
        if not self.costs_at:
            return np.asarray(self.cost * _DENSITIES)
        kept = 1 - np.array([0.0, *self.tolerance.sparsities])
        falling = np.minimum.accumulate([self.cost, *self.costs_at])
        slope = (falling[-2] - falling[-1]) / (kept[-2] - kept[-1])
        at = np.append(kept, 0.0)
        all_gone = max(_LEAST_SHARE * falling[-1], falling[-1] - slope * kept[-1])
        found = np.interp(_DENSITIES, at[::-1], np.append(falling, all_gone)[::-1])
        # Where time stands still fewer weights are better nevertheless: they take less memory.
        return np.asarray(found - all_gone + _NEXT_TO_NOTHING * self.cost * _DENSITIES)

    def damages(self) -> Numbers:
        """Return the damage at each of `_DENSITIES`, rising: in between it grows by factors."""
        known = np.maximum.accumulate(np.maximum(self.tolerance.damage, _LEAST_DAMAGE))
        sparsities = np.array([0.0, *self.tolerance.sparsities])
        logs = np.log([_LEAST_DAMAGE, *known])
        at = -np.log1p(-sparsities)  # of the density, so that the last level can be gone beyond
        wanted = -np.log(_DENSITIES)
        beyond = max(0.0, logs[-1] - logs[-2]) / (at[-1] - at[-2])
        further = logs[-1] + beyond * (wanted - at[-1])
        found = np.where(wanted > at[-1], further, np.interp(wanted, at, logs))
        damages = np.exp(found)
        damages[0] = 0.0
        return np.asarray(damages)


def allocated(layers: Sequence[Weighted], share: float) -> dict[str, float]:
    """Return the sparsity of each layer at which all together cost a share of the dense network.

    The sum of the damages that layers do alone is as small as that cost allows: each layer is
    pruned to where a unit of cost saves as much damage as in any other (Shoham and Gersho 1988,
    "Efficient bit allocation for an arbitrary set of quantizers"; for pruning Frantar and Alistarh
    2022, "SPDY", arXiv 2201.13096). A smaller share never makes a layer denser.

    Parameters
    ----------
    layers
        All that are pruned.
    share
        Of the cost of all their weights, above 0.

    Examples
    --------
    >>> hurt = Tolerance(name="a", sparsities=(0.5, 0.9), damage=(0.1, 2.0))
    >>> spare = Tolerance(name="b", sparsities=(0.5, 0.9), damage=(0.001, 0.01))
    >>> found = allocated([Weighted(hurt, 1.0), Weighted(spare, 1.0)], 0.55)
    >>> found["a"] < 0.5 < found["b"]
    True
    """
    table = [(one.damages(), one.costs()) for one in layers]
    total = sum(float(costs[0]) for _, costs in table)
    low, high = 1e-12 / total, 1e12 / total
    for _ in range(200):
        price = float(np.sqrt(low * high))
        if _cost(table, _at_price(table, price)) > share * total:
            low = price
        else:
            high = price
        if high / low < 1 + 1e-6:
            break
    found, goal = _at_price(table, low), _at_price(table, high)
    # Where damage does not rise evenly a layer leaps from one price to the next: half way is left.
    for layer, end in enumerate(goal):
        while found[layer] < end and _cost(table, found) > share * total:
            found[layer] += 1
    return {
        one.tolerance.name: float(1 - _DENSITIES[at]) for one, at in zip(layers, found, strict=True)
    }


def evenly(layers: Sequence[Weighted], share: float) -> dict[str, float]:
    """Return the one sparsity of all layers at which they cost a share of the dense network."""
    return _bisected(layers, share, lambda sparsity: dict.fromkeys(_names(layers), sparsity))


def by_magnitude(
    magnitudes: Mapping[str, Numbers], layers: Sequence[Weighted], share: float
) -> dict[str, float]:
    """Return the sparsities that weights compared across layers give at a share of the cost.

    Parameters
    ----------
    magnitudes
        Of the weights of each layer, rising.
    layers, share
        As for `allocated`.

    Examples
    --------
    >>> layers = [
    ...     Weighted(Tolerance(name=name, sparsities=(0.5,), damage=(1.0,)), 4.0) for name in "ab"
    ... ]
    >>> magnitudes = {"a": np.array([1.0, 2.0, 3.0, 4.0]), "b": np.array([2.5, 5.0, 6.0, 7.0])}
    >>> by_magnitude(magnitudes, layers, 0.5)
    {'a': 0.75, 'b': 0.25}
    """
    pooled = np.sort(np.concatenate([magnitudes[name] for name in _names(layers)]))

    def shares(sparsity: float) -> dict[str, float]:
        below = pooled[min(len(pooled) - 1, round(sparsity * len(pooled)))]
        each = {name: magnitudes[name] for name in _names(layers)}
        return {
            name: min(int(np.searchsorted(one, below)), len(one) - 1) / len(one)
            for name, one in each.items()
        }

    return _bisected(layers, share, shares)


def magnitudes(network: nn.Module, names: Sequence[str]) -> dict[str, Numbers]:
    """Return the magnitudes of some weights, rising."""
    return {
        name: np.sort(network.get_parameter(name).detach().abs().flatten().double().cpu().numpy())
        for name in names
    }


def _bisected(
    layers: Sequence[Weighted], share: float, shares: Callable[[float], dict[str, float]]
) -> dict[str, float]:
    """Return the densest shares of a family, which rises from 0 to 1, that cost little enough."""
    tables = {one.tolerance.name: one.costs() for one in layers}
    wanted = share * sum(float(one[0]) for one in tables.values())

    def cost(sparsity: float) -> float:
        return sum(
            float(np.interp(shares(sparsity)[name], 1 - _DENSITIES, costs))
            for name, costs in tables.items()
        )

    low, high = 0.0, 1 - float(_DENSITIES[-1])
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) > wanted else (low, middle)
    return shares(high)


def _names(layers: Sequence[Weighted]) -> list[str]:
    return [one.tolerance.name for one in layers]


def _at_price(table: Sequence[tuple[Numbers, Numbers]], price: float) -> list[int]:
    return [int(np.argmin(damage + price * cost)) for damage, cost in table]


def _cost(table: Sequence[tuple[Numbers, Numbers]], at: Sequence[int]) -> float:
    return float(sum(cost[i] for (_, cost), i in zip(table, at, strict=True)))


def tolerances(
    network: nn.Module,
    split: Split,
    task: Task,
    pattern: str | Pattern,
    example: Example,
    exclude: Sequence[str] = (),
) -> tuple[Tolerance, ...]:
    """Prune each layer alone, at several sparsities, and measure how far the outputs move.

    Nothing is trained. See `distance` for the measure.

    Parameters
    ----------
    network
        The dense one; it stays as it is.
    split
        The examples that are run.
    task
        Says what an output is.
    pattern
        How layers are pruned, by magnitude within each.
    example
        What the network takes.
    exclude
        As for `gossamer.prune`.
    """
    layout = layout_of(network, split)
    network = laid_out(network, layout)
    batches = [
        mapped(inputs, lambda one: one.contiguous(memory_format=layout))
        for inputs, _ in split.batches(512)
    ]
    masks = [
        find_mask(network, level, allocation="uniform", pattern=pattern, exclude=list(exclude),
                  example=example)
        for level in LEVELS
    ]  # fmt: skip
    with torch.no_grad(), evaluation(network):
        wanted = [learnt_outputs(task, outputs_of(network, one)) for one in batches]

        def damage(name: str, mask: Mask) -> float:
            parameter = masks[0].bind(network)[name]
            before = parameter.detach().clone()
            parameter.mul_(mask[name].to(parameter.device))
            try:
                outputs = (learnt_outputs(task, outputs_of(network, one)) for one in batches)
                found = [float(distance(task, *p)) for p in zip(outputs, wanted, strict=True)]
            finally:
                parameter.copy_(before)
            return float(np.mean(found))

        return tuple(
            Tolerance(
                name=name,
                sparsities=LEVELS,
                damage=tuple(damage(name, mask) for mask in masks),
            )
            for name in masks[0].weights
        )

"""What each layer's weights cost in time: measured, as few weights do not always take little."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from torch import nn

from gossamer.shrinking.allocating import Weighted

MOST_LAYERS = 16
"""How many layers are timed, the greatest first; of others the time goes by their share."""
_ALIKE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose settings say all that their time depends on, beside the number of positions."""

TimeAt = Callable[[Sequence[Mapping[str, float]]], Sequence[float]]
"""From the sparsities of layers, by name, to the seconds of the networks that have them."""


def kinds_of(network: nn.Module, costs: Mapping[str, float]) -> dict[str, Hashable]:
    """Return what layers must have in common to take the same time, by the names of their weights.

    It is the module's settings and its multiply-adds; other weights than those of PyTorch's plain
    layers are each of a kind of its own.

    Examples
    --------
    >>> network = nn.Sequential(*(nn.Linear(4, size) for size in (4, 4, 2)))
    >>> kinds = kinds_of(network, {"0.weight": 16, "1.weight": 16, "2.weight": 8})
    >>> kinds["0.weight"] == kinds["1.weight"], kinds["0.weight"] == kinds["2.weight"]
    (True, False)
    """
    found: dict[str, Hashable] = {}
    for name, cost in costs.items():
        owner, _, own = name.rpartition(".")
        module = network.get_submodule(owner)
        plain = type(module) in _ALIKE and own == "weight"
        found[name] = (type(module), module.extra_repr(), cost) if plain else name
    return found


def kinds_timed(kinds: Mapping[str, Hashable], costs: Mapping[str, float]) -> int:
    """Return how many layers are timed: one of each kind among the greatest."""
    return len({kinds[name] for name in _greatest(costs)})


def _greatest(costs: Mapping[str, float]) -> list[str]:
    return sorted(costs, key=lambda name: -costs[name])[:MOST_LAYERS]


def timed_layers(
    layers: Sequence[Weighted],
    kinds: Mapping[str, Hashable],
    reference: Mapping[str, float],
    time_at: TimeAt,
) -> list[Weighted]:
    """Return layers with the time that their weights take, in the place of their multiply-adds.

    A layer of each kind is timed at each of its sparsities within a network whose other layers are
    as sparse as they will be, as a table for each layer of what can be saved in it (Frantar and
    Alistarh 2022, "SPDY", arXiv 2201.13096; Kurtic et al. 2023, "ZipLM", arXiv 2302.04089).

    Parameters
    ----------
    layers
        With their multiply-adds as cost.
    kinds
        By name; layers of one kind take the same time. See `kinds_of`.
    reference
        How sparse the other layers are.
    time_at
        Times networks in turn.
    """
    sparsities = {one.tolerance.name: one.tolerance.sparsities for one in layers}
    times: dict[Hashable, Sequence[float]] = {}
    for name in _greatest({one.tolerance.name: one.cost for one in layers}):
        if kinds[name] not in times:
            levels = (0.0, *sparsities[name])
            times[kinds[name]] = time_at([{**reference, name: level} for level in levels])
    found = {
        one.tolerance.name: replace(one, cost=dense, costs_at=tuple(sparse))
        for one in layers
        if kinds[one.tolerance.name] in times
        for dense, *sparse in [times[kinds[one.tolerance.name]]]
    }
    multiply_adds = sum(one.cost for one in layers if one.tolerance.name in found)
    seconds = sum(float(one.costs()[0]) for one in found.values())
    return [
        found.get(one.tolerance.name)
        or replace(one, cost=seconds * one.cost / max(multiply_adds, 1.0))
        for one in layers
    ]

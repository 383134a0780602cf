"""What each layer's weights cost in time: measured, as few weights do not always take little."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gossamer.shrinking.allocating import Weighted

MOST_LAYERS = 16
"""How many layers are timed, the greatest first; of others the time goes by their share."""

TimeAt = Callable[[Sequence[Mapping[str, float]]], Sequence[float]]
"""From the sparsities of layers, by name, to the seconds of the networks that have them."""


def timed_layers(
    layers: Sequence[Weighted], reference: Mapping[str, float], time_at: TimeAt
) -> list[Weighted]:
    """Return layers with the time that their weights take, in the place of their multiply-adds.

    Each layer is timed at each of its sparsities within a network whose other layers are as sparse
    as they will be, as a table for each layer of what can be saved in it (Frantar and Alistarh
    2022, "SPDY", arXiv 2201.13096; Kurtic et al. 2023, "ZipLM", arXiv 2302.04089).

    Parameters
    ----------
    layers
        With their multiply-adds as cost.
    reference
        How sparse the other layers are.
    time_at
        Times networks in turn.
    """
    greatest = sorted(layers, key=lambda one: -one.cost)[:MOST_LAYERS]
    found: dict[str, Weighted] = {}
    for layer in greatest:
        name = layer.tolerance.name
        levels = (0.0, *layer.tolerance.sparsities)
        dense, *sparse = time_at([{**reference, name: level} for level in levels])
        found[name] = replace(layer, cost=dense, costs_at=tuple(sparse))
    multiply_adds = sum(one.cost for one in greatest)
    seconds = sum(float(one.costs()[0]) for one in found.values())
    return [
        found.get(one.tolerance.name)
        or replace(one, cost=seconds * one.cost / max(multiply_adds, 1.0))
        for one in layers
    ]

"""How many units each layer loses: by what they are worth to the outputs, and what they take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.masks.patterns import Unit
from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.allocating import Weighted, allocated
from gossamer.shrinking.costs import quietly
from gossamer.shrinking.descent import Ground
from gossamer.shrinking.sensitivity import Choosing
from gossamer.shrinking.split import Split

UNIT_LEVELS = (0.25, 0.5, 0.75, 0.9)
"""Shares of its units that each layer is tried without."""
MOST_GROUPS = 16
"""Beyond so many groups of layers units are compared across layers instead."""


@dataclass(frozen=True, eq=False)
class UnitLayers:
    """Layers by what their units are worth and take; those that are tied are one."""

    layers: tuple[Weighted, ...]
    """Each by the name of the first weight of its group."""
    groups: Mapping[str, tuple[str, ...]]
    """By that name, the weights that lose the same units."""

    def shares(self, share: float) -> dict[str, float]:
        """Return the share of its units that each weight loses, at a share of the cost."""
        found = allocated(self.layers, share)
        return {
            name: min(found[first], UNIT_LEVELS[-1])
            for first, names in self.groups.items()
            for name in names
        }


def unit_layers(
    dense: nn.Module,
    ground: Ground,
    some: Split,
    damage: Callable[[nn.Module], float],
    time_at: Callable[[Sequence[nn.Module]], Sequence[float]],
) -> UnitLayers | None:
    """Measure each group of layers at several shares of its units, with nothing trained.

    Returns
    -------
    UnitLayers or None
        None where there are too many groups to time each of them, or none.

    Parameters
    ----------
    dense, ground
        What the search works with.
    some
        The examples that scores are made of.
    damage
        How far a network's outputs are from the dense one's.
    time_at
        Times networks in turn.
    """
    batches = list(some.batches(256))
    choosing = Choosing(
        dense, Unit(), None, list(ground.options.exclude), ground.few, batches, ground.task
    )
    groups, _ = choosing.groups(UNIT_LEVELS)
    if not 1 < len(groups) <= MOST_GROUPS:
        return None
    layers = []
    for names in groups:
        networks = [plain_copy(dense)]
        for level in UNIT_LEVELS:
            network = plain_copy(dense)
            with quietly():
                choosing.mask(names, level).apply(network)
            networks.append(network)
        whole, *fewer = time_at([one.cpu().eval() for one in networks])
        damages = tuple(damage(one) for one in networks[1:])
        tolerance = Tolerance(name=names[0], sparsities=UNIT_LEVELS, damage=damages)
        layers.append(Weighted(tolerance, whole, tuple(fewer)))
    return UnitLayers(tuple(layers), {names[0]: names for names in groups})

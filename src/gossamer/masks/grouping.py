"""The groups that a mask keeps or prunes as a whole, by the pattern that it was found with."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.masks.choices import read
from gossamer.masks.layers import PrunableWeight
from gossamer.masks.mask import Mask
from gossamer.masks.patterns import PATTERNS, Pattern
from gossamer.masks.saliency import norms_of, sizes_of
from gossamer.masks.selection import unless_alike


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of one weight."""

    layer: PrunableWeight
    pattern: Pattern
    kept: Tensor
    """Which of them are kept, ``[groups]``."""

    @property
    def pools(self) -> Tensor | None:
        """Return numbers ``[groups]``: those of one number can take each other's place.

        They are the groups of a run, or those that hold as many weights. None where all can.
        """
        if self.pattern.run is not None:
            return torch.arange(len(self.kept)) // self.pattern.run[1]
        return unless_alike(sizes_of(self.pattern, self.layer))

    def norms(self, values: Tensor) -> Tensor:
        """Return the L2 norm of values, of the weight's shape, in each group."""
        return norms_of(self.pattern.groups(values, self.layer))

    def spread(self, kept: Tensor) -> Tensor:
        """Return which weights are kept, of the weight's shape, where these groups are."""
        return self.pattern.spread(kept, self.layer)


def pattern_of(mask: Mask) -> Pattern:
    """Return the pattern that a mask says it was found with; single weights if it says none."""
    return read(mask.provenance.get("pattern", "weight"), Pattern, PATTERNS)


def groupings(mask: Mask, network: nn.Module) -> dict[str, Grouping]:
    """Return the groups of each weight of a mask, by name.

    Raises
    ------
    InputError
        If it does not keep them by its pattern, as after it was shuffled or joined with another.
    """
    pattern = pattern_of(mask)
    found = {}
    for name, parameter in mask.bind(network).items():
        units = mask.layout(name) if name in mask.unit_dimensions else None
        layer = PrunableWeight(name, name.rpartition(".")[0], parameter, units)
        weights = mask.weights[name]
        groups = torch.any(pattern.groups(weights, layer).flatten(-2), -1).flatten()
        whole = torch.equal(pattern.spread(groups, layer), weights)
        if pattern.run is not None:
            stay, length = pattern.run
            whole = whole and bool(torch.all(groups.view(-1, length).sum(1) == stay))
        if not whole:
            raise InputError(
                f"the mask of {name} does not have the pattern {pattern} that it was found with: "
                "take one that was neither shuffled nor joined with another"
            )
        found[name] = Grouping(layer, pattern, groups)
    return found

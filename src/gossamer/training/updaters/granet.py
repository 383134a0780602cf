"""Gradual pruning with regrowth."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from gossamer.training.updaters.gradual import Gradual
from gossamer.training.updaters.moving import Share, exchanged
from gossamer.training.updaters.updater import Moment

if TYPE_CHECKING:
    from gossamer.masks import Mask


class GraNet(Gradual):
    """Prune more and more, and at each update let some of what is pruned grow again (Liu et al.
    2021, "Sparse Training via Boosting Pruning Plasticity with Neuroregeneration", arXiv
    2106.10404).

    After each update of gradual pruning a share of the kept weights of each layer, those closest to
    zero, is dropped, and as many grow where the gradient is largest. The share falls along half a
    cosine, to nothing at the last update.
    """  # noqa: D205

    version: ClassVar[int] = 1
    moves: ClassVar[tuple[str, ...]] = ("weight",)
    name: Literal["granet"] = "granet"  # type: ignore[assignment]
    """Which updater."""
    fraction: Share = 0.5
    """Share of the kept weights of each layer that is dropped and grown in the first update."""

    def after_step(self, moment: Moment) -> "Mask | None":
        """Return a sparser mask of other weights where an update is due."""
        pruned = super().after_step(moment)
        progress = (moment.step - self.start) / (self.every * self.updates)
        share = self.fraction / 2 * (1 + math.cos(math.pi * progress))
        if pruned is None or not pruned.zeros or not share:
            return pruned
        gradients = moment.gradients_by_weight()
        weights = pruned.bind(moment.network)
        moved = {}
        for name, kept in pruned.weights.items():
            dropped = round(share * int(kept.sum()))
            growth = gradients[name].abs()
            moved[name] = exchanged(kept, weights[name].detach(), growth, dropped)
        return replace(pruned, weights=moved)

"""Moving the weights of a mask: in each layer some go, and as many others come."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, PositiveInt

from gossamer.core.errors import InputError
from gossamer.training.updaters.updater import Moment, Moved, Updater

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from gossamer.graph.examples import Example
    from gossamer.masks import Mask
    from gossamer.masks.grouping import Grouping

Share = Annotated[float, Field(gt=0, le=1)]


class Moving(Updater):
    """Drop a share of the kept weights of each layer, those closest to zero, and grow as many.

    A kind of it says which ones grow. What grows starts at zero, without anything that the
    optimizer kept for it. Each layer keeps its number of weights. Blocks go and grow whole, those
    of smallest norm first, and others of their size grow for them; of each m weights n stay.
    """

    moves: ClassVar[tuple[str, ...]] = ("weight", "n-by-m", "block")
    needs_steps: ClassVar[bool] = True
    fraction: Share = 0.3
    """Share of the kept weights of each layer that is dropped in the first update."""
    every: PositiveInt = 100
    """Optimizer steps from one update to the next."""
    until: Share = 0.75
    """Share of the training's steps after which the mask stays as it is."""

    def check_steps(self, steps: int) -> None:
        """Refuse a training in which no update would come."""
        if self.every >= self.until * steps:
            raise InputError(
                f"the updater moves weights every {self.every:,} steps before step "
                f"{self.until * steps:,.0f} of a training of {steps:,}, which is never: let it "
                "come more often, or the training have more epochs"
            )

    def check_mask(self, mask: "Mask", network: "nn.Module", example: "Example | None") -> None:  # noqa: ARG002
        """Refuse a mask that does not have the pattern that it was found with."""
        from gossamer.masks.grouping import groupings

        groupings(mask, network)

    def share(self, progress: float) -> float:  # noqa: ARG002
        """Return which share of the kept weights is dropped at a share of the time of updates."""
        return self.fraction

    def growth(self, moment: Moment) -> "Callable[[Grouping], Tensor]":
        """Return what gives a number for each group of a weight; the largest grow first."""
        raise NotImplementedError

    def growth_of_layers(self, moment: Moment) -> "Callable[[str, torch.Size], Iterator[Tensor]]":
        """Return what gives of the weight of a sparse layer, from name and shape, who grows first.

        It gives blocks of rows, one after the other. Called where it moves connections, too.
        """
        raise NotImplementedError

    def moved(
        self,
        moment: Moment,  # noqa: ARG002
        grouping: "Grouping",
        growth: "Tensor",
        share: float,
    ) -> "Tensor":
        """Return which groups are kept from now on, ``[groups]``."""
        return exchanged(
            grouping.kept,
            grouping.norms(grouping.layer.weight.detach()),
            growth,
            round(share * int(grouping.kept.sum())),
            grouping.pools,
        )

    def after_step(self, moment: Moment) -> "Moved | None":
        """Return as many weights in each layer where an update is due."""
        from gossamer.masks.grouping import groupings
        from gossamer.training.connections import exchanged_positions

        assert moment.steps is not None
        progress = moment.step / (self.until * moment.steps)
        if moment.step % self.every or progress >= 1:
            return None
        share, positions = self.share(progress), {}
        if moment.layers:
            grows = self.growth_of_layers(moment)
            positions = {
                name: exchanged_positions(
                    layer, grows(name, layer.weight_shape), round(share * layer.connections)
                )
                for name, layer in moment.layers.items()
            }
        if moment.mask is None:
            return Moved(None, positions)
        growth = self.growth(moment)
        moved = {
            name: one.spread(self.moved(moment, one, growth(one), share))
            for name, one in groupings(moment.mask, moment.network).items()
        }
        provenance = {**moment.mask.provenance, "moved": self.kind()}
        return Moved(replace(moment.mask, weights=moved, provenance=provenance), positions)


def exchanged(
    kept: "Tensor",
    weight: "Tensor",
    growth: "Tensor",
    dropped: int,
    pools: "Tensor | None" = None,
) -> "Tensor":
    """Drop kept weights closest to zero, and grow as many: those of highest growth then pruned.

    What was just dropped may grow again, with the value that it has. Ties go by position.

    Parameters
    ----------
    kept
        Boolean, ``[groups]`` or of a weight's shape.
    weight, growth
        Of the same shape: how large each is, and how much it is to grow.
    dropped
        How many.
    pools
        Numbers from 0, of the same shape: of each as many grow as are dropped. None for one pool.

    Examples
    --------
    >>> import torch
    >>> kept = torch.tensor([True, True, False, False])
    >>> weight, growth = torch.tensor([2.0, -1, 0, 0]), torch.tensor([9.0, 1, 2, 3])
    >>> exchanged(kept, weight, growth, 1).tolist()
    [True, False, False, True]
    >>> exchanged(kept, weight, growth, 1, torch.tensor([0, 0, 1, 1])).tolist()
    [True, True, False, False]
    """
    import torch

    from gossamer.masks.selection import lowest, lowest_of_pools

    magnitudes = weight.abs().float().cpu().masked_fill(~kept, torch.inf).flatten()
    left = kept.flatten() & ~lowest(magnitudes, dropped)
    order = (-growth.float().cpu()).flatten().masked_fill(left, torch.inf)
    if pools is None:
        grown = lowest(order, dropped)
    else:
        missing = pools[kept.flatten() & ~left].bincount(minlength=int(pools.max()) + 1)
        grown = lowest_of_pools(order, pools.flatten(), missing)
    return (left | grown).view(kept.shape)

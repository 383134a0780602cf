"""Moving the weights of a mask: in each layer some go, and as many others come."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, PositiveInt

from gossamer.core.errors import InputError
from gossamer.training.updaters.updater import Moment, Updater

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.masks import Mask

Share = Annotated[float, Field(gt=0, le=1)]


class Moving(Updater):
    """Drop a share of the kept weights of each layer, those closest to zero, and grow as many.

    A kind of it says which ones grow. What grows starts at zero, without anything that the
    optimizer kept for it. Each layer keeps its number of weights.
    """

    moves: ClassVar[bool] = True
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

    def share(self, progress: float) -> float:  # noqa: ARG002
        """Return which share of the kept weights is dropped at a share of the time of updates."""
        return self.fraction

    def growth(self, moment: Moment) -> "Callable[[str, Tensor], Tensor]":
        """Return what gives of a weight, from its name and what is kept, who grows first."""
        raise NotImplementedError

    def after_step(self, moment: Moment) -> "Mask | None":
        """Return a mask of as many weights in each layer where an update is due."""
        assert moment.steps is not None
        assert moment.mask is not None
        progress = moment.step / (self.until * moment.steps)
        if moment.step % self.every or progress >= 1:
            return None
        growth, share = self.growth(moment), self.share(progress)
        weights = moment.mask.bind(moment.network)
        moved = {
            name: exchanged(
                kept, weights[name].detach(), growth(name, kept), round(share * int(kept.sum()))
            )
            for name, kept in moment.mask.weights.items()
        }
        provenance = {**moment.mask.provenance, "moved": self.kind()}
        return replace(moment.mask, weights=moved, provenance=provenance)


def exchanged(
    kept: "Tensor", weight: "Tensor", growth: "Tensor", dropped: int, grown: int | None = None
) -> "Tensor":
    """Drop kept weights closest to zero, and grow those of highest growth that are then pruned.

    What was just dropped may grow again, with the value that it has. Ties go by position.

    Parameters
    ----------
    kept
        Boolean.
    weight, growth
        Of the same shape.
    dropped, grown
        How many; as many grow as are dropped where nothing else is said.

    Examples
    --------
    >>> import torch
    >>> kept = torch.tensor([True, True, False, False])
    >>> weight, growth = torch.tensor([2.0, -1, 0, 0]), torch.tensor([9.0, 1, 2, 3])
    >>> exchanged(kept, weight, growth, 1).tolist()
    [True, False, False, True]
    """
    import torch

    from gossamer.masks.selection import lowest

    magnitudes = weight.abs().float().cpu().masked_fill(~kept, torch.inf).flatten()
    left = kept.flatten() & ~lowest(magnitudes, dropped)
    order = (-growth.float().cpu()).flatten().masked_fill(left, torch.inf)
    return (left | lowest(order, dropped if grown is None else grown)).view(kept.shape)

"""Sparse evolutionary training."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from gossamer.training.updaters.moving import Moving, Share
from gossamer.training.updaters.updater import Moment

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.masks.grouping import Grouping


class SET(Moving):
    """Move weights to random places (Mocanu et al. 2018, "Scalable training of artificial neural
    networks with adaptive sparse connectivity inspired by network science", arXiv 1707.04780).

    The paper drops the share of positive and of negative weights each by itself, once an epoch,
    and lets what grows start at random; here, as in later work, both go together, and what grows
    starts at zero.
    """  # noqa: D205

    version: ClassVar[int] = 1
    name: Literal["set"] = "set"
    """Which updater."""
    until: Share = 1.0
    """Share of the training's steps after which the mask stays as it is."""

    def growth(self, moment: Moment) -> "Callable[[Grouping], Tensor]":
        """Return what draws a number for every group."""
        import torch

        from gossamer.core.streams import stream

        def drawn(one: "Grouping") -> "Tensor":
            random = stream(moment.seed, "grow", moment.step, one.layer.name)
            return torch.from_numpy(random.random(len(one.kept)))

        return drawn

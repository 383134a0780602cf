"""Sparse evolutionary training."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from gossamer.training.updaters.moving import Moving, Share
from gossamer.training.updaters.updater import Moment

if TYPE_CHECKING:
    import torch
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
    moves_connections: ClassVar[bool] = True
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

    def growth_of_layers(self, moment: Moment) -> "Callable[[str, torch.Size], Iterator[Tensor]]":
        """Return what draws a number for every entry of a layer's weight."""
        import torch

        from gossamer.core.streams import stream
        from gossamer.training.connections import blocks_of

        def drawn(name: str, shape: "torch.Size") -> "Iterator[Tensor]":
            random = stream(moment.seed, "grow", moment.step, name)
            for begin, end in blocks_of(shape):
                yield torch.from_numpy(random.random((end - begin, *shape[1:])))

        return drawn

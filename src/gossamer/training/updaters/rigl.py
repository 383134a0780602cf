"""Growing weights where the gradient is large."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from gossamer.training.updaters.moving import Moving
from gossamer.training.updaters.updater import Moment

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gossamer.masks.grouping import Grouping


class RigL(Moving):
    """Move weights to where the gradient of the loss is largest (Evci et al. 2020, "Rigging the
    Lottery: Making All Tickets Winners", arXiv 1911.11134).

    The share that moves falls along half a cosine, to nothing when the mask comes to rest.
    """  # noqa: D205

    version: ClassVar[int] = 1
    moves_connections: ClassVar[bool] = True
    name: Literal["rigl"] = "rigl"
    """Which updater."""

    def share(self, progress: float) -> float:
        """Return the share of the kept weights that is dropped.

        Examples
        --------
        >>> [round(RigL(fraction=0.4).share(progress), 3) for progress in (0, 0.5, 1)]
        [0.4, 0.2, 0.0]
        """
        return self.fraction / 2 * (1 + math.cos(math.pi * progress))

    def growth(self, moment: Moment) -> "Callable[[Grouping], Tensor]":
        """Return what gives the norm of the gradient of every group."""
        gradients = moment.gradients_by_weight()
        return lambda one: one.norms(gradients[one.layer.name])

    def growth_of_layers(self, moment: Moment) -> "Callable[[str, torch.Size], Iterator[Tensor]]":
        """Return what gives the magnitudes of the gradient of a layer's weight."""
        gradients = moment.gradients_by_layer()

        def magnitudes(name: str, shape: "torch.Size") -> "Iterator[Tensor]":  # noqa: ARG001
            return (block.abs() for block in gradients[name].blocks())

        return magnitudes

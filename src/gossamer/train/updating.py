"""An updater at work on a network and its optimizer."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.masks import Mask
from gossamer.train.updaters import Moment, Updater


class Updating:
    """Asks an updater after each step, and enforces the mask that it gives.

    Parameters
    ----------
    updater
        Whom to ask.
    network, optimizer
        What is trained, and by what.
    mask
        What is enforced on the optimizer already; None if nothing is.
    seed
        Seed of all that is drawn.
    example
        What the network takes, ``[2, ...]``.
    memory
        What the updater kept when an earlier run of the same training was left.
    """

    def __init__(
        self,
        updater: Updater,
        network: nn.Module,
        optimizer: Optimizer,
        mask: Mask | None,
        seed: int,
        example: Tensor,
        memory: Mapping[str, Tensor],
    ) -> None:
        self._updater, self._network, self._optimizer = updater, network, optimizer
        self._seed, self._example = seed, example
        self.mask = mask
        self.memory = dict(memory)

    @property
    def density(self) -> float:
        """The share of the prunable weights that is kept; 1 as long as nothing is pruned."""
        return 1 - self.mask.sparsity if self.mask else 1.0

    def after_step(self, step: int, gradients: Callable[[], Mapping[str, Tensor]]) -> None:
        """Let the updater look at the network after a step; see `Moment`."""
        moment = Moment(
            step, self._network, self.mask, self.memory, self._seed, self._example, gradients
        )
        mask = self._updater.after_step(moment)
        if mask is not None:
            # Sets to zero what is pruned and what the optimizer keeps for it, so that what is kept
            # anew starts with neither.
            mask.enforce(self._network, self._optimizer)
            self.mask = mask

"""Training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gossamer.core.errors import InputError
from gossamer.core.formats import listed
from gossamer.masks.patterns import resolved_pattern
from gossamer.recipes.steps.prune import Prune
from gossamer.recipes.steps.step import Expected, Step, Work
from gossamer.training.options import TrainingOptions
from gossamer.training.updaters import AnyUpdater

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.data import Dataset
    from gossamer.recipes.state import State
    from gossamer.training.loop import Standing


class Train(TrainingOptions, Step):
    """Train for some epochs; whatever is pruned by then stays zero."""

    version: ClassVar[int] = 1
    sparse: ClassVar[bool] = False
    step: Literal["train"] = "train"
    optimizer_state: Literal["fresh", "keep"] = "fresh"
    """Whether momenta start anew or go on from the training before."""
    # Not written where there is none, as in the keys of runs from before there were any.
    updater: AnyUpdater | None = Field(None, exclude_if=lambda value: value is None)
    """What changes the mask while training goes on; left out, nothing does."""

    def described(self) -> dict[str, Any]:
        """Return the step as JSON values, with its version and that of its updater."""
        values = super().described()
        if self.updater is not None:
            values["updater"]["version"] = self.updater.version
        return values

    def _pruning(self) -> Prune | None:
        """Return the pruning that its updater ends in, if it has one that prunes."""
        options = self.updater.pruning() if self.updater is not None else None
        return None if options is None else Prune(**options)

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:
        """Refuse to keep momenta, to watch a split or to change a mask that are not there."""
        if self.updater is not None:
            if not self.updater.moves_connections:
                reached[-1].must_be_unpacked(at)
            if self._pruning() is None and not reached[-1].masks:
                raise InputError(
                    f"{at} has an updater that moves the weights of a mask, but nothing is pruned "
                    "before it"
                )
            masks = [mask for mask in reached[-1].masks if isinstance(mask, Prune)]
            patterns = [resolved_pattern(mask.pattern) for mask in masks]
            moves = self.updater.moves
            if moves and (others := [p for p in patterns if p.name not in moves]):
                raise InputError(
                    f"{at} has an updater that moves weights of the pattern "
                    f"{listed(list(moves))}, but the pattern {others[0]} is pruned by then: prune "
                    "by another one"
                )
        if self.optimizer_state == "keep" and reached[-1].optimizer != self.optimizer.name:
            raise InputError(
                f"{at} keeps the optimizer's state, but no {self.optimizer.name} training "
                "comes right before it: use optimizer_state = 'fresh'"
            )
        stop = self.early_stop
        if stop is not None and self._pruning() is not None:
            raise InputError(
                f"{at} stops early, which may come before its updater has pruned all that it is "
                "to prune: leave early_stop out, or prune in a step of its own"
            )
        if stop is not None and stop.watch.startswith("validation") and not validation:
            raise InputError(
                f"{at} stops early on {stop.watch}, but no part of the data is held "
                "out: set validation in [data], or watch train_loss"
            )

    def check_data(self, dataset: "Dataset", examples: int) -> None:
        """Refuse to augment what is no image, and an updater that needs more steps."""
        if self.updater is not None:
            self.updater.check_steps(self.epochs * -(-examples // self.batch))
        if self.augmentation is not None and len(dataset.input_shape) != 3:
            raise InputError(
                f"{dataset.name}: augmentation needs images, but its examples have shape "
                f"{list(dataset.input_shape)}: leave augmentation out"
            )

    def expected(self, before: Expected) -> Expected:
        """Return what was there, with momenta, and with the mask that an updater ends in."""
        pruning = self._pruning()
        after = pruning.expected(before) if pruning is not None else before
        return replace(after, optimizer=self.optimizer.name)

    def rehearsed_as(self) -> Prune | None:
        """Return the pruning that its updater ends in; None where it has none that prunes."""
        pruning = self._pruning()
        return pruning.rehearsed_as() if pruning is not None else None

    def rehearse(self, network: "nn.Module", example: "Tensor") -> None:
        """Find the mask of the untrained network that its updater would end in."""
        if (pruning := self._pruning()) is not None:
            pruning.rehearse(network, example)

    def train(self, work: Work) -> "tuple[State, Standing]":
        """Return the state that it leads to, for a file to keep, and what it took."""
        from gossamer.recipes.resumable_training import train_from

        return train_from(self, work)

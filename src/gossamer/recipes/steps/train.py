"""Training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from gossamer.core.errors import InputError
from gossamer.recipes.steps.step import Expected, Step, Work
from gossamer.train.options import TrainingOptions

if TYPE_CHECKING:
    from gossamer.data import Dataset
    from gossamer.recipes.state import State
    from gossamer.train.loop import Standing


class Train(TrainingOptions, Step):
    """Train for some epochs; whatever is pruned by then stays zero."""

    version: ClassVar[int] = 1
    sparse: ClassVar[bool] = False
    step: Literal["train"] = "train"
    optimizer_state: Literal["fresh", "keep"] = "fresh"
    """Whether momenta start anew or go on from the training before."""

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:
        """Refuse to keep momenta that are not there, or to watch a split that is empty."""
        if self.optimizer_state == "keep" and reached[-1].optimizer != self.optimizer.name:
            raise InputError(
                f"{at} keeps the optimizer's state, but no {self.optimizer.name} training "
                "comes right before it: use optimizer_state = 'fresh'"
            )
        stop = self.early_stop
        if stop is not None and stop.watch.startswith("validation") and not validation:
            raise InputError(
                f"{at} stops early on {stop.watch}, but no part of the data is held "
                "out: set validation in [data], or watch train_loss"
            )

    def check_data(self, dataset: "Dataset") -> None:
        """Refuse to augment what is no image."""
        if self.augmentation is not None and len(dataset.input_shape) != 3:
            raise InputError(
                f"{dataset.name}: augmentation needs images, but its examples have shape "
                f"{list(dataset.input_shape)}: leave augmentation out"
            )

    def expected(self, before: Expected) -> Expected:
        """Return what was there, with momenta."""
        return replace(before, optimizer=self.optimizer.name)

    def train(self, work: Work) -> "tuple[State, Standing]":
        """Return the state that it leads to, for a file to keep, and what it took."""
        from gossamer.recipes.resumable_training import train_from

        return train_from(self, work)

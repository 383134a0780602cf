"""Borrowing a mask."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from gossamer.core.errors import InputError
from gossamer.recipes.steps.step import (
    AnyStep,
    Expected,
    Step,
    Work,
    check_recipe,
    expected_after,
)
from gossamer.training.options import Options

if TYPE_CHECKING:
    from gossamer.recipes.state import State


class Lender(Options):
    """Which run a mask is borrowed from: same network, other dataset or seed."""

    data: str | None = None
    """Its dataset; None for that of the trial that borrows."""
    seed_offset: NonNegativeInt = 1000
    """Added to the trial's seed, so that the source starts from other weights. With 0 source and
    trial start alike, and a transferred mask is a lottery ticket."""


class Source(Lender):
    """The recipe that a mask is borrowed from."""

    recipe: tuple[AnyStep, ...] = Field(min_length=1)


class Transfer(Step):
    """Prune by a mask from the final state of another recipe, other dataset included."""

    version: ClassVar[int] = 1
    step: Literal["transfer"] = "transfer"
    source: Source
    shuffle: Literal["layer", "unit"] | None = None
    """Put the kept weights at random positions, keeping the count of each layer or unit."""
    enforce: bool = True
    """False sets the weights to zero once, so that they grow back in training."""

    @property
    def source_recipe(self) -> Source:
        """The recipe that the mask is borrowed from."""
        return self.source

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:
        """Refuse a source that cannot be done or ends without a mask."""
        reached[-1].must_be_unpacked(at)
        try:
            check_recipe(self.source.recipe, validation)
        except InputError as error:
            raise InputError(f"{at}, its source: {error}") from error
        if not expected_after(self.source.recipe).masks:
            raise InputError(f"{at} borrows a mask, but its source ends without one: let it prune")

    def expected(self, before: Expected) -> Expected:
        """Return the masks of the source on top of those that were there."""
        source = expected_after(self.source.recipe)
        masks = (*before.masks, *(source.masks if self.enforce else ()))
        return replace(
            before, masks=masks, pruned=True, sparsity=max(before.sparsity, source.sparsity)
        )

    def do(self, work: Work) -> "State":
        """Return the network under the borrowed mask."""
        mask = work.borrowed()
        if self.shuffle is not None:
            mask = mask.shuffled(work.seed, self.shuffle)
        return work.before.masked(work.loaded(work.before), mask, self.enforce)

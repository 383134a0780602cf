"""Going back to earlier weights."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt

from gossamer.core.errors import InputError
from gossamer.recipes.steps.step import Expected, Step, Work

if TYPE_CHECKING:
    from gossamer.recipes.state import State


class Rewind(Step):
    """Set weights and buffers back to what they were after an earlier step; the mask stays.

    Momenta are dropped; the count of epochs goes on, so that later epochs are shuffled anew
    (Frankle et al. 2020, arXiv 1912.05671).
    """

    version: ClassVar[int] = 1
    sparse: ClassVar[bool] = False
    step: Literal["rewind"] = "rewind"
    to: NonNegativeInt = 0
    """How many steps had been done then; 0 is the initialisation."""

    def starts(self, done: int) -> tuple[int, ...]:
        """Return the state before it, whose mask stays, and the earlier one."""
        return (done, self.to)

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:  # noqa: ARG002
        """Refuse to go back to a step not yet done, or from or to packed layers."""
        reached[-1].must_be_unpacked(at)
        if self.to >= len(reached):
            raise InputError(
                f"{at} goes back to after step {self.to}, but only {len(reached) - 1} come before "
                "it"
            )
        if reached[self.to].packed:
            raise InputError(f"{at} goes back to packed layers: rewind to a step before the pack")

    def expected(self, before: Expected) -> Expected:
        """Return what was there, less momenta."""
        return replace(before, optimizer=None)

    def do(self, work: Work) -> "State":
        """Return the earlier weights, under the mask of now."""
        from gossamer.recipes.state import State, snapshot

        network, mask = work.loaded(work.earlier(self.to)), work.before.mask
        if mask is not None:
            mask.apply(network)
        return State(snapshot(network), mask, epochs=work.before.epochs)

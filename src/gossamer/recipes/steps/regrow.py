"""Lifting the mask."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from gossamer.core.errors import InputError
from gossamer.recipes.steps.step import Expected, Step, Work

if TYPE_CHECKING:
    from gossamer.recipes.state import State


class Regrow(Step):
    """Lift the mask: pruned weights take part again, starting from zero (Han et al. 2017,
    "DSD: Dense-Sparse-Dense Training for Deep Neural Networks", arXiv 1607.04381).

    Packed layers become dense ones again; momenta are dropped.
    """  # noqa: D205

    version: ClassVar[int] = 1
    step: Literal["regrow"] = "regrow"

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:  # noqa: ARG002
        """Refuse to lift a mask where none was."""
        if not reached[-1].pruned:
            raise InputError(f"{at} lifts a mask, but nothing is pruned before it")

    def expected(self, before: Expected) -> Expected:
        """Return that nothing is masked, packed or has momenta."""
        return Expected(pruned=before.pruned)

    def do(self, work: Work) -> "State":
        """Return the dense network."""
        from gossamer.networks.packing import unpack
        from gossamer.recipes.state import State, snapshot

        network = unpack(work.loaded(work.before))
        return State(snapshot(network), epochs=work.before.epochs)

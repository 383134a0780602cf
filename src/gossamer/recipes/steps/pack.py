"""Layers that store their non-zeros only."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from gossamer.core.errors import InputError
from gossamer.recipes.steps.prune import Prune
from gossamer.recipes.steps.step import Expected, Step, Work

if TYPE_CHECKING:
    from gossamer.recipes.state import State


class Pack(Step):
    """Turn masked layers into layers that store, train and save their non-zeros only.

    Momenta are dropped.
    """

    version: ClassVar[int] = 1
    step: Literal["pack"] = "pack"
    initialisation: Literal["keep", "he", "vector-glorot"] = "keep"
    """Keep the values, or draw them anew: "he" with the realised fan-in of each unit,
    "vector-glorot" as if the non-zeros of a layer were one vector."""

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:  # noqa: ARG002
        """Refuse to pack where no mask of single weights is in force."""
        reached[-1].must_be_unpacked(at)
        masks = reached[-1].masks
        if not masks:
            raise InputError(f"{at} packs masked layers, but nothing is pruned before it")
        if any(isinstance(mask, Prune) and mask.pattern == "unit" for mask in masks):
            raise InputError(
                f"{at} packs single weights, but whole units are pruned before it: leave it out"
            )

    def expected(self, before: Expected) -> Expected:
        """Return packed layers without momenta."""
        return replace(before, packed=True, optimizer=None)

    def do(self, work: Work) -> "State":
        """Return the network with its masked layers packed.

        Raises
        ------
        InputError
            If the mask prunes whole units.
        """
        from gossamer.networks.packing import pack
        from gossamer.recipes.state import State, snapshot

        before, mask = work.before, work.before.mask
        assert mask is not None
        if mask.attached:
            raise InputError(
                "pack is for single weights, but the mask prunes whole units, with their biases: "
                "leave it out"
            )
        network = pack(
            work.loaded(before), mask.weights, initialisation=self.initialisation, seed=work.seed
        )
        return State(snapshot(network), mask, epochs=before.epochs, packed=True)

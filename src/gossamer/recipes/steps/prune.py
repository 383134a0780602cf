"""Pruning."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from gossamer.core.errors import InputError
from gossamer.core.streams import stream
from gossamer.masks.allocations import ALLOCATIONS, AnyAllocation, resolved_allocation
from gossamer.masks.patterns import PATTERNS, Pattern, Unit, resolved_pattern
from gossamer.masks.scores import SCORES
from gossamer.networks.catalog import NetworkSpec, names
from gossamer.recipes.spellings import Named, Sparsity, Spelled
from gossamer.recipes.steps.step import Expected, Step, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.data.resident import Resident
    from gossamer.masks import Mask
    from gossamer.recipes.state import State


_BATCH = 32
"""Examples in a batch that a score is given; another number would be another version."""


class Prune(Step):
    """Set the weights of lowest score to zero; the sparsity is the total afterwards."""

    version: ClassVar[int] = 2
    step: Literal["prune"] = "prune"
    sparsity: Sparsity | None = None
    """None where the allocation or the pattern fixes it."""
    score: Annotated[str, Named(SCORES)] | None = None
    """None stands for "relative-rms" where the pattern is "unit", and for "magnitude" elsewhere."""
    allocation: Annotated[AnyAllocation, Spelled("allocation", ALLOCATIONS, by_name=True)] = (
        "global"
    )
    """How the sparsity is spread over layers: all scores compared together, the same share of each
    layer, by a rule of larger and smaller layers, or by names."""
    pattern: Annotated[str | Pattern, Spelled("pattern", PATTERNS)] = "weight"
    """What goes as one: single weights, whole units, n of each m, or blocks."""
    exclude: tuple[str, ...] = ()
    """Name patterns to leave alone, or "output layer"."""
    # Not written where it is empty, as in the keys of runs from before it was there.
    include: tuple[str, ...] = Field((), exclude_if=lambda value: not value)
    """Name patterns of parameters to prune although no operation multiplies with them."""
    coupled: bool = True
    """Whether units that a sum, a concatenation, a shared layer or the like ties together go
    together, where whole units go; False takes each for itself."""
    # Not written where there is none, as in the keys of runs from before it was there.
    examples: PositiveInt | None = Field(None, exclude_if=lambda value: value is None)
    """For a score or an allocation that needs data: on how many examples of the training part,
    drawn by the trial's seed, or all where there are fewer, in batches of 32; None stands for 1024
    then."""
    enforce: bool = True
    """False sets the weights to zero once, so that they grow back in training."""

    @model_validator(mode="after")
    def _settled(self) -> "Prune":
        pattern, allocation = resolved_pattern(self.pattern), resolved_allocation(self.allocation)
        if self.score is None:  # put in, so that keys and records tell which
            object.__setattr__(self, "score", pattern.score)
        if self.needs_data and self.examples is None:
            object.__setattr__(self, "examples", 1024)
        if self.examples is not None and not self.needs_data:
            raise ValueError(
                f"leave examples out: the score {self.score!r} needs none, nor does {allocation}"
            )
        fixing = [one for one in (pattern, allocation) if one.fixes_sparsity]
        if fixing and self.sparsity is not None:
            raise ValueError(f"leave sparsity out: {fixing[0]!r} fixes it")
        if not fixing and self.sparsity is None:
            raise ValueError("a pruning needs a sparsity, such as 0.9")
        return self

    @property
    def needs_data(self) -> bool:
        """Whether its score or its allocation asks anything of examples."""
        score = SCORES[self.score].needs_batches if self.score is not None else False
        return score or resolved_allocation(self.allocation).needs_batches

    def described(self) -> dict[str, Any]:
        """Return the step as JSON values, as before it told whether units go together."""
        values = super().described()
        del values["coupled"]
        return values

    def keyed_for(self, network: NetworkSpec) -> dict[str, Any]:
        """Return what keys hold of it; whether units go together only where some may.

        In the published networks none are tied to others, so that it makes no difference there.
        """
        of_units = resolved_pattern(self.pattern).name == Unit.name
        tells = of_units and self.coupled and network.name not in names()
        return {**self.described(), **({"coupled": True} if tells else {})}

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:  # noqa: ARG002
        """Refuse to ask for less than is gone by then, or to prune packed layers."""
        reached[-1].must_be_unpacked(at)
        earlier = [m for m in reached[-1].masks if isinstance(m, Prune) and self._comparable(m)]
        most = max((pruning.sparsity or 0.0 for pruning in earlier), default=0.0)
        if self.sparsity is not None and self.sparsity < most:
            raise InputError(
                f"{at} asks for a sparsity of {self.sparsity:g} in all, but {most:g} is "
                "pruned by then and stays zero: ask for more, or change the order"
            )

    def _comparable(self, other: "Prune") -> bool:
        """Tell whether the sparsities of two steps are over the same weights."""
        return (
            not isinstance(self.allocation, Mapping)
            and not isinstance(other.allocation, Mapping)
            and self.pattern == other.pattern
            and self.coupled == other.coupled
            and set(self.include) == set(other.include)
            and set(self.exclude) == set(other.exclude)
        )

    def expected(self, before: Expected) -> Expected:
        """Return its mask on top of those that were there, unless it is not enforced."""
        masks = (*before.masks, self) if self.enforce else before.masks
        return replace(before, masks=masks, pruned=True, sparsity=self.sparsity or 0.0)

    def rehearsed_as(self) -> "Prune":
        """Return the same at one sparsity for all, which does not decide whether it can be done."""
        return self.model_copy(update={"sparsity": None if self.sparsity is None else 0.5})

    def rehearse(self, network: "nn.Module", example: "Tensor") -> None:
        """Find a mask of the untrained network, from examples that are not only zeros.

        What can be done in one round can be done in many.
        """
        import torch

        inputs = torch.linspace(0, 1, example.numel()).view_as(example)
        batches = [(inputs, torch.zeros(len(example), dtype=torch.int64))]
        self.find_mask(network, example, batches, rounds=1)

    def do(self, work: Work) -> "State":
        """Return the network with the weights of lowest score at zero."""
        network, train = work.loaded(work.before), work.data().train
        batches = list(self._batches(train, work.seed))
        mask = self.find_mask(network, train.inputs[:2], batches, work.seed, apply=True)
        return work.before.masked(network, mask, self.enforce)

    def _batches(self, train: "Resident", seed: int) -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield the examples that a score needs, the same ones for a seed, in their order."""
        order = stream(seed, "score examples").permutation(len(train))
        chosen = np.sort(order[: self.examples or 0])
        for first in range(0, len(chosen), _BATCH):
            positions = chosen[first : first + _BATCH]
            yield train.inputs[positions], train.labels[positions]

    def find_mask(
        self,
        network: "nn.Module",
        example: "Tensor",
        batches: "Sequence[tuple[Tensor, Tensor]]" = (),
        seed: int = 0,
        rounds: int | None = None,
        *,
        apply: bool = False,
    ) -> "Mask":
        """Return the mask that the step finds for a network; in so many rounds, if that is said.

        With `apply` the network is pruned, and has the weights that the score gives it, if any.

        Nothing is warned of: the record of a trial counts what every layer keeps.

        Raises
        ------
        InputError
            If the network cannot be pruned so; see `gossamer.prune`.
        """
        from gossamer import masks

        assert self.score is not None
        score = SCORES[self.score]
        choices = {**self.choices(), "score": replace(score, rounds=rounds or score.rounds)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            find = masks.prune if apply else masks.find_mask
            return find(network, **choices, example=example, batches=batches, seed=seed)

    def choices(self) -> dict[str, Any]:
        """Return the arguments of `gossamer.prune` beside the network and the seed."""
        given = ("sparsity", "score", "allocation", "pattern", "exclude", "include", "coupled")
        return {name: getattr(self, name) for name in given}

"""Gradual magnitude pruning."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from gossamer.core.errors import InputError
from gossamer.training.updaters.updater import Moment, Updater

if TYPE_CHECKING:
    from gossamer.masks import Mask

_Share = Annotated[float, Field(ge=0, le=1)]


_EXPONENTS = {"cubic": 3, "linear": 1}

_CHANGES = ("sparsity", "earlier", "shared")
"""What the provenance of a mask holds that differs from one update of a training to the next."""


class Gradual(Updater):
    """Prune more and more while training goes on, at first fast, then ever slower (Zhu and Gupta
    2017, "To prune, or not to prune", arXiv 1710.01878).

    After step t the sparsity is final + (initial - final) (1 - (t - start) / (updates every))^3; a
    linear schedule has no exponent. What is pruned stays pruned.
    """  # noqa: D205

    version: ClassVar[int] = 1
    name: Literal["gradual"] = "gradual"
    """Which updater."""
    final: _Share
    """Sparsity after the last update."""
    initial: _Share = 0.0
    """Sparsity at the start, of the same weights."""
    start: PositiveInt = 1
    """Optimizer steps of this training before the first update."""
    every: PositiveInt = 100
    """Optimizer steps from one update to the next."""
    updates: PositiveInt
    """How many updates follow the first one."""
    # Not written where it is cubic, as in the keys of runs from before there was another.
    schedule: Literal["cubic", "linear"] = Field("cubic", exclude_if=lambda value: value == "cubic")
    """How sparsity rises."""
    score: Literal["magnitude", "rms", "relative-rms", "random", "largest"] = "magnitude"
    """By which weights are ranked; those of lowest score go."""
    allocation: Literal["uniform", "global"] = "uniform"
    """The same share of each layer, as in the paper, or all scores compared together."""
    exclude: tuple[str, ...] = ()
    """Name patterns to leave alone, or "output layer"."""

    @model_validator(mode="after")
    def _goes_up(self) -> "Gradual":
        if self.initial > self.final:
            raise ValueError(
                f"initial is {self.initial:g}, but sparsity can only rise to final, which is "
                f"{self.final:g}"
            )
        return self

    @property
    def last(self) -> int:
        """The step after which it reaches its final sparsity."""
        return self.start + self.every * self.updates

    def sparsity(self, step: int) -> float:
        """Return the sparsity that is asked for after a step of the training.

        Examples
        --------
        >>> cubic = Gradual(final=0.8, start=10, every=5, updates=2)
        >>> [round(cubic.sparsity(step), 4) for step in (9, 10, 15, 20, 99)]
        [0.0, 0.0, 0.7, 0.8, 0.8]
        """
        if step >= self.last:
            return self.final
        left = 1 - max(0, step - self.start) / (self.every * self.updates)
        return self.final + (self.initial - self.final) * left ** _EXPONENTS[self.schedule]

    def pruning(self) -> Mapping[str, Any]:
        """Return the options of the pruning that it ends in."""
        return {
            "sparsity": self.final,
            "score": self.score,
            "allocation": self.allocation,
            "exclude": self.exclude,
        }

    def check_steps(self, steps: int) -> None:
        """Refuse a training that ends before the final sparsity is reached."""
        if self.last > steps:
            raise InputError(
                f"the updater prunes for the last time after step {self.last:,} (start + every x "
                f"updates), but the training has {steps:,} steps: let it have fewer updates, or "
                "the training more epochs"
            )

    def after_step(self, moment: Moment) -> "Mask | None":
        """Return a sparser mask where an update is due."""
        since = moment.step - self.start
        if since < 0 or since % self.every or moment.step > self.last:
            return None
        from gossamer.masks import find_mask

        asked = {**self.pruning(), "sparsity": self.sparsity(moment.step)}
        found = find_mask(moment.network, **asked, example=moment.example, seed=moment.seed)
        if moment.mask is None:
            return found
        both = moment.mask & found
        names = list(found.weights)
        for compared in [names] if self.allocation == "global" else [[name] for name in names]:
            both = _without_surplus(both, moment.mask, found, compared)
        if not _same_but_sparser(moment.mask.provenance, found.provenance):
            return both
        # Updates of one training are one pruning: told one by one they would nest without end.
        before = moment.mask.provenance.get("earlier")
        told = {name: value for name, value in both.provenance.items() if name != "earlier"}
        return replace(both, provenance=told if before is None else {**told, "earlier": before})


def _without_surplus(
    both: "Mask", before: "Mask", found: "Mask", compared: Sequence[str]
) -> "Mask":
    """Keep the last that go now of layers compared together, if more are gone than were asked for.

    A kept weight that is zero ranks with those that are pruned, and may be found in their place.
    """

    def zeros(mask: "Mask") -> int:
        return sum(int((~mask.weights[name]).sum()) for name in compared if name in mask.weights)

    surplus = zeros(both) - max(zeros(found), zeros(before))
    weights = dict(both.weights)
    for name in reversed(compared):
        if surplus > 0 and name in before.weights:
            kept = weights[name].clone()
            going = (before.weights[name] & ~kept).flatten().nonzero().flatten()[-surplus:]
            kept.view(-1)[going] = True
            weights[name], surplus = kept, surplus - len(going)
    return replace(both, weights=weights)


def _same_but_sparser(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two masks were found in the same way, but for how sparse they are."""
    found = [
        {name: value for name, value in one.items() if name not in _CHANGES}
        for one in (before, after)
    ]
    return found[0] == found[1]

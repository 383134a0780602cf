"""Pruning."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from gossamer.core.errors import InputError
from gossamer.recipes.spellings import plain_number, written_as_a_table
from gossamer.recipes.steps.step import Expected, Step, Work
from gossamer.train.options import Options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.masks import Mask
    from gossamer.recipes.state import State

Sparsity = Annotated[float, BeforeValidator(plain_number), Field(ge=0, le=1)]


class ErdosRenyi(Options):
    """Each layer keeps epsilon x (inputs + units) connections; see `gossamer.ErdosRenyi`."""

    name: Literal["erdos-renyi"] = "erdos-renyi"
    epsilon: PositiveFloat
    """How many connections each input and each unit brings."""


class ERK(Options):
    """Larger layers are sparser, by the rule of Evci et al. (2020); see `gossamer.ERK`."""

    name: Literal["erk"] = "erk"


class FixedFanIn(Options):
    """Each unit keeps the same number of incoming weights; see `gossamer.FixedFanIn`."""

    name: Literal["fixed-fan-in"] = "fixed-fan-in"
    connections: PositiveInt
    """Weights that each unit keeps."""


class NByM(Options):
    """Of each m consecutive inputs, n are kept; see `gossamer.NByM`."""

    name: Literal["n-by-m"] = "n-by-m"
    n: PositiveInt
    """How many are kept."""
    m: PositiveInt
    """Of so many in a row."""


class Block(Options):
    """Weights go in blocks of rows x columns; see `gossamer.Block`."""

    name: Literal["block"] = "block"
    rows: PositiveInt
    """Units of a block."""
    columns: PositiveInt
    """Inputs of a block."""


NamedAllocation = Annotated[ErdosRenyi | ERK | FixedFanIn, Field(discriminator="name")]
NamedPattern = Annotated[NByM | Block, Field(discriminator="name")]
_ALLOCATIONS = {"erk": {}, "erdos-renyi": {"epsilon": 20}, "fixed-fan-in": {"connections": 50}}
_PATTERNS = {"n-by-m": {"n": 2, "m": 4}, "block": {"rows": 4, "columns": 1}}
"""How a file has those that are no plain words, each with an example of what it needs."""
_written_allocation = written_as_a_table("allocation", ("uniform", "global"), _ALLOCATIONS)
_written_pattern = written_as_a_table("pattern", ("weight", "unit"), _PATTERNS)


class Prune(Step):
    """Set the weights of lowest score to zero; the sparsity is the total afterwards."""

    version: ClassVar[int] = 2
    step: Literal["prune"] = "prune"
    sparsity: Sparsity | None = None
    """None where the allocation or the pattern fixes it."""
    score: Literal["magnitude", "rms", "relative-rms", "random", "largest"] | None = None
    """None stands for "relative-rms" where the pattern is "unit", and for "magnitude" elsewhere."""
    allocation: Annotated[
        Literal["uniform", "global"] | NamedAllocation | Mapping[str, Sparsity],
        BeforeValidator(_written_allocation),
    ] = "global"
    """How the sparsity is spread over layers: all scores compared together, the same share of each
    layer, by a rule of larger and smaller layers, or by names."""
    pattern: Annotated[
        Literal["weight", "unit"] | NamedPattern, BeforeValidator(_written_pattern)
    ] = "weight"
    """What goes as one: single weights, whole units, n of each m, or blocks."""
    exclude: tuple[str, ...] = ()
    """Name patterns to leave alone, or "output layer"."""
    # Not written where it is empty, as in the keys of runs from before it was there.
    include: tuple[str, ...] = Field((), exclude_if=lambda value: not value)
    """Name patterns of parameters to prune although no operation multiplies with them."""
    enforce: bool = True
    """False sets the weights to zero once, so that they grow back in training."""

    @model_validator(mode="before")
    @classmethod
    def _score_of_the_pattern(cls, given: Any) -> Any:
        """Put the score in that is meant, so that keys and records tell which."""
        if not isinstance(given, Mapping) or given.get("score") is not None:
            return given
        of_units = given.get("pattern") == "unit"
        return {**given, "score": "relative-rms" if of_units else "magnitude"}

    @model_validator(mode="after")
    def _one_thing_fixes_the_sparsity(self) -> "Prune":
        fixed = isinstance(self.allocation, ErdosRenyi | FixedFanIn)
        fixed = fixed or isinstance(self.pattern, NByM)
        if fixed and self.sparsity is not None:
            fixing = self.pattern if isinstance(self.pattern, NByM) else self.allocation
            raise ValueError(f"leave sparsity out: {fixing!r} fixes it")
        if not fixed and self.sparsity is None:
            raise ValueError("a pruning needs a sparsity, such as 0.9")
        return self

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
        """Find a mask of the untrained network."""
        self.find_mask(network, example)

    def do(self, work: Work) -> "State":
        """Return the network with the weights of lowest score at zero."""
        network = work.loaded(work.before)
        mask = self.find_mask(network, work.data().train.inputs[:2], work.seed)
        return work.before.masked(network, mask, self.enforce)

    def find_mask(self, network: "nn.Module", example: "Tensor", seed: int = 0) -> "Mask":
        """Return the mask that the step finds for a network.

        Nothing is warned of: the record of a trial counts what every layer keeps.

        Raises
        ------
        InputError
            If the network cannot be pruned so; see `gossamer.prune`.
        """
        from gossamer import masks

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return masks.find_mask(network, **self.choices(), example=example, seed=seed)

    def choices(self) -> dict[str, Any]:
        """Return the arguments of `gossamer.prune` beside the network and the seed."""
        from gossamer import masks

        allocation: Any = self.allocation
        match self.allocation:
            case ErdosRenyi(epsilon=epsilon):
                allocation = masks.ErdosRenyi(epsilon)
            case ERK():
                allocation = masks.ERK()
            case FixedFanIn(connections=connections):
                allocation = masks.FixedFanIn(connections)
        pattern: Any = self.pattern
        match self.pattern:
            case NByM(n=n, m=m):
                pattern = masks.NByM(n, m)
            case Block(rows=rows, columns=columns):
                pattern = masks.Block(rows, columns)
        return {
            "sparsity": self.sparsity,
            "score": self.score,
            "allocation": allocation,
            "pattern": pattern,
            "exclude": self.exclude,
            "include": self.include,
        }

"""The steps of a recipe: small frozen values that say what is done, never how far it has come.

A new method is one new step here, its doing in `workshop`, and nothing else.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from gossamer.recipes.spellings import plain_number, written_as_a_table
from gossamer.train.options import Options, TrainingOptions

Sparsity = Annotated[float, BeforeValidator(plain_number), Field(ge=0, le=1)]


class Train(TrainingOptions):
    """Train for some epochs; whatever is pruned by then stays zero."""

    version: ClassVar[int] = 1
    step: Literal["train"] = "train"
    optimizer_state: Literal["fresh", "keep"] = "fresh"
    """Whether momenta start anew or go on from the training before."""


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


class Prune(Options):
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
    include: tuple[str, ...] = ()
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


class Regrow(Options):
    """Lift the mask: pruned weights take part again, starting from zero (Han et al. 2017,
    "DSD: Dense-Sparse-Dense Training for Deep Neural Networks", arXiv 1607.04381).

    Packed layers become dense ones again; momenta are dropped.
    """  # noqa: D205

    version: ClassVar[int] = 1
    step: Literal["regrow"] = "regrow"


class Rewind(Options):
    """Set weights and buffers back to what they were after an earlier step; the mask stays.

    Momenta are dropped; the count of epochs goes on, so that later epochs are shuffled anew
    (Frankle et al. 2020, arXiv 1912.05671).
    """

    version: ClassVar[int] = 1
    step: Literal["rewind"] = "rewind"
    to: NonNegativeInt = 0
    """How many steps had been done then; 0 is the initialisation."""


class Pack(Options):
    """Turn masked layers into layers that store, train and save their non-zeros only.

    Momenta are dropped.
    """

    version: ClassVar[int] = 1
    step: Literal["pack"] = "pack"
    initialisation: Literal["keep", "he", "vector-glorot"] = "keep"
    """Keep the values, or draw them anew: "he" with the realised fan-in of each unit,
    "vector-glorot" as if the non-zeros of a layer were one vector."""


class Lender(Options):
    """Which run a mask is borrowed from: same network, other dataset or seed."""

    data: str | None = None
    """Its dataset; None for that of the trial that borrows."""
    seed_offset: NonNegativeInt = 1000
    """Added to the trial's seed, so that the source starts from other weights. With 0 source and
    trial start alike, and a transferred mask is a lottery ticket."""


class Source(Lender):
    """The recipe that a mask is borrowed from."""

    recipe: tuple["RecipeStep", ...] = Field(min_length=1)


class Transfer(Options):
    """Prune by a mask from the final state of another recipe, other dataset included."""

    version: ClassVar[int] = 1
    step: Literal["transfer"] = "transfer"
    source: Source
    shuffle: Literal["layer", "unit"] | None = None
    """Put the kept weights at random positions, keeping the count of each layer or unit."""
    enforce: bool = True
    """False sets the weights to zero once, so that they grow back in training."""


RecipeStep = Annotated[
    Train | Prune | Regrow | Rewind | Pack | Transfer, Field(discriminator="step")
]
Source.model_rebuild()
Transfer.model_rebuild()


def described(step: RecipeStep) -> dict[str, Any]:
    """Return a step as JSON values, defaults resolved, with the version of its meaning.

    A `Transfer` is described without its source: the state it borrows from has a key of its own,
    which `gossamer.recipes.keys` puts in its place.

    Examples
    --------
    >>> described(Rewind(to=1))
    {'step': 'rewind', 'to': 1, 'version': 1}
    """
    values = step.model_dump(mode="json")
    if isinstance(step, Transfer):
        del values["source"]
    if isinstance(step, Prune) and not step.include:
        del values["include"]  # as in the keys of runs from before it was there
    return {"step": values.pop("step"), **values, "version": step.version}

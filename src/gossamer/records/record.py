"""What was found: frozen values that JSON holds and the report reads.

Three things are kept apart. A `Phase` is one training that was really done; trials that start
alike share it. A `Record` is what was measured of one trained and pruned network. A `StudyRun`
says which records a study asks for and what it calls them. Keys say what determines the
numbers; labels never enter a key.
"""

import marshal
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

_EXACT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""For values of which a study has hundreds of thousands: dataclasses take a fourth of the room."""


class Value(BaseModel):
    """A frozen value that refuses unknown fields and, as JSON has none, NaN and infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Environment(Value):
    """What determines the bits of a number, beyond what its key holds."""

    gossamer: str
    python: str
    torch: str
    libraries: Mapping[str, str]
    processor: str
    machine: str
    threads: int
    device: str
    revision: str | None
    """The git revision of gossamer's own source; None for an installed package."""


@lru_cache(maxsize=64)
def _known(text: str) -> Environment:
    return Environment.model_validate_json(text)


def _shared(environment: Environment) -> Environment:
    """Return an equal value, the same one for all records of one machine."""
    return _known(environment.model_dump_json())


SharedEnvironment = Annotated[Environment, AfterValidator(_shared)]


class Epoch(Value):
    """One line of a training history; losses in nats, accuracies as fractions."""

    epoch: int
    """Global epoch, from 1, counted over all trainings of the trial."""
    rate: float
    """Learning rate of this epoch."""
    train_loss: float
    """Mean over the epoch, in training mode, while the weights change."""
    train_accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    density: float | None = None
    """Share of the prunable weights that is kept at its end, where training changes the mask."""
    seconds: float = 0.0


class Phase(Value):
    """One training that was done, and what it cost."""

    key: str
    """Key of the state that the training ends in."""
    parent: str
    """Key of the state that it starts from."""
    step: Mapping[str, Any]
    """The training step, defaults resolved."""
    precision: str
    optimizer_steps: int
    examples: int
    """Examples trained on, epochs counted."""
    seconds: float
    stopped: str | None
    """Why training ended before its last epoch; None if it did not."""
    history: tuple[Epoch, ...]
    environment: SharedEnvironment


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One weight tensor of a measured network."""

    __pydantic_config__: ClassVar[ConfigDict] = _EXACT

    name: str
    shape: tuple[int, ...]
    prunable: bool
    """False for a weight that the recipe's exclusions kept out of pruning."""
    weights: int
    nonzero: int
    effective: int | None
    """Non-zero weights that lie on some path from the input to the output; None if the network
    is one of which that cannot be found out."""


_PARTED = {"published attacks": ("optimistic attacks", "one-hot attack")}
"""The measurements that one measurement of older records has become."""


def with_parts(versions: Mapping[str, int]) -> dict[str, int]:
    """Return the versions of what a record holds, by the names that measurements have today."""
    return {
        today: version for name, version in versions.items() for today in _PARTED.get(name, (name,))
    }


BEFORE_VERSIONS: Mapping[str, int] = with_parts(
    dict.fromkeys(("accuracy", "size", "connectivity", "work", "published attacks"), 1)
)
"""What records from before measurements had versions hold, as far as their studies asked."""


_PARTS: dict[bytes, Any] = {}
_MOST_PARTS = 100_000


def _with_shared_parts(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an equal identity whose parts are the same objects in all records that have them.

    Networks of one seed have one origin, those of one level the same steps: a study's identities
    are far smaller than their sum.
    """
    if len(_PARTS) > _MOST_PARTS:
        _PARTS.clear()
    return {
        name: [_shared_part(step) for step in part]
        if isinstance(part, list | tuple)
        else _shared_part(part)
        for name, part in identity.items()
    }


def _shared_part(part: Any) -> Any:
    return _PARTS.setdefault(marshal.dumps(part, 2), part)  # version 2 depends on the value alone


class Record(Value):
    """What was measured of one network, with what determines it."""

    key: str
    identity: Annotated[Mapping[str, Any], AfterValidator(_with_shared_parts)]
    """Everything that determines the numbers up to rounding; the key is its hash."""
    phases: tuple[str, ...]
    """Keys of the trainings behind it, in order."""
    measures: Mapping[str, float]
    """Named numbers: accuracies and sparsities as fractions, losses in nats, sizes in bytes."""
    per_class: Mapping[str, tuple[float, ...]]
    """Accuracy of each class, on "train" and on "test"."""
    layers: tuple[Layer, ...]
    versions: Annotated[Mapping[str, int], AfterValidator(with_parts)] = BEFORE_VERSIONS
    """The measurements that the numbers are from, with their versions: not in the key, so that
    one that changes is taken again by itself."""
    seconds: float
    """Pruning and measuring; training is counted in the phases."""
    environment: SharedEnvironment

    def completed_by(self, newer: "Record", replaced: Collection[str]) -> "Record":
        """Return the record with what was taken later of the same network.

        Measures that are `replaced` have the new value, or none where there is none any more.
        """
        kept = {name: value for name, value in self.measures.items() if name not in replaced}
        return newer.model_copy(
            update={
                "measures": {**kept, **newer.measures},
                "per_class": {**self.per_class, **newer.per_class},
                "layers": newer.layers or self.layers,
                "versions": {**self.versions, **newer.versions},
                "seconds": self.seconds + newer.seconds,
            }
        )


class Arm(Value):
    """One line of a study's figure."""

    name: str
    label: str
    role: str
    """"baseline" (the unpruned network), "main" (what the study is about) or "control"."""
    recipe: tuple[Mapping[str, Any], ...]
    """The steps as the study file has them, grid variables unresolved."""
    dataset: str
    network: str
    pool: str = "all"
    """"half" if each seed trains on its half of the pool, else "all"."""


class ControlComparison(Value):
    """The comparison that explains a claim which does not hold."""

    compare: str
    """An arm."""
    against: str
    """The arm that it is compared to."""
    measure: str | None = None
    """None for the claim's own."""
    text: str
    """What it means, in one sentence."""


class Claim(Value):
    """What a study claims: which arms are compared, where, and by what margin that matters.

    A comparison is the paired difference ``compare - against`` of a measure. What is claimed of it
    is

    - ``higher`` (``lower``): above the margin (below minus the margin),
    - ``not-lower`` (``not-higher``): above minus the margin (below the margin),
    - ``on-par``: within plus or minus the margin.
    """

    name: str
    """As the study has it, such as "a"."""
    text: str
    """The claim in one sentence."""
    says: Literal["higher", "lower", "not-lower", "not-higher", "on-par"]
    compare: str
    """An arm."""
    against: tuple[str, ...]
    """The arms that it is compared to."""
    measure: str = "test_accuracy"
    levels: tuple[float, ...] = ()
    """Where on the study's axis; empty for everywhere that both are."""
    against_level: float | None = None
    """Where the other arms are looked at; None for the same level."""
    over: Literal["each", "any", "mean"] = "each"
    """Whether every comparison must support the claim, or one is enough, or their mean counts."""
    matched_on: str | None = None
    """Compare where this measure is equal, instead of at the same level: the curve through the
    points of all other arms, in the order given, is interpolated where it first passes the value
    that `compare` has."""
    margin: float
    """The smallest difference that matters, in the measure's unit; 0 for any at all."""
    control: ControlComparison | None = None


class PublishedFigure(Value):
    """One published number."""

    arm: str
    measure: str
    level: float
    value: float


class Published(Value):
    """The published figures of a study, where they come from and what is wrong with them."""

    source: str
    defects: tuple[str, ...] = ()
    figures: tuple[PublishedFigure, ...] = ()
    note: str = ""
    """What a reader must know of the arms that the figures stand beside at this scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLabel:
    """Which record a study asks for, and what it calls it."""

    __pydantic_config__: ClassVar[ConfigDict] = _EXACT

    arm: str
    seed: int
    level: float
    """Position on the study's axis; 0 for the baseline."""
    key: str
    phases: tuple[str, ...]
    optimizer_steps: int
    """Optimizer steps that this trial would take if it were run alone."""


class StudyRun(Value):
    """A study as it was asked for: the face of its file, its scale and its trials."""

    name: str
    title: str
    question: str
    scale: str
    axis: str
    """The grid variable on the horizontal axis, such as "sparsity"."""
    dataset: str
    network: str
    notes: tuple[str, ...]
    """What a reader must know of this scale: what was shortened or chosen."""
    arms: tuple[Arm, ...]
    published: Published | None
    trials: tuple[TrialLabel, ...]
    joints: tuple[str, ...] = ()
    """Keys of what is measured of several networks together."""
    paired: bool = False
    """Whether seeds 2j and 2j + 1 train on complementary halves; then the pair is the unit of
    every interval."""
    claims: tuple[Claim, ...] = ()
    sparse_steps: tuple[str, ...] = ("prune", "regrow", "pack", "transfer")
    """What of recipes an unpruned network does without."""
    sources: Mapping[str, Any] = {}
    """Recipes that masks are borrowed from, by name, as the study file has them."""
    command: str
    file: str
    """The study file's text, so that the report holds the exact recipe."""

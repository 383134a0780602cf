"""A trial: a dataset, a network, a seed and a recipe."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from gossamer.networks import NetworkSpec
from gossamer.recipes.steps import Step, Train
from gossamer.training.options import Options, Precision

Device = Literal["cpu", "cuda"]


class DataSpec(Options):
    """Which data, and how its raw values become inputs."""

    name: str
    """A built-in dataset, or the path of an ``.npz`` file."""
    mean: float = 0.0
    """Subtracted from the inputs, after pixels were divided by their largest value."""
    std: PositiveFloat = 1.0
    """What the inputs are divided by, after that."""
    examples: PositiveInt | None = None
    """Size of the pool: so many stratified examples of the training set, the same for all seeds;
    None is all of them."""
    pool: Literal["all", "half"] = "all"
    """Train on the whole pool, or on half of it: seeds 2j and 2j+1 have complementary halves."""
    validation: float = Field(0.0, ge=0, lt=1)
    """Share that is held out for validation, stratified."""
    validation_from: Literal["train", "test"] = "train"
    """What is held out from: the trial's training examples, or the test set, of which the rest
    is then the test set."""


class SampleSpec(Options):
    """How much of the data the networks of a study are measured on."""

    train_examples: PositiveInt | None = None
    """Measure the training accuracy on so many stratified examples; None is all of them."""
    also: tuple[str, ...] = Field((), exclude=True)
    """Measurements to take beside the usual ones, such as "one-hot attack"; no part of keys, as
    records say themselves what they hold."""


class MeasureSpec(SampleSpec):
    """What is measured of a network."""

    leakage: bool = False
    """Measure what the network gives away about its training examples, and keep the statistics
    of every example that attacks on it need."""


@dataclass(frozen=True)
class Trial:
    """One network to make and measure."""

    data: DataSpec
    network: NetworkSpec
    seed: NonNegativeInt
    steps: tuple[Step, ...]
    measure: MeasureSpec = field(default_factory=MeasureSpec)
    precision: Precision = "float32"
    device: Device = "cpu"

    @cached_property
    def trainings(self) -> tuple[int, ...]:
        """Positions of the training steps; the states after them are kept."""
        return tuple(i for i, step in enumerate(self.steps) if isinstance(step, Train))

"""What determines a training: epochs, batch, optimizer, augmentation and so on. No torch here."""

import functools
import math
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_core import CoreSchema

Precision = Literal["float32", "bf16"]
"""float32, or bfloat16 autocast over float32 weights."""


class Options(BaseModel):
    """Frozen options that refuse unknown fields and values that are not finite."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class OfAnyKind:
    """Tells pydantic to make whichever of the registered kinds a value says that it is.

    Parameters
    ----------
    kinds
        The kinds by name; those that are there when a model is built count.
    tag
        The field that says which one it is.
    """

    def __init__(self, kinds: Mapping[str, type[Options]], tag: str) -> None:
        self._kinds, self._tag = kinds, tag

    def __get_pydantic_core_schema__(
        self, source: type[Options], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        if len(self._kinds) < 2:
            return handler(next(iter(self._kinds.values()), source))
        union: Any = functools.reduce(operator.or_, self._kinds.values())
        return handler.generate_schema(Annotated[union, Field(discriminator=self._tag)])


Fraction = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]


class Sgd(Options):
    """Stochastic gradient descent, with momentum (Polyak 1964; Sutskever et al. 2013) if asked."""

    name: Literal["sgd"] = "sgd"
    """Which optimizer."""
    rate: PositiveFloat = 0.1
    """Learning rate of the first epoch."""
    momentum: Fraction = 0.0
    """Factor by which the velocity is kept at each step."""
    nesterov: bool = False
    """Look ahead along the velocity (Nesterov's momentum); needs a momentum."""
    weight_decay: Decay = 0.0
    """L2 penalty added to the gradient: this times the weight."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Options):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980); weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"
    """Which optimizer."""
    rate: PositiveFloat = 1e-3
    """Learning rate of the first epoch."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the means of gradients and of their squares."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment, against division by zero."""
    weight_decay: Decay = 0.0
    """L2 penalty added to the gradient: this times the weight."""


class AdamW(Options):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

    name: Literal["adamw"] = "adamw"
    """Which optimizer."""
    rate: PositiveFloat = 1e-3
    """Learning rate of the first epoch."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the means of gradients and of their squares."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment, against division by zero."""
    weight_decay: Decay = 1e-2
    """Weights shrink by this times the learning rate at each step."""


class Adadelta(Options):
    """Adadelta (Zeiler 2012, arXiv 1212.5701)."""

    name: Literal["adadelta"] = "adadelta"
    """Which optimizer."""
    rate: PositiveFloat = 1.0
    """Factor on the step of the first epoch."""
    rho: Fraction = 0.9
    """Decay of the means of squared gradients and of squared steps."""
    epsilon: PositiveFloat = 1e-6
    """Added to both means, against division by zero."""
    weight_decay: Decay = 0.0
    """L2 penalty added to the gradient: this times the weight."""


OptimizerOptions = Annotated[Sgd | Adam | AdamW | Adadelta, Field(discriminator="name")]


class Constant(Options):
    """The rate stays what it is."""

    name: Literal["constant"] = "constant"
    """Which schedule."""

    def factor(self, epoch: int, epochs: int) -> float:  # noqa: ARG002
        """Return 1."""
        return 1.0


class StepDecay(Options):
    """The rate is multiplied by `gamma` every `every` epochs."""

    name: Literal["step"] = "step"
    """Which schedule."""
    every: PositiveInt
    """Epochs from one fall to the next."""
    gamma: PositiveFloat = 0.1
    """Factor of each fall."""

    def factor(self, epoch: int, epochs: int) -> float:  # noqa: ARG002
        """Return gamma ** (epoch // every)."""
        return self.gamma ** (epoch // self.every)


class Exponential(Options):
    """The rate is multiplied by `gamma` after each epoch."""

    name: Literal["exponential"] = "exponential"
    """Which schedule."""
    gamma: PositiveFloat
    """Factor after each epoch."""

    def factor(self, epoch: int, epochs: int) -> float:  # noqa: ARG002
        """Return gamma ** epoch."""
        return float(self.gamma**epoch)


class Cosine(Options):
    """The rate falls along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

    name: Literal["cosine"] = "cosine"
    """Which schedule."""
    floor: Fraction = 0.0
    """The factor that the cosine would reach after the last epoch."""

    def factor(self, epoch: int, epochs: int) -> float:
        """Return floor + (1 - floor) (1 + cos(pi epoch / epochs)) / 2."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2


Schedule = Annotated[Constant | StepDecay | Exponential | Cosine, Field(discriminator="name")]

Watched = Literal["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]


class EarlyStop(Options):
    """When to end before the last epoch: at a target, or when nothing improves any more.

    The network keeps the weights of the epoch at which training ended.
    """

    watch: Watched = "validation_loss"
    """The number that decides; those of validation need examples held out for it."""
    target: float | None = None
    """End once the watched number is as good as this."""
    patience: PositiveInt | None = None
    """End after so many epochs without improvement."""
    min_delta: Decay = 0.0
    """What counts as an improvement, in the watched number's unit."""

    @model_validator(mode="after")
    def _needs_a_rule(self) -> "EarlyStop":
        if self.target is None and self.patience is None:
            raise ValueError("early stop needs a target, a patience, or both")
        return self

    def reason(self, values: list[float]) -> str | None:
        """Return why training ends after epochs with these values, or None if it goes on.

        Examples
        --------
        >>> EarlyStop(patience=2).reason([0.5, 0.4, 0.45, 0.41])
        'validation_loss has not improved for 2 epochs'
        >>> EarlyStop(watch="train_accuracy", target=0.9).reason([0.8, 0.91])
        'train_accuracy reached 0.91, the target 0.9'
        """
        sign = 1.0 if self.watch.endswith("loss") else -1.0
        costs = [sign * value for value in values]
        if self.target is not None and costs[-1] <= sign * self.target:
            return f"{self.watch} reached {values[-1]:.4g}, the target {self.target:g}"
        if self.patience is not None and _epochs_since_best(costs, self.min_delta) >= self.patience:
            return f"{self.watch} has not improved for {self.patience} epochs"
        return None


def _epochs_since_best(costs: list[float], min_delta: float) -> int:
    best, since = math.inf, 0
    for cost in costs:
        best, since = (cost, 0) if cost < best - min_delta else (best, since + 1)
    return since


class Augmentation(Options):
    """Random affine maps of the training images, with Keras' ``ImageDataGenerator`` semantics.

    Every number is the half-width of a uniform distribution that each image of each epoch draws
    from anew; pixels from outside the image take the value of the nearest one inside.
    """

    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Degrees, to either side."""
    shift: Fraction = 0.0
    """Fraction of the height, for the shift along it, and of the width."""
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    """Degrees by which rows lean, to either side."""
    zoom: Fraction = 0.0
    """Each axis is sampled in steps of its own, of 1 - zoom to 1 + zoom pixels."""
    flip: bool = False
    """Whether an image is mirrored left to right with probability one half."""

    @model_validator(mode="after")
    def _does_something(self) -> "Augmentation":
        if not (self.rotation or self.shift or self.shear or self.zoom or self.flip):
            raise ValueError(
                "augmentation changes nothing: set rotation, shift, shear, zoom or flip, "
                "or leave augmentation out"
            )
        return self


class TrainingOptions(Options):
    """One training: how long, in what batches, with which optimizer and learning rate."""

    epochs: PositiveInt
    """Passes over the training examples, at most where training may end early."""
    batch: PositiveInt = 128
    """Examples of a step; the last batch of an epoch may be smaller."""
    optimizer: OptimizerOptions = Adam()
    """What moves the weights, and how fast."""
    schedule: Schedule = Constant()
    """What the learning rate is multiplied by from epoch to epoch."""
    early_stop: EarlyStop | None = None
    """When to end before the last epoch; left out, never."""
    # Not written where there is none: trainings without it keep the keys that they always had.
    augmentation: Augmentation | None = Field(default=None, exclude_if=lambda value: value is None)
    """Random changes of training images; left out, none."""

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch of this training, counted from 0.

        Examples
        --------
        >>> options = TrainingOptions(epochs=3, optimizer=Sgd(), schedule=StepDecay(every=2))
        >>> [round(options.rate(epoch), 4) for epoch in range(3)]
        [0.1, 0.1, 0.01]
        """
        return self.optimizer.rate * self.schedule.factor(epoch, self.epochs)

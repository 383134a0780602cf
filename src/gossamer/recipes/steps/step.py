"""What every step of a recipe says of itself, and checking that the steps of one go together.

Importing a step does not import torch; doing it does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from gossamer.core.errors import InputError
from gossamer.training.options import OfAnyKind, Options, Precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.data import Dataset
    from gossamer.masks import Mask
    from gossamer.networks.catalog import NetworkSpec
    from gossamer.recipes.state import State
    from gossamer.recipes.steps.transfer import Source
    from gossamer.recipes.trial_data import TrialData
    from gossamer.training.loop import Standing


@dataclass(frozen=True)
class Expected:
    """What is known of the state that steps lead to before any of them is done."""

    masks: tuple["Step", ...] = ()
    """The steps whose masks are in force; of a borrowed mask, those of its source."""
    pruned: bool = False
    """Whether weights were set to zero, if only once."""
    packed: bool = False
    optimizer: str | None = None
    """The optimizer whose state is there; None where a step dropped it."""
    sparsity: float = 0.0
    """What was asked for last; 0, too, where an allocation or a pattern fixes it."""

    def must_be_unpacked(self, at: str) -> None:
        """Refuse a step that needs dense weights where there are none."""
        if self.packed:
            raise InputError(
                f"{at} needs dense weights, but the layers are packed by then: put a regrow "
                "between them, or change the order"
            )


Pulse = Callable[[int, "Standing"], bool]
"""Called now and then with the optimizer steps of a whole training and where it stands; a true
answer stops it."""


@dataclass(frozen=True)
class Work:
    """What a step is done with."""

    seed: int
    precision: Precision
    classes: int
    before: "State"
    loaded: Callable[["State"], "nn.Module"]
    """Returns a network of its own that holds a state."""
    earlier: Callable[[int], "State"]
    """Returns the state after so many steps."""
    data: Callable[[], "TrialData"]
    borrowed: Callable[[], "Mask"]
    """Returns the mask that the recipe which the step borrows from ends with."""
    checkpoint: Path
    """The file that keeps where an unfinished training stands."""
    pulse: Pulse


class Step(Options):
    """What is done to a network, never how far it has come.

    A kind of step is one class in one file: its options, what must come before it, what it leads
    to and its doing. `gossamer.recipes.steps.register` adds it to those that files may have.
    """

    version: ClassVar[int]
    """Raised where the same options come to mean something else: it enters the keys."""
    sparse: ClassVar[bool] = True
    """False for what an unpruned network does, too."""

    @classmethod
    def kind(cls) -> str:
        """Return what a file calls such steps."""
        return str(cls.model_fields["step"].default)

    def described(self) -> dict[str, Any]:
        """Return the step as JSON values, defaults resolved, with the version of its meaning.

        What it borrows is left out: that state has a key of its own, which
        `gossamer.recipes.keys` puts in its place.

        Examples
        --------
        >>> from gossamer.recipes import Rewind
        >>> Rewind(to=1).described()
        {'step': 'rewind', 'to': 1, 'version': 1}
        """
        values = self.model_dump(mode="json")
        if self.source_recipe is not None:
            del values["source"]
        return {"step": values.pop("step"), **values, "version": self.version}

    def keyed_for(self, network: "NetworkSpec") -> dict[str, Any]:  # noqa: ARG002
        """Return what keys hold of the step where it is done to a network."""
        return self.described()

    @property
    def source_recipe(self) -> "Source | None":
        """The recipe that it borrows from, its field ``source``; None if it does not."""
        return None

    def starts(self, done: int) -> tuple[int, ...]:
        """Return after how many steps the states were that it works on, if `done` came before."""
        return (done,)

    def check(self, reached: Sequence[Expected], validation: float, at: str) -> None:
        """Refuse to come where it cannot.

        Parameters
        ----------
        reached
            What is expected after no step, after one, and so on; last where this one is to come.
        validation
            The share of the data that is held out for validation.
        at
            What a sentence calls this place.

        Raises
        ------
        InputError
            If it cannot be done there.
        """

    def check_data(self, dataset: "Dataset", examples: int) -> None:
        """Refuse a dataset that does not suit, of which so many examples are trained on."""

    def expected(self, before: Expected) -> Expected:
        """Return what it leads to."""
        return before

    def rehearsed_as(self) -> "Step | None":
        """Return what decides whether `rehearse` succeeds; None where there is nothing to try."""
        return None

    def rehearse(self, network: "nn.Module", example: "Tensor") -> None:
        """Try the step on an untrained network, before hours of training lead to it.

        Raises
        ------
        InputError
            If it cannot be done.
        """

    def do(self, work: Work) -> "State":
        """Return the state that it leads to: quickly, as it is done again when it is needed."""
        raise NotImplementedError


STEPS: dict[str, type[Step]] = {}
"""Every kind of step by what files call it; filled in `gossamer.recipes.steps`."""


AnyStep = Annotated[Step, OfAnyKind(STEPS, "step")]
"""A step of any of the kinds that are registered when a model with this field is built."""


def check_recipe(steps: Sequence[Step], validation: float) -> None:
    """Refuse a recipe whose steps do not go together.

    Parameters
    ----------
    steps
        The recipe.
    validation
        The share of the data that is held out for validation.

    Raises
    ------
    InputError
        If a rewind aims at a step not yet done, an optimizer's state is to be kept where there
        is none, an early stop watches a validation split that is empty, a pruning asks for
        less than one before it, or packed layers are pruned, packed or rewound.
    """
    reached = [Expected()]
    for number, step in enumerate(steps, start=1):
        step.check(reached, validation, f"step {number} of the recipe ({step.kind()})")
        reached.append(step.expected(reached[-1]))


def expected_after(steps: Sequence[Step]) -> Expected:
    """Return what is known of the state that a recipe ends in."""
    reached = Expected()
    for step in steps:
        reached = step.expected(reached)
    return reached

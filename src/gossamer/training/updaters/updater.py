"""What an updater of the mask says of itself, and what it sees after a step of a training.

Importing an updater does not import torch; having it at work does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from gossamer.core.errors import InputError
from gossamer.training.options import OfAnyKind, Options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.graph.examples import Example
    from gossamer.masks import Mask
    from gossamer.networks.sparse_layer import SparseLayer
    from gossamer.training.connections import WeightGradient


@dataclass(frozen=True)
class Moment:
    """A training right after one of its optimizer steps, for an updater to look at."""

    step: int
    """How many steps of this training are done, from 1 on."""
    network: "nn.Module"
    mask: "Mask | None"
    """What is in force; None as long as nothing is pruned."""
    memory: "dict[str, Tensor]"
    """What the updater keeps from step to step; it is kept with every checkpoint."""
    seed: int
    example: "Example | None"
    """What the network takes; None where that is not known."""
    gradients: "Callable[[], Mapping[str, Tensor]]"
    """Returns the gradient of every parameter on the batch of the step, with the weights of now,
    of pruned weights too. It costs a pass forward and backward."""
    steps: int | None = None
    """How many steps the training has; None where that is not known."""
    layers: "Mapping[str, SparseLayer]" = field(default_factory=dict)
    """The layers that store their non-zeros only, by the names of their weights."""
    weight_gradients: "Callable[[], Mapping[str, WeightGradient]]" = dict
    """Returns the gradients of their weights, likewise."""

    def gradients_by_weight(self) -> "dict[str, Tensor]":
        """Return the `gradients` of the weights of the mask; several uses of one add up.

        Raises
        ------
        InputError
            If one is missing.
        """
        from gossamer.masks.names import bare_name, parameters_by_name
        from gossamer.masks.storages import added_up

        found = {bare_name(name): gradient for name, gradient in self.gradients().items()}
        parameters = parameters_by_name(self.network)
        gradients = added_up({n: g for n, g in found.items() if n in parameters}, parameters)
        for name in self.mask.weights if self.mask is not None else ():
            if name not in gradients:
                raise InputError(
                    f"the updater needs the gradient of {name}, but only those of "
                    f"{', '.join(found) or 'nothing'} are given: let gradients return all"
                )
        return gradients

    def gradients_by_layer(self) -> "dict[str, WeightGradient]":
        """Return the `weight_gradients`.

        Raises
        ------
        InputError
            If one is missing.
        """
        found = dict(self.weight_gradients()) if self.layers else {}
        if missing := [name for name in self.layers if name not in found]:
            raise InputError(
                f"the updater needs the gradient of {missing[0]}, of which the sparse layer stores "
                "a part only: call step(loss=...) with what returns the loss of the batch"
            )
        return found


@dataclass(frozen=True)
class Moved:
    """What an updater changes where a network has sparse layers."""

    mask: "Mask | None"
    positions: "Mapping[str, Tensor]"
    """Where the connections of layers stand from now on, by the names of the weights."""


class Updater(Options):
    """Changes the mask while training goes on.

    A kind of updater is one class in one file: its options and `after_step`. After a mask was
    returned, what it prunes is zero, and what it keeps that was pruned before starts from zero with
    nothing of the optimizer's memory: no velocity, no moments.
    """

    version: ClassVar[int]
    """Raised where the same options come to mean something else: it enters the keys."""
    moves: ClassVar[tuple[str, ...]] = ()
    """Names of the patterns whose groups it moves, so that it needs a mask of one of them."""
    moves_connections: ClassVar[bool] = False
    """Whether it moves those of sparse layers, too, which have no mask."""
    needs_steps: ClassVar[bool] = False
    """Whether it must know how many steps the training has."""

    @classmethod
    def kind(cls) -> str:
        """Return what a file calls such updaters."""
        return str(cls.model_fields["name"].default)

    def pruning(self) -> Mapping[str, Any] | None:
        """Return the options of the `Prune` step that would lead to such a mask.

        None where it only moves the weights of a mask that is in force before.
        """
        return None

    def check_steps(self, steps: int) -> None:
        """Refuse a training of so many optimizer steps."""

    def check_mask(self, mask: "Mask", network: "nn.Module", example: "Example | None") -> None:
        """Refuse what it is to start from."""

    def after_step(self, moment: Moment) -> "Mask | Moved | None":
        """Return the mask from now on; None to keep the one in force."""
        raise NotImplementedError


UPDATERS: dict[str, type[Updater]] = {}
"""Every kind of updater by what files call it; filled in `gossamer.training.updaters`."""

AnyUpdater = Annotated[Updater, OfAnyKind(UPDATERS, "name")]
"""An updater of any of the kinds that are registered when a model with this field is built."""

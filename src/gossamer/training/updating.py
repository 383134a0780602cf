"""An updater at work on a network and its optimizer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.core.errors import InputError
from gossamer.core.formats import likeliest, listed
from gossamer.graph.examples import Example
from gossamer.masks import Mask
from gossamer.masks.grouping import pattern_of
from gossamer.training.connections import (
    Gradients,
    density,
    gradients_of,
    reconnect,
    sparse_layers,
)
from gossamer.training.updaters import UPDATERS, Moment, Moved, Updater


class Updating:
    """An updater at work: asked after each step, it gives masks, which are enforced.

    `updater` makes it for a loop of one's own.

    Parameters
    ----------
    updater
        Whom to ask.
    network, optimizer
        What is trained, and by what.
    mask
        What is enforced on the optimizer already; None if nothing is.
    seed
        Seed of all that is drawn.
    example
        What the network takes, where its structure matters.
    memory
        What the updater kept when an earlier run of the same training was left.
    steps
        How many optimizer steps the training has; None where that is not known.

    Raises
    ------
    InputError
        If the updater moves weights and there is no mask of single ones, or it must know the steps.
    """

    def __init__(
        self,
        updater: Updater,
        network: nn.Module,
        optimizer: Optimizer,
        mask: Mask | None,
        seed: int,
        example: Example | None,
        memory: Mapping[str, Tensor],
        steps: int | None,
    ) -> None:
        self.layers = sparse_layers(network) if updater.moves_connections else {}
        """Those whose connections move, by the names of their weights."""
        _check(updater, mask, steps, bool(self.layers))
        if mask is not None:
            updater.check_mask(mask, network, example)
        self._total = steps
        self._updater, self._network, self._optimizer = updater, network, optimizer
        self._seed, self._example = seed, example
        self.mask = mask
        """What is in force; None as long as nothing is pruned."""
        self.memory = dict(memory)
        self.steps = 0
        """How often `step` was called."""

    @property
    def density(self) -> float:
        """The share of the prunable weights that is kept; 1 as long as nothing is pruned."""
        if self.layers:
            return density(self.mask.weights if self.mask else {}, self.layers)
        return 1 - self.mask.sparsity if self.mask else 1.0

    def step(
        self,
        gradients: Callable[[], Mapping[str, Tensor]] | None = None,
        *,
        loss: Callable[[], Tensor] | None = None,
    ) -> None:
        """Let the updater change the mask; to be called after each step of the optimizer.

        Parameters
        ----------
        gradients
            Returns the gradients of the loss by parameter, for an updater that looks at those of
            pruned weights: by `torch.autograd.grad`, as `backward` leaves these out.
        loss
            Returns the loss of the batch, instead: gradients are found where they are needed, for
            layers too that store their non-zeros only.
        """
        self.steps += 1
        if gradients is not None:
            given = gradients
            self.after_step(self.steps, lambda: Gradients(given()))
        elif loss is not None:
            self.after_step(self.steps, partial(gradients_of, self._network, loss))
        else:
            self.after_step(self.steps, _no_gradients)

    def state_dict(self) -> dict[str, Any]:
        """Return what to keep beside the mask, to go on later as if nothing had been."""
        return {"steps": self.steps, "memory": dict(self.memory)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.steps, self.memory = int(state["steps"]), dict(state["memory"])

    def after_step(self, step: int, gradients: Callable[[], Gradients]) -> None:
        """Let the updater look at the network after a step; see `Moment`."""
        moment = Moment(
            step=step,
            network=self._network,
            mask=self.mask,
            memory=self.memory,
            seed=self._seed,
            example=self._example,
            gradients=lambda: gradients().parameters,
            steps=self._total,
            layers=self.layers,
            weight_gradients=lambda: gradients().weights,
        )
        change = self._updater.after_step(moment)
        mask = change.mask if isinstance(change, Moved) else change
        if isinstance(change, Moved):
            for name, positions in change.positions.items():
                reconnect(self.layers[name], positions, self._optimizer)
        if mask is not None:
            # Sets to zero what is pruned and what the optimizer keeps for it, so that what is kept
            # anew starts with neither.
            mask.enforce(self._network, self._optimizer)
            self.mask = mask


def _check(updater: Updater, mask: Mask | None, steps: int | None, sparse: bool) -> None:
    if updater.moves and mask is None and updater.pruning() is None and not sparse:
        raise InputError(
            f"the updater {updater.kind()!r} moves the weights of a mask: pass mask=, or a model "
            "with sparse layers"
        )
    if updater.moves and mask is not None:
        pattern = pattern_of(mask)
        if mask.attached or pattern.name not in updater.moves:
            raise InputError(
                f"the updater {updater.kind()!r} moves weights of the pattern "
                f"{listed(list(updater.moves))}, but the mask has the pattern {pattern}: prune "
                "by another one"
            )
    if steps is not None:
        updater.check_steps(steps)
    elif updater.needs_steps:
        raise InputError(
            f"the updater {updater.kind()!r} must know how many optimizer steps the training has: "
            "pass steps="
        )


def _no_gradients() -> Gradients:
    raise InputError(
        "this updater looks at gradients: call step(gradients=...) with what returns them, or "
        "step(loss=...) with what returns the loss of the batch"
    )


def updater(
    model: nn.Module,
    optimizer: Optimizer,
    name: str,
    *,
    mask: Mask | None = None,
    example: Example | None = None,
    seed: int = 0,
    steps: int | None = None,
    **options: Any,
) -> Updating:
    """Let the mask change while a loop of your own trains a network.

    Parameters
    ----------
    model, optimizer
        What is trained, and by what.
    name
        Which updater: ``"gradual"`` prunes more and more, by the cubic schedule of Zhu and Gupta
        (2017); ``"granet"`` lets some grow again on the way (Liu et al. 2021); ``"set"`` moves
        weights of a mask to random places (Mocanu et al. 2018), ``"rigl"`` to where the gradient is
        largest (Evci et al. 2020), ``"srigl"`` so that units have as many each (Lasby et al. 2024).
    mask
        What is pruned already and stays so; it is enforced. None to start from a dense network, or
        where all that moves are the connections of sparse layers: "set" and "rigl" move those of
        each `SparseLinear` and `SparseConv2d` without ever making its dense weight.
    example
        What the model takes, as for `prune`.
    seed
        Seed of all that is drawn.
    steps
        How many optimizer steps the training has; "set", "rigl" and "srigl" must know.
    options
        Those of the updater, as in a study file: for "gradual" and "granet" ``final`` and
        ``updates``, and ``initial``, ``start``, ``every``, ``schedule``, ``score``, ``allocation``
        and ``exclude``; for "set", "rigl" and "srigl" ``every`` and ``until``; ``fraction`` for all
        that grow; for "srigl" ``salient`` and ``keep_units``.

    Returns
    -------
    Updating
        Call its `step` after each step of the optimizer; `mask` is what is in force.

    Raises
    ------
    InputError
        If there is no such updater, its options make no sense, or the mask does not fit.

    Examples
    --------
    >>> import torch
    >>> model = nn.Linear(10, 10)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> updates = updater(model, optimizer, "gradual", final=0.9, every=2, updates=3)
    >>> for _ in range(8):
    ...     model(torch.ones(4, 10)).sum().backward()
    ...     optimizer.step()
    ...     updates.step()
    >>> int((model.weight == 0).sum()), round(updates.density, 2)
    (90, 0.1)
    """
    if name not in UPDATERS:
        near = likeliest(name, UPDATERS)
        raise InputError(
            f"there is no updater {name!r}, only {', '.join(map(repr, UPDATERS))}"
            f"{'' if near is None else f': did you mean {near!r}?'}"
        )
    try:
        chosen = UPDATERS[name](**options)
    except ValidationError as error:
        found = [(each["loc"] or (name,), each["msg"]) for each in error.errors()]
        wrong = "; ".join(f"{at[0]}: {what.removeprefix('Value error, ')}" for at, what in found)
        raise InputError(f"the updater {name!r} cannot have these options ({wrong})") from error
    if mask is not None:
        mask.enforce(model, optimizer)
    return Updating(chosen, model, optimizer, mask, seed, example, {}, steps)

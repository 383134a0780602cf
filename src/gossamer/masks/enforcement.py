"""Keeping pruned weights at zero while any torch optimizer trains the network.

Before each step the gradients of pruned weights are set to zero, so that no momentum or second
moment gathers there; after each step the weights are, whatever the optimizer did (stale
momentum, weight decay). The work hangs on the optimizer object, through its public step hooks.
"""

from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.utils.hooks import RemovableHandle

from gossamer.errors import InputError


class _Bindable(Protocol):
    def bind(self, model: nn.Module) -> dict[str, nn.Parameter]: ...
    def __getitem__(self, name: str) -> Tensor: ...


class Enforcement:
    """A mask at work on an optimizer; `remove` ends it and leaves the zeros where they are."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._pruned: dict[nn.Parameter, Tensor] = {}
        self._handles: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(lambda *_: self.clear_weights()),
        ]

    @property
    def removed(self) -> bool:
        """Whether the enforcement was ended."""
        return not self._handles

    def set(self, model: nn.Module, pruned: dict[nn.Parameter, Tensor]) -> None:
        """Take these masks for the parameters of `model`, instead of earlier ones."""
        for parameter in model.parameters():
            self._pruned.pop(parameter, None)
        self._pruned |= pruned

    def remove(self) -> None:
        """Stop enforcing."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._pruned.clear()

    def clear_weights(self) -> None:
        """Set what is pruned to zero now, as after every step."""
        with torch.no_grad():
            for parameter, pruned in self._on_device():
                parameter.masked_fill_(pruned, 0)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Clear gradients, and have a closure do so each time it computes new ones."""
        if isinstance(optimizer, LBFGS):
            self._forget_stale_directions(optimizer)
        self._clear_gradients()
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": self._clearing(kwargs["closure"])}
        if len(args) > 1 and callable(args[1]):  # args[0] is the optimizer itself
            return (args[0], self._clearing(args[1]), *args[2:]), kwargs
        return args, kwargs

    def _forget_stale_directions(self, optimizer: LBFGS) -> None:
        """Have L-BFGS start anew if its last direction moved what is pruned by now.

        Its curvature is that of another network then, and a line search along it may never move.
        """
        parameters: list[nn.Parameter] = optimizer.param_groups[0]["params"]
        direction = optimizer.state[parameters[0]].get("d")
        if direction is None:
            return
        parts = direction.split([parameter.numel() for parameter in parameters])
        masks = dict(self._on_device())
        if any(
            bool(part[masks[parameter].flatten()].any())
            for parameter, part in zip(parameters, parts, strict=True)
            if parameter in masks
        ):
            optimizer.state[parameters[0]].clear()

    def _clearing(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def clearing() -> Any:
            loss = closure()
            self._clear_gradients()
            return loss

        return clearing

    def _clear_gradients(self) -> None:
        with torch.no_grad():
            for parameter, pruned in self._on_device():
                # A sparse gradient holds rows; the weights themselves are set after the step.
                if parameter.grad is not None and parameter.grad.layout == torch.strided:
                    parameter.grad.masked_fill_(pruned, 0)

    def _on_device(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return parameters with their masks, on the device the model is on by now."""
        for parameter, pruned in self._pruned.items():
            if pruned.device != parameter.device:
                self._pruned[parameter] = pruned.to(parameter.device)
        return list(self._pruned.items())


_active: WeakKeyDictionary[Optimizer, Enforcement] = WeakKeyDictionary()


def enforce(mask: _Bindable, model: nn.Module, optimizer: Optimizer) -> Enforcement:
    """Set pruned weights to zero and keep them there through every step of an optimizer.

    Works with every `torch.optim.Optimizer`: momentum, weight decay, adaptive, fused, foreach,
    closures. Enforcing again on the same optimizer replaces the mask. After a ``deepcopy`` of
    model and optimizer, enforce again on the copies.

    Parameters
    ----------
    mask
        A `Mask` that fits the model.
    model
        The module that the optimizer trains; it may be compiled, and may move between devices.
    optimizer
        The optimizer to hang the enforcement on.

    Returns
    -------
    Enforcement
        A handle; its `remove` ends the enforcement.

    Raises
    ------
    InputError
        If the mask does not fit the model, or the optimizer trains none of its parameters.

    Examples
    --------
    >>> from gossamer.masks import prune
    >>> model = nn.Linear(4, 4)
    >>> optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    >>> enforcement = enforce(prune(model, 0.5), model, optimizer)
    >>> model(torch.ones(2, 4)).sum().backward()
    >>> _ = optimizer.step()
    >>> int((model.weight == 0).sum())
    8
    """
    parameters = mask.bind(model)
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            f"a torch.optim.Optimizer was expected to enforce the mask on, not "
            f"{type(optimizer).__name__}"
        )
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(parameter) in trained for parameter in parameters.values()):
        raise InputError(
            "the optimizer trains none of the mask's parameters: was it made for another model "
            "(or for a copy of this one)?"
        )
    enforcement = _active.get(optimizer)
    if enforcement is None or enforcement.removed:
        enforcement = _active[optimizer] = Enforcement(optimizer)
    pruned = {p: ~mask[name].to(p.device) for name, p in parameters.items()}
    enforcement.set(model, pruned)
    enforcement.clear_weights()
    return enforcement

"""Gradients that are zero where a weight is pruned, from the moment they are accumulated."""

import weakref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class GradientHook:
    """Sets the gradient of one parameter to zero where it is pruned, whenever it was accumulated.

    A parameter has one such hook at most: the latest. It keeps no reference to the parameter, which
    keeps it: the garbage collector could not see through that circle.

    Parameters
    ----------
    parameter
        A leaf that requires a gradient.
    pruned
        Boolean, of its shape.
    owner
        What the hook was registered for; it is not kept alive.
    """

    def __init__(self, parameter: nn.Parameter, pruned: Tensor, owner: object) -> None:
        for other in hooks_on(parameter):
            other.remove()
        self.owner = weakref.ref(owner)
        self._pruned = pruned
        register = parameter.register_post_accumulate_grad_hook
        self._handle: RemovableHandle = register(self)  # type: ignore[no-untyped-call]
        self.attached = True

    def __call__(self, parameter: Tensor) -> None:
        """Clear the gradient that the parameter has now."""
        if self._pruned.device != parameter.device:
            self._pruned = self._pruned.to(parameter.device)
        clear_gradient(parameter, self._pruned)

    def remove(self) -> None:
        """Take the hook off its parameter."""
        self._handle.remove()
        self.attached = False


def hooks_on(parameter: Tensor) -> list[GradientHook]:
    """Return the hooks of this kind on a parameter."""
    hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
    return [hook for hook in hooks.values() if isinstance(hook, GradientHook)]


def clear_gradient(parameter: Tensor, pruned: Tensor) -> None:
    """Set a gradient to zero where a boolean tensor is True.

    A sparse gradient holds rows, and stays as it is: the weights themselves are set after the step.
    """
    gradient = parameter.grad
    if gradient is not None and gradient.layout == torch.strided:
        with torch.no_grad():
            gradient.masked_fill_(pruned, 0)

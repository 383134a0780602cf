"""Gradients that are zero where a weight is pruned, from the moment they are accumulated."""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class GradientHook:
    """Sets the gradient of one parameter to zero where it is pruned, whenever it was accumulated.

    Of several on one parameter the latest alone works; once it is removed, the one before does. It
    keeps no reference to the parameter, which keeps it: the garbage collector could not see through
    that circle.

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
            if other.owner() in (None, owner):
                other.remove()
        self.owner: Callable[[], object] = weakref.ref(owner)
        self._pruned = pruned
        register = parameter.register_post_accumulate_grad_hook
        self._handle: RemovableHandle = register(self)  # type: ignore[no-untyped-call]
        self.attached = True
        self._cleared: tuple[Tensor, int] | None = None

    def __call__(self, parameter: Tensor) -> None:
        """Clear the gradient that the parameter has now."""
        if hooks_on(parameter)[-1] is not self:
            return
        self._clear(parameter)
        if parameter.grad is not None:
            self._cleared = parameter.grad, parameter.grad._version

    def clear_again(self, parameter: Tensor) -> None:
        """Clear the gradient before it is used, unless nothing wrote to it since it came.

        Only until then is it remembered, so that its memory can be freed when it is.
        """
        cleared, self._cleared = self._cleared, None
        if cleared is None or cleared[0] is not parameter.grad or cleared[0]._version != cleared[1]:
            self._clear(parameter)

    def _clear(self, parameter: Tensor) -> None:
        if self._pruned.device != parameter.device:
            self._pruned = self._pruned.to(parameter.device)
        clear_gradient(parameter, self._pruned)

    def remove(self) -> None:
        """Take the hook off its parameter."""
        self._handle.remove()
        self.attached = False
        self._cleared = None


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

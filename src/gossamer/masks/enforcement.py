"""Keeping pruned weights at zero while any optimizer trains the network.

When enforcement begins, and after the optimizer loads a state, the weights and all that the
optimizer keeps for them are set to zero where they are pruned. Gradients are zero there from the
moment they are accumulated, so that an optimizer that treats entries one by one never moves them,
neither in `step` nor outside it. After each step the weights are set to zero again, whatever the
optimizer did. At the beginning of each step they are looked at: if they are not zero then,
something else wrote to them, which is an error.

The work hangs on the optimizers, through their public step hooks, and on the parameters, through
hooks that are neither copied nor saved with them.
"""

import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Protocol, TypeGuard
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from gossamer.core.errors import InputError
from gossamer.masks.gradients import GradientHook, clear_gradient, hooks_on
from gossamer.masks.names import bare_module, parameters_by_name
from gossamer.masks.optimizer_tensors import held_tensors, optimizers_within, parameters_of
from gossamer.masks.values import any_nonzero, clear, nonzero


class _Placeable(Protocol):
    def placed(self, model: nn.Module) -> dict[str, tuple[nn.Parameter, Tensor]]: ...


class Enforcement:
    """A mask at work on an optimizer; `remove` ends it and leaves the zeros where they are."""

    def __init__(self) -> None:
        self._pruned: dict[nn.Parameter, Tensor] = {}
        self._names: dict[nn.Parameter, str] = {}
        self._keys: dict[str, nn.Parameter] = {}
        self._optimizers: WeakSet[Optimizer] = WeakSet()
        self._holders: list[Callable[[], object]] = []
        self._handles: list[RemovableHandle] = []
        self._hooks: dict[nn.Parameter, GradientHook] = {}
        self._places: dict[nn.Parameter, _Place] = {}
        self._stepping: weakref.ref[Optimizer] | None = None
        self.removed = False
        """Whether the enforcement was ended."""

    def set(self, model: nn.Module, pruned: Mapping[str, tuple[nn.Parameter, Tensor]]) -> None:
        """Take these masks, by name, for the parameters of `model`, instead of earlier ones."""
        bare = bare_module(model)
        gone = [p for p, place in self._places.items() if place.model() in (bare, None)]
        for parameter in [*model.parameters(), *gone]:
            self._pruned.pop(parameter, None)
            self._places.pop(parameter, None)
            self._unhook(parameter)
        self._places |= {
            parameter: _Place(bare, name)
            for name, parameter in bare.named_parameters()
            if id(parameter) in {id(other) for other, _ in pruned.values()}
        }
        self._pruned |= dict(pruned.values())
        self._names |= {parameter: name for name, (parameter, _) in pruned.items()}
        self._keys = {**dict(model.named_parameters()), **parameters_by_name(model)}
        self._hook_gradients(self._pruned)
        for parameter, positions in self._on_device(self._pruned):
            clear_gradient(parameter, positions)

    def watch(self, optimizers: Iterable[object]) -> None:
        """Hang the work on these optimizers, and set to zero what they keep for pruned weights."""
        for optimizer in optimizers:
            if _announces_steps(optimizer) and optimizer not in self._optimizers:
                self._optimizers.add(optimizer)
                _active[optimizer] = self
                self._handles += [
                    optimizer.register_step_pre_hook(self._before_step),
                    optimizer.register_step_post_hook(self._after_step),
                ]
                if "_optimizer_load_state_dict_post_hooks" in vars(optimizer):
                    hook = optimizer.register_load_state_dict_post_hook(lambda _: self.clear_held())
                    self._handles.append(hook)
            if not any(holder() is optimizer for holder in self._holders):
                self._holders.append(_weakly(optimizer))
        self.clear_held()

    def belongs_to(self, optimizer: Optimizer) -> bool:
        """Tell whether an optimizer holds one that this is at work on, or shares its state."""
        within = {id(inside) for inside in optimizers_within(optimizer)}
        groups = {id(group) for group in optimizer.param_groups}
        return any(
            id(other) in within
            or other.state is optimizer.state
            or any(id(group) in groups for group in other.param_groups)
            for other in self._optimizers
        )

    @property
    def has_optimizers(self) -> bool:
        """Whether an optimizer is left that this is at work on."""
        return bool(self._optimizers)

    def remove(self) -> None:
        """Stop enforcing."""
        for handle in self._handles:
            handle.remove()
        for parameter in list(self._hooks):
            self._unhook(parameter)
        self._handles.clear()
        self._pruned.clear()
        self._places.clear()
        self.removed = True

    def clear_weights(self) -> None:
        """Set what is pruned to zero now, as after every step."""
        for parameter, pruned in self._on_device(self._pruned):
            clear(parameter, pruned)

    def clear_held(self) -> None:
        """Set to zero what the optimizers keep for pruned weights."""
        for holder in self._holders:
            for parameter, tensors in held_tensors(holder(), self._keys).items():
                for tensor in tensors if parameter in self._pruned else ():
                    clear(tensor, self._pruned[parameter])

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Look at the weights, clear gradients, and have a closure do so each time it computes."""
        trained = self._on_device(parameters_of(optimizer))
        if not self._is_within_step():  # where weights may be anything for a while
            self._stepping = None
            self._refuse_replaced(trained)
            self._refuse_written(trained)
            self._stepping = weakref.ref(optimizer)
        if isinstance(optimizer, LBFGS):
            _forget_stale_directions(optimizer, dict(trained))
        self._hook_gradients(parameter for parameter, _ in trained)
        self._clear_gradients(trained)
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": self._clearing(kwargs["closure"], trained)}
        if len(args) > 1 and callable(args[1]):  # args[0] is the optimizer itself
            return (args[0], self._clearing(args[1], trained), *args[2:]), kwargs
        return args, kwargs

    def _clearing(
        self, closure: Callable[[], Any], trained: list[tuple[nn.Parameter, Tensor]]
    ) -> Callable[[], Any]:
        def clearing() -> Any:
            loss = closure()
            self._clear_gradients(trained)
            return loss

        return clearing

    def _clear_gradients(self, trained: list[tuple[nn.Parameter, Tensor]]) -> None:
        for parameter, pruned in trained:
            if hook := self._hooks.get(parameter):
                hook.clear_again(parameter)
            else:
                clear_gradient(parameter, pruned)

    def _is_within_step(self) -> bool:
        """Tell whether a step that was begun goes on: no hook hears of its end by an exception."""
        optimizer = self._stepping() if self._stepping is not None else None
        return optimizer is not None and _is_running(optimizer)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        for parameter, pruned in self._on_device(parameters_of(optimizer)):
            clear(parameter, pruned)
        if self._stepping is not None and self._stepping() is optimizer:
            self._stepping = None

    def _refuse_replaced(self, trained: list[tuple[nn.Parameter, Tensor]]) -> None:
        """Raise if the model has other parameters by now than those that the optimizer trains.

        Raises
        ------
        InputError
            If so.
        """
        for parameter, _ in trained:
            place = self._places.get(parameter)
            if place is not None and not place.holds(parameter):
                raise InputError(
                    f"{self._names[parameter]} of the model is not the parameter any more that "
                    "this optimizer trains and the mask was enforced on (a state was loaded with "
                    "assign=True, or a layer was replaced): make the optimizer anew, with the "
                    "parameters that the model has now, and enforce the mask on that one"
                )

    def _refuse_written(self, trained: list[tuple[nn.Parameter, Tensor]]) -> None:
        """Raise if something wrote to pruned weights since the last step.

        Raises
        ------
        InputError
            If so.
        """
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return  # a captured graph cannot ask for a number
        written = [any_nonzero(p, pruned) for p, pruned in trained]
        # One question for all of them: each waits for the device.
        if not written or not torch.stack([flag.to(written[0].device) for flag in written]).any():
            return
        for (parameter, pruned), flag in zip(trained, written, strict=True):
            if flag:
                count = int((nonzero(parameter) & pruned).count_nonzero())
                raise InputError(
                    f"{count} pruned weights of {self._names[parameter]} are not zero at the "
                    "beginning of a step, though the mask held them before: something wrote to "
                    "them outside the steps. After loading other values, call mask.apply(model) "
                    "or enforce again before going on; where a wrapper around the optimizer "
                    "writes to the weights, enforce the mask on that wrapper"
                )

    def _hook_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Have gradients cleared as they come; those of what is frozen when it no longer is."""
        for parameter in parameters:
            hook = self._hooks.get(parameter)
            trained = parameter.requires_grad and parameter.is_leaf
            if trained and (hook is None or not hook.attached):
                self._hooks[parameter] = GradientHook(parameter, self._pruned[parameter], self)

    def _unhook(self, parameter: nn.Parameter) -> None:
        if hook := self._hooks.pop(parameter, None):
            hook.remove()

    def _on_device(self, parameters: Iterable[nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
        """Return parameters with their masks, on the device the model is on by now."""
        found = []
        for parameter in parameters:
            if (pruned := self._pruned.get(parameter)) is None:
                continue
            if pruned.device != parameter.device:
                pruned = self._pruned[parameter] = pruned.to(parameter.device)
            found.append((parameter, pruned))
        return found


class _Place:
    """Where a model has a parameter, to see cheaply whether it is still there."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self.model = weakref.ref(model)
        *self._keys, self._name = name.split(".")

    def holds(self, parameter: nn.Parameter) -> bool:
        """Tell whether the model, if there still is one, has the parameter, here or elsewhere."""
        model = self.model()
        if model is None or self._is_in(model, parameter):
            return True
        return any(other is parameter for other in model.parameters())

    def _is_in(self, module: nn.Module | None, parameter: nn.Parameter) -> bool:
        for key in self._keys:
            if module is None or key not in module._modules:
                return False
            module = module._modules[key]
        if module is None or self._name not in module._parameters:
            return False
        return module._parameters[self._name] is parameter


_ANNOUNCED = Optimizer.profile_hook_step(lambda optimizer: optimizer).__code__
"""What torch runs around each step of every optimizer, and where it calls the hooks."""


def _is_running(optimizer: Optimizer) -> bool:
    """Tell in a hook whether a step of an optimizer is under way, beside the one just beginning."""
    steps, frame = 0, sys._getframe().f_back
    while frame is not None:
        if frame.f_code is _ANNOUNCED:
            steps += 1
            if steps > 1 and any(value is optimizer for value in frame.f_locals.values()):
                return True
        frame = frame.f_back
    return False


def _weakly(value: object) -> Callable[[], object]:
    """Return what gives a value for as long as something else keeps it, where that is possible."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _announces_steps(optimizer: object) -> TypeGuard[Optimizer]:
    """Tell whether hooks hear of an optimizer's steps; not of those of every wrapper."""
    if not isinstance(optimizer, Optimizer):
        return False
    return "_optimizer_step_pre_hooks" in vars(optimizer) and hasattr(
        type(optimizer).step, "hooked"
    )


def _forget_stale_directions(optimizer: LBFGS, pruned: Mapping[nn.Parameter, Tensor]) -> None:
    """Have L-BFGS start anew if its last direction moved what is pruned by now.

    Its curvature is that of another network then, and a line search along it may never move.
    """
    parameters: list[nn.Parameter] = optimizer.param_groups[0]["params"]
    direction = optimizer.state[parameters[0]].get("d")
    if direction is None:
        return
    parts = direction.split([parameter.numel() for parameter in parameters])
    if any(
        bool(part[pruned[parameter].flatten()].any())
        for parameter, part in zip(parameters, parts, strict=True)
        if parameter in pruned
    ):
        optimizer.state[parameters[0]].clear()


_active: WeakKeyDictionary[Optimizer, Enforcement] = WeakKeyDictionary()


@cache
def _hear_of_all_steps() -> None:
    """Hear of the steps of optimizers that no mask was enforced on, from the first mask on."""
    register_optimizer_step_pre_hook(_before_any_step)


def _before_any_step(optimizer: Optimizer, *_: Any) -> None:
    """Take in a wrapper of an optimizer that a mask is enforced on; refuse a stranger.

    Raises
    ------
    InputError
        If an optimizer that has nothing to do with the enforcement moves the weights.
    """
    if (known := _active.get(optimizer)) is not None and not known.removed:
        return
    hooks = [hook for parameter in parameters_of(optimizer) for hook in hooks_on(parameter)]
    owners = {hook.owner() for hook in hooks}
    own = [e for e in owners if isinstance(e, Enforcement) and e.belongs_to(optimizer)]
    if owners and not own:
        raise InputError(
            f"this {type(optimizer).__name__} trains weights on which a mask is enforced "
            "through another optimizer: enforce a mask on this one, too, or end the "
            "enforcement with the remove() of what enforce gave (for an optimizer that is "
            "gone, mask.enforce(model, this_optimizer).remove())"
        )
    for enforcement in own:
        enforcement.watch(optimizers_within(optimizer))


def enforce(mask: _Placeable, model: nn.Module, optimizer: object) -> Enforcement:
    """Set pruned weights to zero and keep them there through every step of an optimizer.

    Works with every `torch.optim.Optimizer` and with wrappers of them, whether or not they treat
    weights one by one: momentum, weight decay, fused, foreach, closures, gradient scaling and
    accumulation, slow weights, steps in two halves, weights that change places outside of steps.
    Enforcing again on the same optimizer replaces the mask. After a ``deepcopy`` of model and
    optimizer, enforce again on the copies.

    Parameters
    ----------
    mask
        A `Mask` that fits the model.
    model
        The module that the optimizer trains; it may be compiled, and may move between devices.
    optimizer
        The optimizer, or an object that holds one. What a wrapper keeps for the weights is set to
        zero with the rest; a wrapper that is an optimizer of torch itself is found at its first
        step where only the one inside was given.

    Returns
    -------
    Enforcement
        A handle; its `remove` ends the enforcement. Until then gradients are zero where weights
        are pruned (those of `torch.autograd.grad` are not), also if the optimizer is gone.

    Raises
    ------
    InputError
        If the mask does not fit the model, or there is no optimizer whose steps can be watched, or
        it trains none of the mask's parameters. Later, at the beginning of a step, if something
        wrote to pruned weights outside the steps, if another optimizer trains them, or if they
        are not the parameters of the model any more.

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
    placed = mask.placed(model)
    within = optimizers_within(optimizer)
    _check(placed, optimizer, within)
    _hear_of_all_steps()
    known = {e for o in within if _announces_steps(o) and (e := _active.get(o)) and not e.removed}
    enforcement, *others = *known, Enforcement()
    for other in others:
        other.set(model, {})
    pruned = {name: (p, ~kept.to(p.device)) for name, (p, kept) in placed.items()}
    _end_forsaken({e for p, _ in pruned.values() for e in _enforced_on(p)} - {enforcement})
    enforcement.set(model, pruned)
    enforcement.watch(within)
    enforcement.clear_weights()
    return enforcement


def _enforced_on(parameter: nn.Parameter) -> list[Enforcement]:
    owners = [hook.owner() for hook in hooks_on(parameter)]
    return [owner for owner in owners if isinstance(owner, Enforcement)]


def _end_forsaken(enforcements: set[Enforcement]) -> None:
    """End those whose optimizers are gone, that they do not come back when a later one ends."""
    if enforcements:
        gc.collect()  # an optimizer in a circle of references is gone from then on
    for enforcement in enforcements:
        if not enforcement.has_optimizers:
            enforcement.remove()


def _check(
    placed: Mapping[str, tuple[nn.Parameter, Tensor]], optimizer: object, within: list[object]
) -> None:
    if not any(_announces_steps(inside) for inside in within):
        raise InputError(
            "a torch.optim.Optimizer was expected to enforce the mask on, or an object that holds "
            f"one as an attribute, not {type(optimizer).__name__}: pass the optimizer that steps"
        )
    trained = {id(parameter) for inside in within for parameter in parameters_of(inside)}
    if not any(id(parameter) in trained for parameter, _ in placed.values()):
        raise InputError(
            "the optimizer trains none of the mask's parameters: was it made for another model "
            "(or for a copy of this one)?"
        )
    for name, (parameter, _) in placed.items():
        if parameter.is_inference():
            raise InputError(
                f"{name} was made in torch.inference_mode, so it cannot be trained: build or load "
                "the network outside of it, or replace it with copy.deepcopy(model) made outside"
            )

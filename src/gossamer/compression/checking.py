"""What is refused: models and examples that cannot be compressed, and answers that are wrong."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import prune as torch_prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils import _pytree as pytree

from gossamer.compression.compacting.copying import in_double
from gossamer.errors import InputError
from gossamer.measure.running import run

_TRACED_HOOKS = (torch_prune.BasePruningMethod, WeightNorm, SpectralNorm)
"""Hooks that only compute a weight from others."""

_TOLERANCE = 1e-4
"""Largest difference from the float64 model, relative to its largest output."""
_BEYOND_PYTORCH = 10
"""How many times the rounding error of the model itself may be exceeded, where that is larger."""

_SEED = 0
"""Of the random inputs on which answers are compared beside the example's."""


def check_model(model: nn.Module) -> None:
    """Refuse a model that is not plain float32 on the CPU, or whose hooks could do anything.

    Raises
    ------
    InputError
        If it is one.
    """
    name = type(model).__name__
    for where, tensor in _tensors(model):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise InputError(
                f"{where} of {name} has no values yet: run one batch through the network before "
                "compressing it."
            )
        if tensor.device.type != "cpu":
            raise InputError(
                f"{where} of {name} is on {tensor.device}, but gossamer compresses networks for "
                "the CPU: move it there with model.cpu()."
            )
        numeric = tensor.is_floating_point() or tensor.is_complex()
        if numeric and tensor.dtype != torch.float32:
            raise InputError(
                f"{where} of {name} is {tensor.dtype}, but float32 was expected: convert the "
                "network with model.float()."
            )
        if numeric and tensor.layout == torch.strided and not tensor.isfinite().all():
            raise InputError(
                f"{where} of {name} holds values that are not finite: train or repair the network "
                "first."
            )
    for where, hook in _hooks(model):
        if not isinstance(hook, _TRACED_HOOKS):
            raise InputError(
                f"{where} of {name} has the hook {getattr(hook, '__name__', type(hook).__name__)}, "
                "which a compressed network would not run: remove it first, with the handle that "
                "registering it returned."
            )


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"parameter {name!r}", value) for name, value in model.named_parameters())
    yield from ((f"buffer {name!r}", value) for name, value in model.named_buffers())


def _hooks(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        where = f"layer {name!r}" if name else "the outermost module"
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            yield where, hook


def check_example(example: Any) -> None:
    """Refuse an example that is no batch of finite float32 numbers on the CPU.

    Raises
    ------
    InputError
        If it is not.
    """
    if not isinstance(example, Tensor):
        raise InputError(
            f"'example' is a {type(example).__name__}, but a tensor [batch, ...] was expected: "
            "give a batch of inputs as the network takes them."
        )
    shape = tuple(example.shape)
    if example.dim() < 2 or not example.numel():
        raise InputError(
            f"'example' has shape {shape}, but a batch of at least one input, [batch, ...], was "
            "expected: add the dimension of the batch, or give some inputs."
        )
    if example.dtype != torch.float32 or example.device.type != "cpu":
        raise InputError(
            f"'example' is {example.dtype} on {example.device}, but float32 on the CPU was "
            "expected: convert it with example.float().cpu()."
        )
    if example.layout != torch.strided or not example.isfinite().all():
        raise InputError(
            f"'example' of shape {shape} holds values that are not finite, or is not stored "
            "dense: give inputs as the network will get them."
        )


def run_twice(model: nn.Module, example: Tensor) -> Any:
    """Return what a model gives for an example.

    Raises
    ------
    InputError
        If it fails, or gives something else the second time.
    """
    with torch.no_grad():
        # A model may write into what it is given.
        output, again = run(model, example.clone()), run(model, example.clone())
    for first, second in zip(pytree.tree_leaves(output), pytree.tree_leaves(again), strict=True):
        if isinstance(first, Tensor) and not relative_difference(second, first) <= _TOLERANCE:
            raise InputError(
                f"The network {type(model).__name__} gives different answers for the same inputs "
                "in evaluation mode, so it cannot be compressed: let it draw random numbers, or "
                "change what it holds, in training mode only."
            )
    return output


def check_answers_of(modules: Mapping[str, nn.Module], example: Tensor, any_batch: bool) -> None:
    """Compare what several modules give with what the first of them, the model, gives.

    They are given the example, random numbers of its shape, and a batch of another size.

    Raises
    ------
    InputError
        If one differs by more than rounding does.
    """
    model, *others = modules.values()
    other = torch.randn(example.shape, generator=torch.Generator().manual_seed(_SEED))
    double = _running_in_double(model, example)
    for inputs in [example, other, other[:1]] if any_batch else [example, other]:
        for module in others:
            check_answers(module, model, double, inputs)


def _running_in_double(model: nn.Module, example: Tensor) -> nn.Module | None:
    """Return a copy of a model in float64; None if it asks for float32 whatever it is given."""
    double = in_double(model)
    try:
        with torch.no_grad():
            double(example[:1].double())
    except Exception:  # noqa: BLE001 - a user's forward may raise anything
        return None
    return double


def check_answers(
    found: Callable[[Tensor], Any],
    model: nn.Module,
    model_in_double: nn.Module | None,
    inputs: Tensor,
) -> None:
    """Compare what a compressed network gives with what its model gives.

    Parameters
    ----------
    found
        The compressed network.
    model, model_in_double
        The model in evaluation mode, and in float64 if it can be run so.
    inputs
        What both are given, [batch, ...].

    Raises
    ------
    InputError
        If they differ by more than rounding does.
    """
    with torch.no_grad():
        answers = pytree.tree_leaves(found(inputs.clone()))
        plain = pytree.tree_leaves(run(model, inputs.clone()))
        exact = plain
        if model_in_double is not None:
            exact = pytree.tree_leaves(model_in_double(inputs.double()))
    for answer, near, reference in zip(answers, plain, exact, strict=True):
        if not isinstance(reference, Tensor):
            continue
        difference = relative_difference(answer, reference)
        allowed = max(_TOLERANCE, _BEYOND_PYTORCH * relative_difference(near, reference))
        # Written so that a difference that is no number is refused as well.
        if answer.shape != near.shape or not difference <= allowed:
            raise InputError(
                f"The compressed {type(model).__name__} differs from the network by "
                f"{difference:.1e} of its largest output, but at most {allowed:.1e} was expected; "
                "this is a fault of gossamer: please report the network."
            )


def relative_difference(found: Tensor, reference: Tensor) -> float:
    """Return the largest difference over the largest number of the reference.

    Where both are not finite in the same way they do not differ.

    Examples
    --------
    >>> relative_difference(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))
    0.25
    """
    if found.shape != reference.shape:
        return float("nan")
    found, reference = found.double(), reference.double()
    same = (found == reference) | (found.isnan() & reference.isnan())
    difference = torch.where(same, 0.0, (found - reference).abs())
    largest = reference.abs().nan_to_num(0.0, 0.0).max() if reference.numel() else torch.ones(())
    worst = difference.max() if difference.numel() else torch.zeros(())
    return float(worst / largest) if largest > 0 else float(worst)

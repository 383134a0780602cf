"""Batches as users give them: pairs of inputs and labels."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.graph.examples import arguments_of, tensors_in, told

Batches = Iterable[tuple[Any, Any]]
"""Pairs of inputs (a tensor, a tuple of positional or a dict of keyword arguments) and labels."""


EXAMPLE = "[(inputs, labels), ...]"
PAIRS = f"pairs of inputs and labels, {EXAMPLE}"


@dataclass(frozen=True)
class Batch:
    """A batch, its tensors copied to where the network is."""

    number: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    labels: Any
    examples: int


def read_batch(number: int, given: Any, device: torch.device | None) -> Batch:
    """Return a batch that was given, its tensors copied to a device, or where they are.

    Raises
    ------
    InputError
        If it is no pair of inputs and labels, holds no examples or cannot be brought there.
    """
    if not isinstance(given, tuple | list) or len(given) != 2:
        kind = f"{type(given).__name__} of {len(given)}" if hasattr(given, "__len__") else given
        raise InputError(
            f"batches must be {PAIRS}, but batch {number} is a {kind}: where there are no labels, "
            "write (inputs, None)"
        )
    inputs, labels = given
    try:
        args, kwargs = arguments_of(tuple(inputs) if isinstance(inputs, list) else inputs)
    except InputError as error:
        raise InputError(
            f"the inputs of batch {number} must be a tensor, a tuple of positional arguments or a "
            f"dict of keyword arguments, not {type(inputs).__name__}"
        ) from error
    tensors = tensors_in((args, kwargs, labels))
    try:  # copies: a network may write into what it is given
        memo = {id(one): one.detach().clone().to(device or one.device) for one in tensors}
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"batch {number} of batches cannot be brought to {device} ({told(error)})"
        ) from error
    args, kwargs, labels = copy.deepcopy((args, kwargs, labels), dict[int, Any](memo))
    counted = [labels] if isinstance(labels, Tensor) and labels.dim() else tensors
    examples = counted[0].shape[0] if counted and counted[0].dim() else 0
    if not examples:
        raise InputError(
            f"batch {number} of batches holds no examples: give tensors whose first dimension is "
            "the examples"
        )
    return Batch(number, args, kwargs, labels, examples)

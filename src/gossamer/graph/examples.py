"""Examples of what a network takes, and calling it on one."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.calls import found_in

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""A tensor, a tuple of positional arguments, or a mapping of keyword arguments."""


def arguments_of(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an example as positional and keyword arguments.

    Raises
    ------
    InputError
        If it is neither a tensor nor a tuple or dict of arguments.

    Examples
    --------
    >>> arguments_of((torch.ones(2), None))
    ((tensor([1., 1.]), None), {})
    """
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, tuple):
        return tuple(example), {}
    if isinstance(example, Mapping) and all(isinstance(name, str) for name in example):
        return (), dict(example)
    raise InputError(
        "example must be a tensor, a tuple of the network's positional arguments (a single dict "
        f"is ({{...}},)) or a dict of keyword arguments, not {type(example).__name__}"
    )


def call_on(network: nn.Module, example: Example) -> Any:
    """Return what a network gives for an example, which stays as it is.

    Raises
    ------
    InputError
        If the example is none, or the network fails on it, with its error inside the sentence.

    Examples
    --------
    >>> call_on(nn.Flatten(), torch.ones(1, 2, 1)).tolist()
    [[1.0, 1.0]]
    """
    args, kwargs = copied(example)
    with failing_on(network, example):
        return network(*args, **kwargs)


def copied(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an example, its tensors copied: a network may write into them.

    Raises
    ------
    InputError
        If it is neither a tensor nor a tuple or dict of arguments.
    """
    args, kwargs = arguments_of(example)
    memo = {id(tensor): tensor.detach().clone() for tensor in tensors_in((args, kwargs))}
    copies: tuple[tuple[Any, ...], dict[str, Any]] = copy.deepcopy((args, kwargs), memo)
    return copies


@contextmanager
def failing_on(network: nn.Module, example: Example) -> Iterator[None]:
    """Turn what a network raises on an example into a sentence.

    Raises
    ------
    InputError
        If the network fails, with its error inside the sentence.
    """
    try:
        yield
    except Exception as error:
        raise InputError(
            f"the network {type(network).__name__} fails on the example ({described(example)}; "
            f"{told(error)}): give an example that it takes"
        ) from error


def tensors_in(item: object) -> list[Tensor]:
    """Return the tensors among arguments or outputs."""
    return list(found_in(item, lambda part: isinstance(part, Tensor)))


def described(example: Example) -> str:
    """Return the types and shapes of an example's tensors.

    Examples
    --------
    >>> described({"x": torch.ones(2, 3), "mask": None})
    'float32 [2, 3]'
    """
    tensors = tensors_in(example)
    return ", ".join(f"{kind_of(t)} {list(t.shape)}" for t in tensors) or "without a tensor"


def kind_of(tensor: Tensor) -> str:
    """Return the type of a tensor's numbers, such as ``"float32"``."""
    return str(tensor.dtype).removeprefix(f"{torch.__name__}.")


def told(error: BaseException) -> str:
    r"""Return an error on one line, fit to stand inside a sentence.

    Examples
    --------
    >>> told(ValueError("no\n  such thing."))
    'ValueError: no such thing'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"

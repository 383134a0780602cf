"""The arguments of one call of a network: its tensors, and what they stand in."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gossamer.core.errors import InputError
from gossamer.graph.examples import Example, arguments_of, kind_of, tensors_in, told

ONLY = "input"
"""Name of the only input of a network that is given a tensor by itself."""


@dataclass(frozen=True, eq=False)
class Arguments:
    """Tensors in tuples, lists and dictionaries, beside what stays the same from call to call.

    It is used as a batch is: its length is the number of examples, a slice some of them.

    Attributes
    ----------
    tensors
        In the order in which a forward takes them.
    names
        Of each: its parameter, and the way to it inside of that, such as 'features_p3'.

    Examples
    --------
    >>> class Scaled(nn.Module):
    ...     def forward(self, x, *, by=None):
    ...         return x["a"] if by is None else x["a"] * by
    >>> example = {"x": {"a": torch.ones(3, 2)}, "by": torch.full((3, 1), 4.0)}
    >>> given = Arguments.of(Scaled(), example)
    >>> given.names, len(given), given[:1].call(Scaled()).tolist()
    (('x_a', 'by'), 3, [[4.0, 4.0]])
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    _leaves: tuple[Any, ...]
    """All that is no container, with None in the places of the tensors."""
    _places: tuple[int, ...]
    """Where the tensors stand among them."""
    _spec: pytree.TreeSpec
    """The containers; the outermost holds the parameters by name."""
    _signature: inspect.Signature

    @classmethod
    def of(cls, network: nn.Module, example: "Example | Arguments") -> "Arguments":
        """Return an example as the arguments of a network.

        Raises
        ------
        InputError
            If it is none, holds no tensor, or the forward takes no such arguments.
        """
        if isinstance(example, Arguments):
            return example
        signature = inspect.signature(network.forward)
        given = _bound(network, signature, example)
        paths, spec = pytree.tree_flatten_with_path(given)
        for path, leaf in paths:
            if not isinstance(leaf, Tensor) and tensors_in(leaf):
                raise InputError(
                    f"'example' holds a {type(leaf).__name__} with tensors as {_name(path)!r}, but "
                    "tensors were expected in tuples, lists and dictionaries only."
                )
        places = [place for place, (_, leaf) in enumerate(paths) if isinstance(leaf, Tensor)]
        if not places:
            raise InputError("'example' holds no tensor, but a batch of inputs was expected.")
        names = [_name(_shown(paths[place][0], signature)) for place in places]
        if isinstance(example, Tensor):
            names = [ONLY]
        leaves = tuple(None if isinstance(leaf, Tensor) else leaf for _, leaf in paths)
        tensors = tuple(paths[place][1] for place in places)
        return cls(tensors, tuple(_distinct(names)), leaves, tuple(places), spec, signature)

    def call(self, function: Callable[..., Any]) -> Any:
        """Return what a function gives for these arguments."""
        args, kwargs = self.positional_and_named
        return function(*args, **kwargs)

    @property
    def positional_and_named(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as Python passes them."""
        return self.arranged(self.tensors)

    def arranged(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments with other values in place of the tensors, in their order."""
        if self._one_each:  # as most networks: containers take longer than a small one runs
            return tuple(values), {}
        leaves = list(self._leaves)
        for place, value in zip(self._places, values, strict=True):
            leaves[place] = value
        given = pytree.tree_unflatten(leaves, self._spec)
        bound = inspect.BoundArguments(self._signature, given)
        return bound.args, bound.kwargs

    @cached_property
    def _one_each(self) -> bool:
        """Whether each tensor is a positional parameter by itself, and nothing else is given."""
        first = list(self._signature.parameters.values())[: len(self._leaves)]
        return (
            len(self._leaves) == len(self.tensors)
            and self._spec.context == [parameter.name for parameter in first]
            and all(part.is_leaf() for part in self._spec.children())
            and all(
                parameter.kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in first
            )
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names by which the forward itself calls the tensors, or what they stand in."""
        if self.names != (ONLY,):
            return self.names
        return (next(iter(self._signature.parameters)),)

    def dynamic_shapes(self, axes: Sequence[Mapping[int, Any]]) -> dict[str, Any]:
        """Return the axes of each tensor that may vary in the form of `torch.export`."""
        described: list[Any] = [None] * len(self._leaves)
        for place, varying in zip(self._places, axes, strict=True):
            described[place] = dict(varying)
        found: dict[str, Any] = pytree.tree_unflatten(described, self._spec)
        return found

    def values_in(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """Return what stands in other arguments in the places of the tensors.

        Raises
        ------
        InputError
            If they are not arranged as these are, or differ from these elsewhere.
        """
        if (
            not kwargs
            and len(args) == len(self.tensors)
            and self._one_each
            and all(isinstance(value, Tensor | np.ndarray) for value in args)
        ):
            return list(args)
        try:
            given = _trimmed(self._signature, self._signature.bind(*args, **kwargs))
            leaves = self._spec.flatten_up_to(given)
        except (TypeError, ValueError, KeyError) as error:
            raise InputError(
                f"inputs: are not arranged as the example was ({told(error)}), expected "
                f"{', '.join(self.names)}."
            ) from error
        for place, leaf in enumerate(leaves):
            if place not in self._places and not _equal(leaf, self._leaves[place]):
                raise InputError(
                    f"inputs: {leaf!r:.80} stands where the example had "
                    f"{self._leaves[place]!r:.80}, which is not an input; compress with an example "
                    "of the other."
                )
        return [leaves[place] for place in self._places]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same with every tensor changed."""
        return self.with_tensors([change(tensor) for tensor in self.tensors])

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """Return the same with other tensors."""
        return replace(self, tensors=tuple(tensors))

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.tensors[0])

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the tensors."""
        return iter(self.tensors)

    def __getitem__(self, some: slice) -> Self:
        """Return some of the examples."""
        return self.mapped(lambda tensor: tensor[some])

    def clone(self) -> Self:
        """Return a copy that a forward may write into."""
        return self.mapped(lambda tensor: tensor.detach().clone())

    def to(self, dtype: torch.dtype) -> Self:
        """Return real numbers in another precision; whole ones stay."""
        return self.mapped(lambda t: t.to(dtype) if t.is_floating_point() else t.clone())

    def double(self) -> Self:
        """Return real numbers in float64."""
        return self.to(torch.float64)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.tensors[0].device

    @property
    def real(self) -> bool:
        """Whether there are finite real numbers among the inputs, and none that is not finite."""
        floats = [tensor for tensor in self.tensors if tensor.is_floating_point()]
        finite = all(tensor.numel() and bool(tensor.isfinite().all()) for tensor in floats)
        return bool(floats) and finite

    def __str__(self) -> str:
        """Return the types and shapes, as a sentence tells them."""
        kinds = [f"{kind_of(tensor)} {list(tensor.shape)}" for tensor in self.tensors]
        return ", ".join(
            kind if name == ONLY else f"{name} {kind}"
            for name, kind in zip(self.names, kinds, strict=True)
        )


def joined(several: Sequence[Arguments]) -> Arguments:
    """Return the examples of several calls one after the other."""
    first = several[0]
    columns = zip(*(one.tensors for one in several), strict=True)
    return first.with_tensors([torch.cat(column) for column in columns])


def _bound(network: nn.Module, signature: inspect.Signature, example: Example) -> dict[str, Any]:
    """Return the arguments by parameter; a dict is the only one where it names no parameters."""
    args, kwargs = arguments_of(example)
    try:
        return _trimmed(signature, signature.bind(*args, **kwargs))
    except TypeError as error:
        if kwargs and not kwargs.keys() & signature.parameters.keys():
            with contextlib.suppress(TypeError):
                return _trimmed(signature, signature.bind(example))
        raise InputError(
            f"the forward of {type(network).__name__} does not take the arguments of the example "
            f"({told(error)}): give a tensor, a tuple of positional arguments (a single dict is "
            "({...},)) or a dict of keyword arguments."
        ) from error


def _trimmed(signature: inspect.Signature, bound: inspect.BoundArguments) -> dict[str, Any]:
    """Return arguments by their parameters, without those that have their default."""
    return {
        name: value
        for name, value in bound.arguments.items()
        if value is not signature.parameters[name].default
    }


def _name(path: Sequence[Any]) -> str:
    steps = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", ""))) for key in path)
    return "_".join(map(str, steps))


def _shown(path: Sequence[Any], signature: inspect.Signature) -> Sequence[Any]:
    """Return a path without the name of a parameter that takes any names."""
    first = signature.parameters[path[0].key]
    return path[1:] if first.kind is inspect.Parameter.VAR_KEYWORD else path


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for given in names:
        name = given
        while name in found:
            name += "_again"
        found.append(name)
    return found


def _equal(first: Any, second: Any) -> bool:
    try:
        return first is second or bool(first == second)
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return False

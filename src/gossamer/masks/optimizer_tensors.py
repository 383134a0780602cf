"""What an optimizer holds beside the weights: other optimizers, and tensors of a weight's shape.

Slow weights of Lookahead, the iterate ``z`` of schedule-free training, the weights that SAM comes
back to, averages, momentum: where they are not zero at a pruned position, they may carry a weight
back there. They are found by the parameter that they are kept under, by its name, or by their place
in a list in the order of the optimizer's parameters.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import sqrt
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.masks.names import bare_name
from gossamer.masks.storages import overlaps_itself


def optimizers_within(optimizer: object) -> list[object]:
    """Return an optimizer or a wrapper of one, and all optimizers that it holds, itself first.

    Looked into are attributes, and lists and mappings in them, of the wrapper and of what it holds
    that can `step`.

    Examples
    --------
    >>> class Wrapper:
    ...     def __init__(self, optimizer):
    ...         self.optimizer = optimizer
    >>> inner = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    >>> optimizers_within(Wrapper(inner))[1] is inner
    True
    """
    found, waiting = {id(optimizer): optimizer}, [optimizer]
    while waiting:
        for value in _contents(_attributes(waiting.pop())):
            if id(value) not in found and _can_step(value):
                found[id(value)] = value
                waiting.append(value)
    return list(found.values())


def _attributes(value: object) -> dict[str, Any]:
    return getattr(value, "__dict__", {})


def _can_step(value: object) -> bool:
    plain = not isinstance(value, type | ModuleType | nn.Module | Tensor)
    return plain and hasattr(value, "__dict__") and callable(getattr(type(value), "step", None))


def _contents(value: object) -> Iterator[object]:
    """Yield what lists and mappings hold, however deep; for anything else, itself."""
    if isinstance(value, Mapping):
        for inside in list(value.values()):
            yield from _contents(inside)
    elif isinstance(value, list | tuple | deque | set | frozenset):
        for inside in value:
            yield from _contents(inside)
    else:
        yield value


def parameters_of(optimizer: object) -> list[nn.Parameter]:
    """Return the parameters that an optimizer trains, in order."""
    groups = getattr(optimizer, "param_groups", None) or []
    return [parameter for group in groups for parameter in group["params"]]


def held_tensors(
    optimizer: object, names: Mapping[str, nn.Parameter]
) -> dict[nn.Parameter, list[Tensor]]:
    """Return the tensors that an optimizer keeps for each parameter, element by element.

    Parameters
    ----------
    optimizer
        The optimizer or wrapper itself; not what it holds that can step.
    names
        The parameters by names under which an optimizer may keep something.

    Returns
    -------
    dict
        By parameter, floating-point tensors of its shape, those of the state and of all attributes.
        What is kept under the same key for several parameters is left out if it has not the shape
        of each (the preconditioners of Shampoo are square, as some weights are), or if all weights
        are square and it looks like factors of them rather than copies.
    """
    search = _Search.of(optimizer, names)
    for name, value in _attributes(optimizer).items():
        search.look(value, (name,), search.orders, objects=True)
    return search.element_wise()


@dataclass(eq=False)
class _Search:
    """One walk through what an optimizer holds."""

    keys: Mapping[Any, nn.Parameter]
    """Parameters by identity and by name."""
    groups: Sequence[Sequence[nn.Parameter]]
    """All parameters, by group."""
    found: dict[tuple[object, ...], list[tuple[nn.Parameter, Tensor]]] = field(default_factory=dict)
    """By where something lies, up to the parameter it is for."""
    seen: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, optimizer: object, names: Mapping[str, nn.Parameter]) -> "_Search":
        kept = (getattr(inside, "param_groups", None) for inside in optimizers_within(optimizer))
        groups = [list(group["params"]) for group in next(filter(None, kept), [])]
        every = list(chain(*groups))
        keys: dict[Any, nn.Parameter] = {id(p): p for p in every}
        if keys.keys() <= {id(parameter) for parameter in names.values()}:
            keys |= names
        return cls(keys, groups)

    @property
    def orders(self) -> "_Orders":
        """All orders of parameters that a list may follow."""
        return _orders(list(chain(*self.groups)), *self.groups)

    def look(
        self, value: object, path: tuple[object, ...], orders: "_Orders", *, objects: bool
    ) -> None:
        """Look for what is kept under parameters, in mappings, lists and, once, plain objects."""
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        if isinstance(value, nn.Module):
            value = {bare_name(name): tensor for name, tensor in value.named_parameters()}
        if isinstance(value, Mapping) and _is_numbered(value):
            value = list(value.values())
        if isinstance(value, Mapping):
            for key, inside in list(value.items()):
                parameter = self._named(key)
                if parameter is None:
                    self.look(inside, (*path, str(key)), orders, objects=objects)
                else:
                    self._take(parameter, inside, path)
        elif isinstance(value, Tensor):
            self._take_in_order([value], path, orders)
        elif isinstance(value, list | tuple | deque):
            if not self._take_in_order(value, path, orders):
                for inside, own in zip(value, self._orders_of_items(value, orders), strict=True):
                    self.look(inside, path, own, objects=objects)
        elif objects and _is_plain(value):
            for name, inside in vars(value).items():
                self.look(inside, (*path, name), orders, objects=False)

    def _orders_of_items(self, value: Sequence[Any], orders: "_Orders") -> list["_Orders"]:
        """Return the orders for each item of a list, which may have one for each group."""
        containers = all(isinstance(item, Mapping | list | tuple | deque) for item in value)
        if containers and len(value) == len(self.groups):
            return [_orders(group) for group in self.groups]
        return [orders] * len(value)

    def _named(self, key: object) -> nn.Parameter | None:
        if isinstance(key, Tensor):
            return self.keys.get(id(key))
        return self.keys.get(key) if isinstance(key, str | int) else None

    def _take_in_order(
        self, values: Sequence[Any], path: tuple[object, ...], orders: "_Orders"
    ) -> bool:
        """Take a list for one tensor of each parameter, if it fits one order of them alone."""
        fitting = [order for order in orders if _fits(values, order)]
        if len(fitting) != 1:
            return False
        for parameter, value in zip(fitting[0], values, strict=True):
            self._take(parameter, value, path)
        return True

    def _take(self, parameter: nn.Parameter, value: object, path: tuple[object, ...]) -> None:
        """Take all tensors in what is kept for a parameter."""
        if isinstance(value, Tensor):
            if value is not parameter and value.is_floating_point() | value.is_complex():
                self.found.setdefault(path, []).append((parameter, value))
        elif isinstance(value, Mapping):
            for key, inside in list(value.items()):
                self._take(parameter, inside, (*path, str(key)))
        elif isinstance(value, list | tuple | deque):
            for number, inside in enumerate(value):
                self._take(parameter, inside, (*path, number))
        elif _is_plain(value):
            for name, inside in vars(value).items():
                self._take(parameter, inside, (*path, name))

    def element_wise(self) -> dict[nn.Parameter, list[Tensor]]:
        """Return what has the shape of its parameter wherever something is kept under its key."""
        tensors: dict[nn.Parameter, list[Tensor]] = {}
        places = [
            kept
            for kept in self.found.values()
            if all(_has_an_entry_for_each(t, p) for p, t in kept)
        ]
        for kept, factors in zip(places, _factors(places), strict=True):
            for parameter, tensor in () if factors else kept:
                tensors.setdefault(parameter, []).append(tensor)
        return tensors


_Orders: TypeAlias = Sequence[Sequence[nn.Parameter]]


def _orders(*lists: Sequence[nn.Parameter]) -> _Orders:
    """Return lists of parameters, and of those among them that are trained, each once."""
    every = [*lists, *([p for p in parameters if p.requires_grad] for parameters in lists)]
    return list({tuple(map(id, order)): order for order in every if order}.values())


def _is_plain(value: object) -> bool:
    """Tell whether something is an object of a class that may keep tensors of a parameter."""
    kinds = (type, ModuleType, FunctionType, MethodType, Tensor, nn.Module, Optimizer)
    return hasattr(value, "__dict__") and not isinstance(value, kinds) and not _can_step(value)


def _is_numbered(value: Mapping[Any, Any]) -> bool:
    """Tell whether a mapping is a list by another name: its keys count from 0."""
    return bool(value) and all(
        type(key) is int and key == number for number, key in enumerate(value)
    )


def _fits(values: Sequence[Any], order: Sequence[nn.Parameter]) -> bool:
    """Tell whether values are a tensor of the shape of each parameter, and not all of them it."""
    if len(values) != len(order) or not any(isinstance(value, Tensor) for value in values):
        return False
    return all(
        value is None or (isinstance(value, Tensor) and value.shape == parameter.shape)
        for value, parameter in zip(values, order, strict=True)
    )


def _has_an_entry_for_each(tensor: Tensor, parameter: nn.Parameter) -> bool:
    dense = tensor.layout == torch.strided and not overlaps_itself(tensor)
    return dense and tensor.shape == parameter.shape


def _all_square(kept: Sequence[tuple[nn.Parameter, Tensor]]) -> bool:
    return all(p.dim() == 2 and p.shape[0] == p.shape[1] > 1 for p, _ in kept)


def _factors(places: Sequence[Sequence[tuple[nn.Parameter, Tensor]]]) -> list[bool]:
    """Tell where what is kept for square weights are factors of them rather than entries.

    The shape tells nothing then, but covariances are symmetric, bases orthonormal and Kronecker
    factors triangular, and all are strangers to the weights, as no copy of them is. A basis comes
    with one for the other side, or with its covariance; alone, it is a copy of weights that are
    orthonormal themselves and were replaced since.
    """
    covariances = [_are_all(_is_covariance, kept) and not _are_related(kept) for kept in places]
    bases = [_are_all(_is_basis, kept) and not _are_related(kept) for kept in places]
    owners = [{id(p) for p, _ in kept} for kept in places]
    likely = [number for number, one in enumerate(zip(covariances, bases, strict=True)) if any(one)]
    return [
        covariances[number]
        or (basis and any(own & owners[other] for other in likely if other != number))
        for number, (basis, own) in enumerate(zip(bases, owners, strict=True))
    ]


def _are_all(
    kind: Callable[[Tensor, Tensor], bool], kept: Sequence[tuple[nn.Parameter, Tensor]]
) -> bool:
    return _all_square(kept) and all(kind(t.detach(), p.detach()) for p, t in kept)


def _is_covariance(square: Tensor, _: Tensor) -> bool:
    """Tell whether a matrix is symmetric, and not zero."""
    values = _exact(square)
    if not values.any():
        return False
    return torch.allclose(values, values.mT, rtol=0, atol=1e-4 * float(values.abs().max()))


def _is_basis(square: Tensor, weight: Tensor) -> bool:
    """Tell whether a matrix is orthonormal, or triangular where its weight is not.

    Orthonormality is tried on one vector, which tells almost surely and needs no matrix product.
    """
    values, entries = _exact(square), weight.bool()
    if values.diagonal().all():
        for beside, of_weight in (
            (values.tril(-1), entries.tril(-1)),
            (values.triu(1), entries.triu(1)),
        ):
            if of_weight.any() and not beside.any():
                return True
    probe = torch.arange(1, len(values) + 1, dtype=torch.float64).sin().to(values)
    again: Tensor = values.mH @ (values @ probe)
    return torch.allclose(again, probe, rtol=0, atol=1e-3)


def _are_related(kept: Sequence[tuple[nn.Parameter, Tensor]]) -> bool:
    """Tell whether tensors are alike their parameters, more than strangers are by chance.

    Compared are the entries beside the diagonal, on which all covariances are alike, unless there
    is nothing else, and where the parameter is not zero, as it may be pruned already.
    """
    cosines, count = [], 0
    for parameter, tensor in kept:
        weight, values = _exact(parameter.detach()), _exact(tensor.detach())
        beside = ~torch.eye(len(values), dtype=torch.bool, device=values.device)
        compared = weight != 0
        if (values * beside).norm() > 1e-3 * values.norm():
            compared &= beside
        ours, theirs = weight[compared], values.to(weight.device)[compared]
        size = float(ours.norm() * theirs.norm())
        cosines.append(float((ours * theirs.conj()).sum().abs()) / size if size else 0.0)
        count += ours.numel()
    likeness = sum(cosines) / len(cosines)
    return likeness >= max(0.5, min(0.99, 4 / sqrt(max(count, 1))))


def _exact(values: Tensor) -> Tensor:
    return values.to(torch.complex128 if values.is_complex() else torch.float64)

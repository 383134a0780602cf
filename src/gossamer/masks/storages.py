"""Which parameters are one weight, because they cover the same elements of memory.

Two parameters may be views of one storage without being the same object: tied by ``.data``, or a
decoder that holds the transpose of its encoder. What is written to one is there in the other, so
they are pruned, counted and enforced once, under the first of their names.
"""

import copy
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from gossamer.core.errors import InputError

Weight = TypeVar("Weight", bound=Tensor)


def first_names(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Return for each name the first name of those parameters that cover the same elements.

    Examples
    --------
    >>> weight = torch.rand(2, 3)
    >>> first_names({"encoder": weight, "decoder": weight.t(), "other": torch.rand(2, 3)})
    {'encoder': 'encoder', 'decoder': 'encoder', 'other': 'other'}
    """
    firsts: dict[Any, str] = {}
    return {name: firsts.setdefault(_identity(p), name) for name, p in parameters.items()}


def distinct(parameters: Mapping[str, Weight]) -> dict[str, Weight]:
    """Return each weight once, under the first of its names.

    Examples
    --------
    >>> weight = torch.rand(2, 3)
    >>> list(distinct({"encoder": weight, "decoder": weight.t()}))
    ['encoder']
    """
    firsts = first_names(parameters)
    return {name: p for name, p in parameters.items() if firsts[name] == name}


def parameter_count(module: nn.Module) -> int:
    """Return how many parameters a module has, each shared one counted once."""
    return sum(p.numel() for p in distinct(dict(module.named_parameters())).values())


def in_order_of(values: Tensor, owner: Tensor, other: Tensor) -> Tensor:
    """Reorder one value for each element of a tensor for another one over the same elements.

    Parameters
    ----------
    values
        Of the shape of `owner`.
    owner, other
        Tensors that cover the same elements, as `first_names` tells.

    Returns
    -------
    Tensor
        Of the shape of `other`: the value of each of its elements.

    Examples
    --------
    >>> weight = torch.rand(1, 3)
    >>> in_order_of(torch.tensor([[1, 2, 3]]), weight, weight.t()).tolist()
    [[1], [2], [3]]
    """
    if owner.shape == other.shape and owner.stride() == other.stride():
        return values
    memory = values.new_zeros(1 + reach(owner))
    memory.as_strided(owner.shape, owner.stride()).copy_(values)
    return memory.as_strided(other.shape, other.stride()).clone()


def added_up(
    gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return gradients by weight: those of parameters over the same elements of memory add up.

    Parameters
    ----------
    gradients
        By name, each of its parameter's shape; of some parameters at least.
    parameters
        By name, in the order that says which of several is first.

    Examples
    --------
    >>> weight = torch.rand(1, 2)
    >>> tied = {"encoder": weight, "decoder": weight.t()}
    >>> found = {"encoder": torch.tensor([[1, 2]]), "decoder": torch.tensor([[10], [20]])}
    >>> added_up(found, tied)
    {'encoder': tensor([[11, 22]])}
    """
    firsts, sums = first_names(parameters), dict[str, Tensor]()
    for name, gradient in gradients.items():
        first = firsts[name]
        ordered = in_order_of(gradient, parameters[name], parameters[first])
        sums[first] = sums[first] + ordered if first in sums else ordered
    return sums


def tied_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy in which the same parameters lie in the same memory.

    `copy.deepcopy` gives each parameter memory of its own.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    >>> model[1].weight = nn.Parameter(model[0].weight.detach().t())
    >>> twin = tied_copy(model)
    >>> bool((twin[1].weight.data_ptr() == twin[0].weight.data_ptr()))
    True
    """
    parameters = dict(module.named_parameters())
    memory: dict[str, Tensor] = {}
    memo: dict[int, Any] = {}
    for name, first in first_names(parameters).items():
        if name == first:
            continue
        owner, other = parameters[first], parameters[name]
        if first not in memory:
            memory[first] = owner.detach().new_zeros(1 + reach(owner))
            view = memory[first].as_strided(owner.shape, owner.stride()).copy_(owner.detach())
            memo[id(owner)] = nn.Parameter(view, owner.requires_grad)
        view = memory[first].as_strided(other.shape, other.stride())
        memo[id(other)] = nn.Parameter(view, other.requires_grad)
    return copy.deepcopy(module, memo)


def described_ties(parameters: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Any]:
    """Describe, as JSON values, which parameters follow the entries of others, and how.

    Parameters
    ----------
    parameters
        Those of a network, by name.
    names
        The first names of the weights that are asked about.

    Returns
    -------
    dict
        For each further name the first one, its shape, and its strides over the elements of the
        first in row-major order; None where they do not lie at regular strides there.
    """
    described = {}
    for name, first in first_names(parameters).items():
        if name == first or first not in names:
            continue
        owner, other = parameters[first], parameters[name]
        numbers = torch.arange(owner.numel()).view(owner.shape)
        seen = in_order_of(numbers, owner, other)
        steps = [int(seen.select(d, -1).min()) if n > 1 else 0 for d, n in enumerate(seen.shape)]
        strides = [step // max(n - 1, 1) for step, n in zip(steps, seen.shape, strict=True)]
        regular = torch.equal(numbers.as_strided(seen.shape, strides), seen)
        described[name] = {
            "first": first,
            "shape": list(seen.shape),
            "strides": strides if regular else None,
        }
    return described


def follow(kept: Tensor, tie: Mapping[str, Any]) -> Tensor:
    """Return the entries of a parameter from those of the first, as `described_ties` told.

    Raises
    ------
    TypeError, ValueError, KeyError, RuntimeError
        If the description is not one.
    """
    return kept.contiguous().as_strided(tuple(tie["shape"]), tuple(tie["strides"])).clone()


def refuse_tangled(parameters: Mapping[str, Tensor], names: Collection[str]) -> None:
    """Refuse weights whose elements lie on each other, or in part on those of other parameters.

    Parameters
    ----------
    parameters
        All parameters of a network, by name.
    names
        The weights that are asked about.

    Raises
    ------
    InputError
        If one of them is such a weight.
    """
    for name in names:
        if overlaps_itself(parameters[name]):
            raise InputError(
                f"several entries of {name} are one place in memory (an expanded tensor), so they "
                "cannot be pruned one by one: give the parameter memory of its own first, by "
                "parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)"
            )
    order = {name: number for number, name in enumerate(parameters)}
    for pair in _touching(parameters):
        one, other = sorted(pair, key=order.__getitem__)
        asked = one in names or other in names
        if asked and _overlap_in_part(parameters[one], parameters[other]):
            raise InputError(
                f"{one} and {other} share some of their memory but not all of it, so that pruning "
                "one would prune parts of the other: give one of them memory of its own first, by "
                "parameter.data = parameter.data.clone()"
            )


def overlaps_itself(tensor: Tensor) -> bool:
    """Tell whether several entries of a tensor are one place in memory.

    Examples
    --------
    >>> overlaps_itself(torch.rand(1, 3).expand(2, 3)), overlaps_itself(torch.rand(3, 2).t())
    (True, False)
    """
    if not _lies_in_memory(tensor):
        return False
    span, nested = 0, True
    for stride, size in _dimensions(tensor):
        if stride == 0:
            return True
        nested = nested and stride > span
        span += stride * (size - 1)
    return not nested and len(torch.unique(_offsets(tensor))) < tensor.numel()


def _identity(parameter: Tensor) -> Any:
    """Return what two parameters have in common only if they cover the same elements."""
    if not _lies_in_memory(parameter):
        return id(parameter)
    merged: list[tuple[int, int]] = []
    for stride, size in _dimensions(parameter):
        if merged and stride == merged[-1][0] * merged[-1][1]:
            merged[-1] = (merged[-1][0], merged[-1][1] * size)
        else:
            merged.append((stride, size))
    return parameter.device, parameter.dtype, parameter.data_ptr(), tuple(merged)


def _lies_in_memory(tensor: Tensor) -> bool:
    return (
        not isinstance(tensor, UninitializedParameter)
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and not tensor.is_nested
        and not is_traceable_wrapper_subclass(tensor)
        and tensor.numel() > 0
    )


def _dimensions(tensor: Tensor) -> list[tuple[int, int]]:
    """Return (stride, size) of the dimensions that have several entries, by stride."""
    return sorted(
        (stride, size)
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
        if size > 1
    )


def reach(tensor: Tensor) -> int:
    """Return how many elements behind the first the last one lies."""
    return sum(stride * (size - 1) for stride, size in _dimensions(tensor))


def _touching(parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names whose memory, from the first byte to the last, overlaps."""
    spans = sorted(
        (str(p.device), p.data_ptr(), p.data_ptr() + (reach(p) + 1) * p.element_size(), name)
        for name, p in parameters.items()
        if _lies_in_memory(p)
    )
    for number, (device, _, end, name) in enumerate(spans):
        for other_device, start, _, other in itertools.islice(spans, number + 1, None):
            if other_device != device or start >= end:
                break
            yield name, other


def _overlap_in_part(one: Tensor, other: Tensor) -> bool:
    if _identity(one) == _identity(other):
        return False
    start = min(one.data_ptr(), other.data_ptr())
    found = [_bytes(tensor) + (tensor.data_ptr() - start) for tensor in (one, other)]
    return bool(torch.isin(*found).any())


def _bytes(tensor: Tensor) -> Tensor:
    """Return the places of all bytes of a tensor, counted from its first."""
    size = tensor.element_size()
    return (_offsets(tensor)[:, None] * size + torch.arange(size)).flatten()


def _offsets(tensor: Tensor) -> Tensor:
    """Return how many elements behind the first each element of a tensor lies."""
    offsets = torch.zeros(1, dtype=torch.int64)
    for stride, size in _dimensions(tensor):
        offsets = (offsets[:, None] + stride * torch.arange(size)).flatten()
    return offsets

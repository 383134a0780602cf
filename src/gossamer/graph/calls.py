"""A network as the calls that it makes: values, and the layer or function that computed each."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor, nn

Shape = tuple[int | None, ...]
"""Lengths of the dimensions; None for one that is not known."""

UNSEEN = "unseen"
"""Name of the call that made a tensor outside of PyTorch, from values that are not known."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer that is kept whole, or of a function of PyTorch.

    Parameters
    ----------
    name
        Name of the function, as `operations.plain_name` has it; empty for a layer.
    module
        The layer, or None for a function.
    args, kwargs
        What it was given, a `Value` in place of each tensor.
    inputs
        The values that its result depends on.
    within
        The layer that is kept whole within which it was made, the outermost; None outside of any.
    run
        What is called.
    """

    name: str
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple["Value", ...]
    within: nn.Module | None = None
    run: Callable[..., Any] | None = None

    @property
    def nested(self) -> bool:
        """Whether it was made within a layer that is kept whole."""
        return self.within is not None

    def argument(self, position: int, name: str) -> Any:
        """Return an argument by its position or its name; None where it was left out."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor at one moment: an input, a parameter, a constant, or the result of a call.

    Parameters
    ----------
    order
        Values are numbered in the order in which they came to be.
    shape
        None where it is not known.
    call
        What computed it.
    parameter
        The parameter that it is.
    computed
        Whether it depends on the network's input.
    constant
        The tensor that it is, where that was there before and is no parameter, such as a buffer.
    """

    order: int
    shape: Shape | None = None
    call: Call | None = None
    parameter: nn.Parameter | None = None
    computed: bool = False
    constant: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """Every value of a network in the order of computation, and those that it returns.

    `shaped` says that the shapes of all tensors are known: what has none is no tensor. `decided`
    are the `numbers.Number` by which the forward chose its way or that it made other than whole
    numbers of, and `by_data` names what it did with numbers that depend on its input's; `by_whole`
    with those that depend on whole numbers and truth values alone that it was given, as masks are.
    """

    values: tuple[Value, ...]
    outputs: tuple[Value, ...]
    shaped: bool = True
    decided: tuple[int, ...] = ()
    by_data: str = ""
    by_whole: str = ""

    @cached_property
    def results(self) -> Mapping[Call, list[Value]]:
        """What each call gave, in its order."""
        results: defaultdict[Call, list[Value]] = defaultdict(list)
        for value in self.values:
            if value.call is not None:
                results[value.call].append(value)
        return results

    @cached_property
    def users(self) -> Mapping[Value, list[Value]]:
        """The values computed from each, outside of layers that are kept whole."""
        users: defaultdict[Value, list[Value]] = defaultdict(list)
        for value in self.values:
            if value.call is not None and not value.call.nested:
                for given in dict.fromkeys(value.call.inputs):
                    users[given].append(value)
        return users


class _Wanted(Protocol):
    def __call__(self, item: object, /) -> bool: ...


def found_in(item: object, wanted: _Wanted, _within: tuple[int, ...] = ()) -> Iterator[Any]:
    """Yield what is wanted among arguments or outputs: in mappings, sequences, plain objects.

    Examples
    --------
    >>> list(found_in({"a": [1, (2, "b")], "c": 3.0}, lambda item: isinstance(item, int)))
    [1, 2]
    """
    if wanted(item):
        yield item
    elif id(item) not in _within:  # an object that holds itself is looked into once
        for part in _parts(item):
            yield from found_in(part, wanted, (*_within, id(item)))


def _parts(item: object) -> list[object]:
    if isinstance(item, Mapping):
        return list(item.values())
    if isinstance(item, list | tuple | set | frozenset):
        return list(item)
    if isinstance(item, slice):
        return [item.start, item.stop, item.step]
    if isinstance(item, type | nn.Module | int) or callable(item):
        return []
    if is_dataclass(item):
        return [getattr(item, field.name, None) for field in fields(item)]
    return list(getattr(item, "__dict__", {}).values())

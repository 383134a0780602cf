"""Whole numbers with which a forward makes shapes, and what it made them of.

While a network is recorded, sizes of tensors and whole numbers among the attributes of modules are
given to it as `Number`. Arithmetic with them gives others, and each that ends up among the
arguments of a call says what it would be if widths or attributes were different.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from gossamer.graph.calls import Value


@dataclass(frozen=True, eq=False)
class SizeOf:
    """The size of a dimension of a value, counted from the back."""

    value: Value
    axis: int


@dataclass(frozen=True, eq=False)
class AttributeOf:
    """An attribute of a module."""

    module: nn.Module
    name: str


@dataclass(frozen=True, eq=False)
class Computed:
    """What an operator gives for several numbers."""

    operator: Callable[..., int]
    parts: tuple[int, ...]


Origin = SizeOf | AttributeOf | Computed


class Number(int):
    """A whole number that remembers what it was made of.

    Whatever leaves whole numbers, such as a comparison or a root, is noted in the list that all
    numbers of a recording share: what follows from it is not known.
    """

    origin: Origin
    decided: "list[Number]"

    def __new__(cls, value: int, origin: Origin, decided: "list[Number]") -> Self:
        """Make a number that shares `decided` with all others of a recording."""
        made = super().__new__(cls, value)
        made.origin, made.decided = origin, decided
        return made

    __hash__ = int.__hash__


def _arithmetic(name: str) -> Callable[..., Any]:
    plain, act = getattr(int, f"__{name}__"), getattr(operator, name.removeprefix("r"))
    turned = name != act.__name__

    def compute(self: Number, other: object) -> Any:
        result = plain(self, other)
        if result is NotImplemented or not isinstance(other, int):
            return result
        parts = (other, self) if turned else (self, other)
        return Number(result, Computed(act, parts), self.decided)

    return compute


def _deciding(name: str) -> Callable[..., Any]:
    plain = getattr(int, name)

    def decide(self: Number, *others: Any) -> Any:
        self.decided.append(self)
        for other in others:
            if isinstance(other, Number):
                self.decided.append(other)
        return plain(self, *others)

    return decide


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "mod", "rmod"):
    setattr(Number, f"__{_name}__", _arithmetic(_name))
for _name in (
    "eq", "ne", "lt", "le", "gt", "ge", "bool", "float", "truediv", "rtruediv", "pow", "rpow",
):  # fmt: skip
    setattr(Number, f"__{_name}__", _deciding(f"__{_name}__"))


def leaves(number: int) -> list[SizeOf | AttributeOf]:
    """Return the sizes and attributes that a number was computed from."""
    if not isinstance(number, Number):
        return []
    if isinstance(number.origin, Computed):
        return [leaf for part in number.origin.parts for leaf in leaves(part)]
    return [number.origin]


def value_with(number: int, of: Callable[[SizeOf | AttributeOf], int]) -> int:
    """Return what a number would be with other sizes and attributes.

    Examples
    --------
    >>> module = nn.Linear(2, 3)
    >>> three = Number(3, AttributeOf(module, "out_features"), [])
    >>> value_with((2 * three + 1) // 2, lambda origin: 8)
    8
    """
    if not isinstance(number, Number):
        return number
    if isinstance(number.origin, Computed):
        parts = [value_with(part, of) for part in number.origin.parts]
        return number.origin.operator(*parts)
    return of(number.origin)

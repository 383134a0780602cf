"""Types of the fields of operators, and what follows from them without knowing the operator.

An operator, or a part of one such as an epilogue, is a frozen dataclass whose fields have these
types: `Value` (or a tuple of them, or none), `Sizes`, `Margins`, `Count`, `Axis`, `Indices`,
`Shape`, `bool`, `float`, `Literal`, `Array` (or none), `Weights`, and another such dataclass (or
none).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
"""float64 in a program that is being lowered, float32 in a finished network."""
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Shape = tuple[int, ...]
"""Lengths of a value of one example, without the batch."""
Pair = tuple[int, int]
"""Along the height, along the width."""


@dataclass(frozen=True)
class Least:
    """The smallest whole number that a field may hold."""

    number: int


Value = Annotated[int | str, "value"]
"""Names a value that is read: by its number in a network, by any text in a program."""
Sizes = Annotated[Pair, Least(1)]
Margins = Annotated[Pair, Least(0)]
Count = Annotated[int, Least(1)]
Axis = Annotated[int, Least(0)]
Indices = Annotated[tuple[int, ...], Least(0)]
"""Places along an axis, or axes; 65,536 at most."""

MOST_NUMBERS = 2**28
"""The most numbers a value may hold, padding included, for one example: 1 GiB."""
MOST_WEIGHTS = 2**31 - 1
"""The most weights an operator may have, zeros included."""
MOST_LAYERS = 2**16
"""The most operators, and the most values that one of them may join."""
LONGEST = 2**16
"""The largest kernel, stride, padding or dilation."""
MOST_ENDS = 2**10
"""The most inputs of a network, and the most outputs."""
MOST_AXES = 5
"""The most lengths of a value."""

_Part = TypeVar("_Part")


class Typed(NamedTuple):
    """The type of a field; whether it may be none instead; whether it names values."""

    hint: Any
    optional: bool
    reads: bool


def typed_fields(of: type) -> Mapping[str, Typed]:
    """Return the types of the fields of a dataclass, in their order."""
    return _typed(of)


@cache
def _typed(of: type) -> Mapping[str, Typed]:
    hints = get_type_hints(of, include_extras=True)
    return {field.name: _field(hints[field.name]) for field in fields(of)}


def _field(hint: Any) -> Typed:
    given = [one for one in get_args(hint) if one is not type(None)]
    optional = type(None) in get_args(hint)
    hint = given[0] if optional and len(given) == 1 else hint
    part = isinstance(hint, type) and is_dataclass(hint)
    reads = hint == Value or is_values(hint)
    return Typed(hint, optional, reads or (part and any(f.reads for f in _typed(hint).values())))


def is_values(hint: Any) -> bool:
    """Tell whether a field names several values."""
    return get_origin(hint) is tuple and get_args(hint)[0] == Value


def is_array(hint: Any) -> bool:
    """Tell whether a field holds an array."""
    return get_origin(hint) is np.ndarray


def least(hint: Any) -> int | None:
    """Return the smallest whole number that a field may hold; None where it holds no such."""
    found = getattr(hint, "__metadata__", ())
    return found[0].number if found and isinstance(found[0], Least) else None


def _reading(part: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in those fields of an operator, or of a part of one, that name values."""
    for name, field in typed_fields(type(part)).items():
        if field.reads and (content := getattr(part, name)) is not None:
            yield name, content


def read_by(part: Any) -> tuple[Value, ...]:
    """Return the values that an operator reads.

    Examples
    --------
    >>> from gossamer.engine import Concatenate
    >>> read_by(Concatenate((0, 2)))
    (0, 2)
    """
    found: list[Value] = []
    for _, content in _reading(part):
        if isinstance(content, tuple):
            found += content
        else:
            found += read_by(content) if is_dataclass(content) else (content,)
    return tuple(found)


def renamed(part: _Part, names: Mapping[Value, Value]) -> _Part:
    """Return an operator that reads other values instead.

    Examples
    --------
    >>> from gossamer.engine import Concatenate
    >>> renamed(Concatenate(("left", "right")), {"left": 0, "right": 1})
    Concatenate(inputs=(0, 1), axis=0)
    """
    changes: dict[str, Any] = {}
    for name, content in _reading(part):
        if isinstance(content, tuple):
            changes[name] = tuple(names.get(one, one) for one in content)
        elif is_dataclass(content):
            changes[name] = renamed(content, names)
        else:
            changes[name] = names.get(content, content)
    return replace(part, **changes)  # type: ignore[type-var]

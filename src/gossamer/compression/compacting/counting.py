"""Which channels have to stay in equal numbers, as the forward parts or counts them.

A forward may compute a size of channels of one kind from how many there are of another, as an
attention does whose heads together are as wide as what it reads: `y.reshape(batch, tokens, width)`.
As many of both have to stay then, and where fewer of one are needed, idle ones fill its places.
"""

import operator
from collections.abc import Mapping, Sequence

from torch import Tensor

from gossamer.graph.channels import Findings, Width
from gossamer.graph.numbers import AttributeOf, Computed, Number, SizeOf

Attribute = tuple[str, str]


def alike(found: Findings) -> list[tuple[Tensor, ...]]:
    """Return channels of which as many have to stay of each: pieces, and what one number counts."""
    groups = [*found.alike, *map(tuple, _by_attribute(found).values())]
    return [parts for parts in groups if len(parts) > 1 and len(set(map(len, parts))) == 1]


def equal_counts(found: Findings, widths: Sequence[Width]) -> list[tuple[Tensor, ...]]:
    """Return pairs of channels that make numbers right if as many stay of both.

    Some channels may be counted several times in a pair.
    """
    counts = {name: units[0] for name, units in _by_attribute(found).items()}
    pairs = [pair for width in widths if (pair := _equation(width, counts)) is not None]
    return [pair for pair in pairs if len(pair[0]) == len(pair[1])]


def _by_attribute(found: Findings) -> dict[Attribute, list[Tensor]]:
    """Return the channels that each attribute of a module counts."""
    counts: dict[Attribute, list[Tensor]] = {}
    for width in found.widths:
        if (name := width.attribute) is not None and width.units is not None:
            counts.setdefault(name, []).append(width.units)
    return counts


def _equation(width: Width, counts: Mapping[Attribute, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return two kinds of channels of which a number wants as many to stay."""
    origin = width.number.origin if isinstance(width.number, Number) else None
    if isinstance(origin, Computed) and origin.operator is operator.floordiv:
        whole, parts = (_channels(width, part, counts) for part in origin.parts)
        if whole is None or (parts is None) == (width.units is None):
            return None
        if parts is None:
            parts = width.units
            assert parts is not None
        return whole, parts.repeat_interleave(max(len(whole) // max(len(parts), 1), 1))
    counted = _channels(width, width.number, counts)
    return None if counted is None or width.units is None else (counted, width.units)


def _channels(width: Width, number: int, counts: Mapping[Attribute, Tensor]) -> Tensor | None:
    """Return the channels that a number counts; None for one that counts none, or is not known."""
    origin = number.origin if isinstance(number, Number) else None
    if isinstance(origin, SizeOf):
        return width.counted.get(origin)
    if isinstance(origin, AttributeOf):
        return counts.get(width.attributes[origin])
    if isinstance(origin, Computed) and origin.operator is operator.mul:
        found = [_channels(width, part, counts) for part in origin.parts]
        pairs = zip(found, reversed(origin.parts), strict=True)
        several = [one.repeat_interleave(int(times)) for one, times in pairs if one is not None]
        return several[0] if len(several) == 1 else None
    return None

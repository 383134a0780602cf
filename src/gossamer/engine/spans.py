"""Places and matrices along an axis at other lengths: interpolations, and edges that stay.

A network for inputs of several sizes says of each by which rule it comes about.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gossamer.engine.operator import Operator
from gossamer.engine.ops.resample import INTERPOLATIONS, Resample, nearest
from gossamer.engine.ops.take import Take
from gossamer.engine.weights import NUMBERS_AT_ONCE, pack_weights, unpack_weights

_NEAREST = {"nearest": partial(nearest, middle=0.0), "nearest-exact": partial(nearest, middle=0.5)}
_EDGES = "edges"
"""Numbers are left out inside the longest run; what stands behind it is moved with the end."""
RULES = (*INTERPOLATIONS, *_NEAREST, _EDGES)
"""Names of all rules."""


def spanned(operator: Operator, rule: str, result: int, length: int, longest: int) -> Any:
    """Return the places, or the matrix, of an operator at another length of what it reads.

    Parameters
    ----------
    operator
        As it is at the longest.
    rule
        One of `RULES`.
    result
        The length of what it gives.
    length, longest
        Of what it reads, and of what it reads as it is.

    Raises
    ------
    TypeError
        If the rule is not for such an operator.
    ValueError
        If it gives nothing for such lengths.
    """
    if min(result, length) < 1 or result * length > NUMBERS_AT_ONCE:
        raise ValueError
    if isinstance(operator, Resample) and rule in INTERPOLATIONS:
        matrix = INTERPOLATIONS[rule](length, result, length / result)
        return pack_weights(np.asarray(matrix, np.float32), operator.matrix.layout)
    if isinstance(operator, Take) and rule in _NEAREST:
        return tuple(map(int, _NEAREST[rule](length, result, length / result)))
    if isinstance(operator, Take) and rule == _EDGES:
        return _edges(operator.indices, len(operator.indices) - result, longest - length)
    raise TypeError


def rule_of(operators: Sequence[Operator], lengths: Sequence[int]) -> str:
    """Return by which rule operators come from the last, which reads the longest; else ""."""
    found = [_span(one) for one in operators]
    for rule in RULES:
        try:
            made = [
                spanned(operators[-1], rule, rows, length, lengths[-1])
                for (rows, _), length in zip(found, lengths, strict=True)
            ]
        except (TypeError, ValueError):
            continue
        given = [one if isinstance(one, tuple) else unpack_weights(one) for one in made]
        if all(np.array_equal(one, own) for one, (_, own) in zip(given, found, strict=True)):
            return rule
    return ""


def rows_of(operator: Operator) -> int:
    """Return how many numbers along its axis an operator gives."""
    return _span(operator)[0]


def _span(operator: Operator) -> tuple[int, Any]:
    if isinstance(operator, Resample):
        return operator.matrix.rows, unpack_weights(operator.matrix)
    assert isinstance(operator, Take)
    return len(operator.indices), operator.indices


def _edges(places: tuple[int, ...], fewer: int, shorter: int) -> tuple[int, ...]:
    """Return places without some of the longest run, and those behind moved with the end."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    runs = np.split(np.arange(len(places)), breaks)
    longest = max(runs, key=len)
    if not 0 <= fewer < len(longest):
        raise ValueError
    end = int(longest[-1]) + 1
    behind = tuple(place - shorter for place in places[end:])
    if min(behind, default=0) < 0:
        raise ValueError
    return (*places[: end - fewer], *behind)

"""Numbers that come from outside: what `prune` and its choices accept, and what they say if not."""

import math
import operator
from numbers import Real

from gossamer.core.errors import InputError
from gossamer.core.formats import percentage


def valid_sparsity(sparsity: float, field: str = "the sparsity") -> float:
    """Return a sparsity as a float.

    Raises
    ------
    InputError
        If it is not a number in [0, 1].
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real):
        raise InputError(
            f"{field} must be a number from 0 to 1, not {sparsity!r}{percentage(sparsity)}"
        )
    if math.isnan(sparsity) or not 0 <= sparsity <= 1:
        raise InputError(f"{field} must lie between 0 and 1, not {sparsity}{percentage(sparsity)}")
    return float(sparsity)


def valid_seed(seed: int) -> int:
    """Return a seed as an int.

    Raises
    ------
    InputError
        If it is no whole number.
    """
    try:
        return operator.index(seed)
    except TypeError:
        raise InputError(f"a seed must be a whole number, not {seed!r}") from None


def valid_count(count: int, field: str) -> int:
    """Return a count as an int.

    Raises
    ------
    InputError
        If it is no whole number from 1.
    """
    try:
        whole = operator.index(count)
    except TypeError:
        whole = 0
    if isinstance(count, bool) or whole < 1:
        raise InputError(f"{field} must be a whole number from 1, not {count!r}")
    return whole

"""Choices that are frozen values: the same ones in Python, in a recipe and in a study file.

Nothing here imports torch, nor do patterns and allocations, so that studies are planned without.
"""

import math
import operator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, ClassVar, TypeVar

from pydantic import PositiveFloat, PositiveInt

from gossamer.core.errors import InputError
from gossamer.core.formats import listed, percentage


@dataclass(frozen=True)
class Choice:
    """A pattern or an allocation: what it is called, its options, and its methods.

    Its fields are its options. Those typed `PositiveInt` or `PositiveFloat` are checked when it is
    made; a recipe derives from all of them how they are written and refused.
    """

    name: ClassVar[str]
    """What files call it."""
    is_word: ClassVar[bool] = False
    """Whether it is written by its name alone, which a choice without options may be."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Options that a sentence shows to whoever left them out."""

    def __post_init__(self) -> None:
        for option in fields(self):
            if option.type in _CHECKS:
                field = f"{option.name} of {type(self).__name__}"
                checked = _CHECKS[option.type](getattr(self, option.name), field)
                object.__setattr__(self, option.name, checked)

    def __str__(self) -> str:
        return repr(self.name) if self.is_word else repr(self)

    def written(self) -> Any:
        """Return it as files, keys and the provenance of masks have it: JSON values."""
        options = {option.name: getattr(self, option.name) for option in fields(self)}
        return self.name if self.is_word else {"name": self.name, **options}


Kind = TypeVar("Kind", bound=Choice)


def words(family: Mapping[str, type[Choice]]) -> list[str]:
    """Return the names of those choices that are written by their name alone."""
    return [name for name, kind in family.items() if kind.is_word]


def resolved(
    given: object, kind: type[Kind], family: Mapping[str, type[Kind]], or_else: str = ""
) -> Kind:
    """Return the choice that a word names; a choice is itself.

    Raises
    ------
    InputError
        If there is no such choice; `or_else` says what it could be beside those of the family.
    """
    if isinstance(given, kind):
        return given
    if isinstance(given, str) and given in words(family):
        return family[given]()
    values = [
        f"{one.__name__}({', '.join(option.name for option in fields(one))})"
        for one in family.values()
        if not one.is_word
    ]
    known = listed([*words(family), *values])
    raise InputError(f"unknown {kind.__name__.lower()} {given!r}: choose one of {known}{or_else}")


def read(written: object, kind: type[Kind], family: Mapping[str, type[Kind]]) -> Kind:
    """Return the choice that `Choice.written` wrote.

    Raises
    ------
    InputError
        If there is no such choice.
    """
    if isinstance(written, Mapping):
        options = {option: value for option, value in written.items() if option != "name"}
        with suppress(KeyError, TypeError):  # of a file from elsewhere
            return family[written["name"]](**options)
    return resolved(written, kind, family)


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


def _valid_count(count: Any, field: str) -> int:
    try:
        whole = operator.index(count)
    except TypeError:
        whole = 0
    if isinstance(count, bool) or whole < 1:
        raise InputError(f"{field} must be a whole number from 1, not {count!r}")
    return whole


def _valid_factor(given: Any, field: str) -> float:
    if isinstance(given, bool) or not isinstance(given, Real) or not 0 < float(given) < math.inf:
        raise InputError(f"{field} must be a finite number above 0, not {given!r}")
    return float(given)


_CHECKS: Mapping[Any, Any] = {PositiveInt: _valid_count, PositiveFloat: _valid_factor}

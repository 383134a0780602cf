"""What a step's fields may be written as, and sentences on what was written instead.

These run before the kinds of the fields are checked, where what was given tells best what was
meant: a percentage, or an allocation by its name alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gossamer.core.formats import likeliest, percentage


def plain_number(given: object) -> object:
    """Let through what may be a number; not true or false, quotes or percentages.

    Raises
    ------
    ValueError
        If it is one of these.

    Examples
    --------
    >>> plain_number("90%")
    Traceback (most recent call last):
    ValueError: must be a number (given: '90%'): 90% is 0.9
    """
    if isinstance(given, bool):
        raise ValueError(f"must be a number (given: {str(given).lower()})")  # noqa: TRY004 - pydantic tells of this kind
    if hint := percentage(given) if isinstance(given, str) else "":
        raise ValueError(f"must be a number (given: {given!r}){hint}")
    if isinstance(given, str) and _is_numeral(given):
        raise ValueError(f"must be a number (given: {given!r}): write {given.strip()}, unquoted")
    return given


def _is_numeral(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def written_as_a_table(
    field: str, words: Sequence[str], tables: Mapping[str, Mapping[str, Any]]
) -> Callable[[object], object]:
    """Return a check that says how to write what was given by its name alone.

    Parameters
    ----------
    field
        The field of the step.
    words
        What it may be as text.
    tables
        What else it may be, by name, each with an example of the options that it needs.
    """

    def check(given: object) -> object:
        if isinstance(given, str) and given not in words and not given.startswith("$"):
            raise ValueError(_instead(field, given, words, tables))
        name = given.get("name") if isinstance(given, Mapping) else None
        if isinstance(given, Mapping) and isinstance(name, str) and not name.startswith("$"):
            _check_table(field, name, given, tables)
        return given

    return check


def _check_table(
    field: str, name: str, given: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]
) -> None:
    if name not in tables:
        near = likeliest(_by_its_class(name), tables)
        raise ValueError(
            f"there is no {field} of the name {name!r}, only {' and '.join(map(repr, tables))}"
            f"{'' if near is None else f': did you mean {near!r}?'}"
        )
    needed = tables[name]
    if missing := [option for option in needed if option not in given]:
        known = {option: given[option] for option in needed if option in given}
        raise ValueError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: write "
            f"{field} = {_table(name, {**needed, **known})}, say"
        )


def _instead(
    field: str, given: str, words: Sequence[str], tables: Mapping[str, Mapping[str, Any]]
) -> str:
    meant = likeliest(_by_its_class(given), [*words, *tables])
    if meant is not None and meant in tables:
        say = ", say" if tables[meant] else ""
        return f'write {field} = {_table(meant, tables[meant])}{say} (given: "{given}")'
    near = "" if meant is None else f": did you mean {meant!r}?"
    written = [_table(name, options) for name, options in tables.items()]
    return (
        f"must be {' or '.join(map(repr, words))} (given: {given!r}), or a table such as "
        f"{' or '.join(written)}{near}"
    )


def _by_its_class(given: str) -> str:
    """Return what stands before the brackets of a call, words apart: "NByM(2, 4)" is "n-by-m"."""
    name = given.partition("(")[0].strip()
    if not name.isidentifier() or name.isupper():
        return name
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


def _table(name: str, options: Mapping[str, Any]) -> str:
    """Write a value as TOML does."""
    values = {"name": f'"{name}"', **{option: f"{value}" for option, value in options.items()}}
    return f"{{ {', '.join(f'{key} = {value}' for key, value in values.items())} }}"

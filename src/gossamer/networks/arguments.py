"""Arguments of a user's own network: read from text, held against what its callable takes.

A study file has them as ``args = { width = 32 }`` in its ``[network]``; a command line has one
``width=32`` for each. Both mean the same.
"""

import ast
import inspect
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from gossamer.core.errors import InputError
from gossamer.core.formats import likeliest, listed


def parsed_arguments(texts: Iterable[str], field: str = "--network-arg") -> dict[str, Any]:
    """Read arguments as a command line has them, each ``name=value``.

    The value is read as TOML or as Python has it: a number, true or False, text in quotes, an array
    or a table, None. Anything else is text, so that no shell has to pass quotes on.

    Parameters
    ----------
    texts
        What was given, one a time.
    field
        What the option is called, for complaints.

    Raises
    ------
    InputError
        If one is not of the form ``name=value``, or a name is given twice.

    Examples
    --------
    >>> parsed_arguments(["width=32", "act=relu", "sizes=[8, 4]", "bias=false", "norm=None"])
    {'width': 32, 'act': 'relu', 'sizes': [8, 4], 'bias': False, 'norm': None}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InputError(f"{field} {text!r}: expected name=value, such as width=32")
        if name.strip() in found:
            raise InputError(f"{field}: {name.strip()!r} is given twice")
        found[name.strip()] = _value(value.strip())
    return checked_arguments(found, field)


def _value(text: str) -> Any:
    with suppress(tomllib.TOMLDecodeError, RecursionError):
        read = tomllib.loads(f"value = {text}")
        if list(read) == ["value"]:
            return read["value"]
    # "False" as text would count as true.
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return ast.literal_eval(text)
    return text


def checked_arguments(given: Mapping[str, Any], field: str = "args") -> dict[str, Any]:
    """Return arguments that JSON holds, so that the key of a trial can.

    Raises
    ------
    InputError
        If one is a date, a time, or a number that is not finite.
    """
    for name, value in given.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise InputError(
                f"{field}: {name} = {value!r} is of no kind that a network can be given: use a "
                "finite number, text, true, false, an array or a table of these",
                fields=(name,),
            ) from None
    return dict(given)


def shown_arguments(given: Mapping[str, Any]) -> str:
    """Return arguments as a reader wants them, in the brackets of the call that they mean.

    Examples
    --------
    >>> shown_arguments({"width": 32, "act": "relu"}), shown_arguments({})
    ("(act='relu', width=32)", '')
    """
    each = ", ".join(f"{name}={given[name]!r}" for name in sorted(given))
    return f"({each})" if given else ""


def check_call(name: str, make: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a network's callable does not take, and a lack of those it needs.

    Parameters
    ----------
    name
        Of the network.
    make
        What gives it.
    arguments
        What it is to be called with, by name.

    Raises
    ------
    InputError
        If a parameter is unknown or lacks its argument.
    """
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return  # some that are compiled do not say; the call tells
    by_name = [one.name for one in parameters if one.kind in _BY_NAME]
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    unknown = [one for one in arguments if one not in by_name and not takes_any]
    needed = [one for one in parameters if one.default is one.empty and one.kind not in _OPEN]
    missing = [one.name for one in needed if one.name not in arguments]
    if unknown:
        near = likeliest(unknown[0], by_name)
        does = f"it takes {listed(by_name)}" if by_name else "it takes none"
        hint = f" (did you mean {near!r}?)" if near else ""
        raise InputError(
            f"The network {name!r} has no parameter {unknown[0]!r}{hint}: {does}.",
            fields=("args", unknown[0]),
        )
    if closed := [one.name for one in needed if one.kind is inspect.Parameter.POSITIONAL_ONLY]:
        raise InputError(
            f"The network {name!r} takes {listed(closed)} by position only, but arguments are "
            "given by name: name a callable that takes them so."
        )
    if missing:
        values = ", ".join(f"{one} = ..." for one in missing)
        raise InputError(
            f"The network {name!r} cannot be called without {listed(missing)}: give args = "
            f"{{ {values} }} in [network] of a study, --network-arg {missing[0]}=... of a command, "
            "or name a callable that needs none.",
            fields=("args",) if arguments else (),
        )


def typed_arguments(
    name: str, make: Callable[..., Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return arguments as the annotations of a network's callable want them.

    A whole number becomes a float for a parameter that is one, an array a tuple, and so on, as
    pydantic converts; a parameter without an annotation takes what is given.

    Parameters
    ----------
    name
        Of the network.
    make
        What gives it.
    arguments
        What it is to be called with, by name.

    Raises
    ------
    InputError
        If a value is of no such type.

    Examples
    --------
    >>> def network(width: int, rate: float = 0.5, sizes: tuple[int, ...] = ()): ...
    >>> typed_arguments("network", network, {"width": 3, "rate": 1, "sizes": [8, 4]})
    {'width': 3, 'rate': 1.0, 'sizes': (8, 4)}
    """
    annotations = _annotations(make)
    return {one: _typed(name, one, annotations.get(one), arguments[one]) for one in arguments}


def _annotations(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that are types; some cannot be evaluated, or there is no signature."""
    for evaluate in (True, False):
        try:
            parameters = inspect.signature(make, eval_str=evaluate).parameters.values()
        except Exception:  # noqa: BLE001, S112  # evaluating an annotation may do anything
            continue
        named = [one for one in parameters if one.kind in _BY_NAME]
        found = {one.name: one.annotation for one in named if one.annotation is not one.empty}
        return {key: kind for key, kind in found.items() if not isinstance(kind, str)}
    return {}


def _typed(name: str, parameter: str, annotation: Any, value: Any) -> Any:
    if annotation is None:
        return value
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # of types with a configuration of their own, and what is no type
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        wanted = inspect.formatannotation(annotation)
        quoted = f"; quote it, {parameter}='\"{value}\"'" if annotation is str else ""
        raise InputError(
            f"The network {name!r} takes {parameter} as {wanted}, but {value!r} was given{quoted}: "
            f"{error.errors()[0]['msg'].lower()}.",
            fields=("args", parameter),
        ) from error


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

"""How a recipe has what is no plain number, and sentences on what was written instead."""

import functools
import inspect
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    create_model,
)
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from gossamer.core.formats import likeliest, percentage
from gossamer.masks.choices import Choice, words
from gossamer.training.options import Options


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


Sparsity = Annotated[float, BeforeValidator(plain_number), Field(ge=0, le=1)]


@dataclass(frozen=True, eq=False)
class Named:
    """A field that holds a name of a registry, one that joins it later, too."""

    registry: Mapping[str, object]

    def read(self, given: object) -> str:
        """Return a name.

        Raises
        ------
        ValueError
            If there is none of the kind.
        """
        if isinstance(given, str) and given in self.registry:
            return given
        if callable(given):
            raise ValueError(  # noqa: TRY004 - pydantic tells of this kind
                "a recipe has a name here, of which its key is made: give a function of your own "
                f"to gossamer.prune, or choose one of {', '.join(self.registry)}"
            )
        *names, last = map(repr, self.registry)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(names)} or {last}"})

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.registry)}


@dataclass(frozen=True, eq=False)
class Spelled:
    """How a field has the choices of a family: by a word, or as a table with a name and options.

    It is the same value that Python has; a choice that joins the family can be written at once.
    """

    field: str
    family: Mapping[str, type[Choice]]
    by_name: bool = False
    """Whether a table of layer names and sparsities will do, too."""

    def read(self, given: Any) -> Any:
        """Return a word, a choice, or sparsities by name.

        Raises
        ------
        ValueError
            If it is none, with a sentence that says how to write it.
        """
        if isinstance(given, Choice) or (isinstance(given, str) and given in words(self.family)):
            return given
        if isinstance(given, Mapping) and isinstance(given.get("name"), str):
            self._check_table(given["name"], given)
            options = _adapter(tuple(self.tables.values())).validate_python(given)
            return self.family[options.name](
                **{option: getattr(options, option) for option in given if option != "name"}
            )
        if isinstance(given, Mapping) and self.by_name:
            return _SHARES.validate_python(given)
        raise ValueError(self._instead(given))

    @property
    def tables(self) -> dict[str, type[Options]]:
        """The options of those that are written as tables, by name."""
        kinds: Mapping[str, Any] = self.family
        return {name: options_of(kind) for name, kind in kinds.items() if not kind.is_word}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(
            lambda value: value.written() if isinstance(value, Choice) else value
        )
        return core_schema.no_info_plain_validator_function(self.read, serialization=written)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds: Any = Literal[tuple(words(self.family))] | _union(tuple(self.tables.values()))
        if self.by_name:
            kinds |= Mapping[str, Sparsity]
        return handler(TypeAdapter(kinds).core_schema)

    def _check_table(self, name: str, given: Mapping[str, Any]) -> None:
        tables = self.tables
        if name not in tables:
            near = likeliest(_by_its_class(name), tables)
            raise ValueError(
                f"there is no {self.field} of the name {name!r}, only "
                f"{' and '.join(map(repr, tables))}"
                f"{'' if near is None else f': did you mean {near!r}?'}"
            )
        needed = self.family[name].example
        if missing := [option for option in needed if option not in given]:
            known = {option: given[option] for option in needed if option in given}
            raise ValueError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: write "
                f"{self.field} = {_table(name, {**needed, **known})}, say"
            )

    def _instead(self, given: Any) -> str:
        plain, tables = words(self.family), self.tables
        meant = likeliest(_by_its_class(given), self.family) if isinstance(given, str) else None
        if meant is not None and meant in tables:
            say = ", say" if self.family[meant].example else ""
            example = _table(meant, self.family[meant].example)
            return f'write {self.field} = {example}{say} (given: "{given}")'
        near = "" if meant is None else f": did you mean {meant!r}?"
        written = [_table(name, self.family[name].example) for name in tables]
        return (
            f"must be {' or '.join(map(repr, plain))} (given: {given!r}), or a table such as "
            f"{' or '.join(written)}{near}"
        )


_SHARES: TypeAdapter[Mapping[str, float]] = TypeAdapter(
    Mapping[str, Sparsity], config=ConfigDict(allow_inf_nan=False)
)


@functools.cache
def options_of(kind: type[Choice]) -> type[Options]:
    """Return how a choice is written as a table: its typed fields, and its name."""
    said = inspect.getdoc(kind) or ""
    options: dict[str, Any] = {
        option.name: (option.type, Field(description=_said_of(option.name, said)))
        for option in fields(kind)
    }
    name: Any = (Literal[kind.name], kind.name)
    doc = f"{said.partition(chr(10))[0].removesuffix('.')}; see `gossamer.{kind.__name__}`."
    model: type[Options] = create_model(
        kind.__name__, __base__=Options, __doc__=doc, name=name, **options
    )
    return model


def _said_of(option: str, docstring: str) -> str | None:
    """Return what a docstring says of a parameter, on one line."""
    found = re.search(rf"^{option}\n((?:    .*\n?)+)", docstring, re.MULTILINE)
    return None if found is None else " ".join(found[1].split())


def _union(models: Sequence[type[Options]]) -> Any:
    """Return the type of any of these, told apart by their names."""
    if len(models) == 1:
        return models[0]
    return Annotated[functools.reduce(operator.or_, models), Field(discriminator="name")]


@functools.cache
def _adapter(models: Sequence[type[Options]]) -> TypeAdapter[Any]:
    return TypeAdapter(_union(models))


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

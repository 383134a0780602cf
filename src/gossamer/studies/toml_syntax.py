"""What is wrong with a text that is no TOML, in a sentence: what is there, and what to write.

`tomllib` says where it could not go on and what it expected there. What was meant shows in the
characters at that place.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gossamer.studies.toml_lines import given_again, unclosed_list, unclosed_quote

_WHERE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_FIELD = re.compile(r"""[\w."'-]+\s*=""")
_HEADER = re.compile(r"\[+[\w.-]+\]+")


@dataclass(frozen=True)
class _Spot:
    """Where a text ceases to be TOML."""

    text: str
    line: int
    whole: str
    """The line."""
    rest: str
    """The line from there on; empty at its end."""

    @property
    def before(self) -> str:
        """The line up to there."""
        return self.whole[: len(self.whole) - len(self.rest)].rstrip()


def syntax_problem(text: str, error: tomllib.TOMLDecodeError) -> tuple[int, str]:
    """Return the line, from 1, on which a text ceases to be TOML, and what to do about it.

    Examples
    --------
    >>> text = "sparsity = [0.5 0.9]"
    >>> try:
    ...     tomllib.loads(text)
    ... except tomllib.TOMLDecodeError as error:
    ...     syntax_problem(text, error)
    (1, "a comma is missing before '0.9'")
    """
    message, spot = _found(text, str(error))
    if (quote := unclosed_quote(text)) and quote[0] <= spot.line:
        line, mark = quote
        longer = "" if len(mark) == 3 else f", or put it between {mark * 3} if it has several lines"
        return line, f"the text that begins with {mark} is not closed: end it with {mark}{longer}"
    if message.startswith(_AGAIN) and (again := given_again(text, spot.line)):
        key, line, first = again
        if any(not text.split("\n")[at - 1].lstrip().startswith("[") for at in (line, first)):
            return line, f"{key!r} is given twice, first on line {first}: keep one of them"
        return line, (
            f"[{key}] is there twice, first on line {first}: put its keys below one header, or "
            f"write [[{key}]] each time if there are several"
        )
    for beginning, sentence in _SENTENCES.items():
        if message.startswith(beginning):
            return spot.line, sentence(spot)
    return spot.line, f"it is no valid TOML ({message[:1].lower()}{message[1:]})"


def _found(text: str, error: str) -> tuple[str, _Spot]:
    """Return what `tomllib` says, and where."""
    found = _WHERE.fullmatch(error)
    if found is None or found[2] is None:
        lines = text.rstrip().split("\n")
        return found[1] if found else error, _Spot(text, len(lines), lines[-1], "")
    line, column = int(found[2]), int(found[3])
    whole = (text.split("\n")[line - 1 :] or [""])[0].rstrip()
    return found[1], _Spot(text, line, whole, whole[column - 1 :])


def _value(spot: _Spot) -> str:
    """Say what should stand where a value was expected."""
    word = re.split(r"[,\]}#]", spot.rest)[0].strip()
    if _HEADER.fullmatch(spot.whole.strip()) or _FIELD.match(spot.rest):
        return _list(spot)
    if not word:
        return "a value is missing here: write one behind the ="
    if word.lower() in ("true", "false"):
        return f"write {word.lower()}, not {word}"
    if word.lower() in ("yes", "no", "on", "off"):
        return f"write true or false, not {word}"
    if word.lower() in ("none", "null", "nil"):
        return f"there is no {word} in TOML: leave the key out"
    if word[0] in "“”‘’„«":
        return f'text stands in straight quotes, such as "name", not {word[0]}'
    if word[0] == "(":
        return f"a list stands in square brackets, not {word[0]}"
    if word[0] == "=":
        return "one = is enough"
    if re.match(r"[-+]?\.\d", word):
        return f"write {word.replace('.', '0.', 1)}, not {word}"
    return f'text stands in quotes: write "{word}"'


def _list(spot: _Spot) -> str:
    """Say what a list lacks: a comma, or its end."""
    begun = unclosed_list(spot.text, spot.line)
    if begun and (not spot.rest or _FIELD.match(spot.rest) or _HEADER.fullmatch(spot.whole)):
        return f"the list that begins on line {begun} is not closed: end it with ]"
    return _share(spot) or f"a comma is missing before {_word(spot.rest)!r}"


def _share(spot: _Spot) -> str:
    """Say how to write a percentage, if there is one."""
    number = re.search(r"\d+(\.\d+)?$", spot.before) if spot.rest.startswith("%") else None
    if number is None:
        return ""
    return f"a share is a fraction: write {float(number[0]) / 100:g}, not {number[0]}%"


def _inline(spot: _Spot) -> str:
    """Say what a table in braces lacks."""
    if not spot.rest:
        return "a table in braces ends on the line where it begins: close it with }"
    return _share(spot) or f"a comma is missing before {_word(spot.rest)!r}"


def _part_of_key(spot: _Spot) -> str:
    if not spot.rest:
        return "a table in braces stands on one line: put it there, or use a [table] of its own"
    if spot.rest[0] == "}":
        return "the comma before } is one too many: leave it out"
    return f"a key is of letters, digits, - and _, or stands in quotes, not {_word(spot.rest)!r}"


def _equals(spot: _Spot) -> str:
    """Say what should stand between a key and its value."""
    if spot.rest.startswith(":"):
        return "write = between a key and its value, not :"
    if "=" in spot.rest:
        return f'a key with spaces stands in quotes: "{spot.whole.partition("=")[0].strip()}"'
    return _statement(spot)


def _statement(spot: _Spot) -> str:
    return f"expected a key, = and its value, or a [table], not {_word(spot.whole)!r}"


def _header(spot: _Spot) -> str:
    return f"the header {spot.whole.strip()} is not closed: write as many ] as it has ["


def _after_a_value(spot: _Spot) -> str:
    """Say what to do with what stands behind a value."""
    rest, number = spot.rest, re.search(r"[=\[,{]\s*([-+]?\d+)$", spot.before)
    if share := _share(spot):
        return share
    if number and (decimals := re.match(r",(\d+)", rest)):
        return f"decimals stand behind a point: write {number[1]}.{decimals[1]}"
    if number and number[1].lstrip("+-") == "0" and rest[:1].isdigit():
        return f"a number has no zero in front: write {_word(rest).lstrip('0') or '0'}"
    if rest.startswith("//"):
        return "comments begin with #, not //"
    if _FIELD.match(rest):
        return f"each key stands on a line of its own: put {_word(rest)!r} on the next one"
    if spot.before.endswith(('"', "'")):
        return "a quote within text ends it: put the text in the other kind of quotes"
    return f"nothing can follow the value here: leave out {_word(rest)!r}"


def _backslash(spot: _Spot) -> str:
    del spot
    return "a backslash within \" is written twice, or the text put in single quotes '"


def _control(spot: _Spot) -> str:
    return f"the character U+{ord(spot.rest[:1] or ' '):04X} can stand in no text: leave it out"


def _word(rest: str) -> str:
    return re.split(r"[\s,\]}=]", rest.strip(), maxsplit=1)[0] or rest.strip()


_AGAIN = ("Cannot overwrite", "Duplicate inline table key", "Cannot declare", "Cannot mutate")
_SENTENCES: Mapping[str, Callable[[_Spot], str]] = {
    "Invalid value": _value,
    "Unclosed array": _list,
    "Unclosed inline table": _inline,
    "Invalid initial character for a key part": _part_of_key,
    "Expected '='": _equals,
    "Expected ']": _header,
    "Expected newline or end of document": _after_a_value,
    "Invalid statement": _statement,
    "Unescaped": _backslash,
    "Illegal character": _control,
}
"""By the beginning of what `tomllib` says."""

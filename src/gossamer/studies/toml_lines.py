"""Where in a TOML text a field stands, so that an error can name its line.

The text has been parsed by `tomllib` before, which alone says what is valid; this follows tables,
keys and arrays only.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]

_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}'''  # strings of several lines
    r"""|"(?:\\.|[^"\\\n])*"|'[^'\n]*\'"""
    r"""|\#[^\n]*|[ \t\r]+|\n|[\[\]{},=.]|[^\s\[\]{},=."'#]+""",
    re.DOTALL,
)
_END = ("", 0)


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """Return the line, from 1, of a field or of the nearest one that holds it; None without one.

    Parameters
    ----------
    text
        A valid TOML text.
    path
        Keys and positions in arrays.

    Examples
    --------
    >>> text = '''name = "a"
    ... [[arms]]
    ... label = "one"
    ... [[arms]]
    ... recipe = [
    ...   { step = "train" },
    ...   { step = "prune", sparsity = 2 },
    ... ]'''
    >>> line_of(text, ("arms", 1, "recipe", 1, "sparsity"))
    7
    >>> line_of(text, ("arms", 1, "role"))
    4
    """
    lines: dict[Path, int] = {}
    for place, line in _places(_Tokens(text)):
        lines.setdefault(place, line)
    for length in range(len(path), 0, -1):
        if (place := tuple(path[:length])) in lines:
            return lines[place]
    return None


def given_again(text: str, line: int) -> tuple[str, int, int] | None:
    r"""Return the last key or table up to a line that was given before, its line and the first one.

    Examples
    --------
    >>> given_again("a = 1\n[b]\na = 2\na = 3", 4)
    ('b.a', 4, 3)
    """
    places = list(_places(_Tokens("\n".join(text.split("\n")[:line]))))
    for position in range(len(places) - 1, 0, -1):
        path, at = places[position]
        earlier = [first for other, first in places[:position] if other == path]
        if earlier and not isinstance(path[-1], int):
            return ".".join(part for part in path if isinstance(part, str)), at, earlier[0]
    return None


def unclosed_list(text: str, line: int) -> int | None:
    r"""Return on which line the innermost list begins that is not closed up to a line.

    Examples
    --------
    >>> unclosed_list("a = [1]\nb = [\n2,\nc = 3", 4)
    2
    """
    begun: list[int] = []
    for mark, at in _tokens("\n".join(text.split("\n")[:line])):
        if mark == "[":
            begun.append(at)
        elif mark == "]" and begun:
            begun.pop()
    return begun[-1] if begun else None


def unclosed_quote(text: str) -> tuple[int, str] | None:
    r"""Return the line of the first quote that nothing closes, and the quote; None without one.

    Examples
    --------
    >>> unclosed_quote('a = "x"\nb = "y\n'), unclosed_quote('a = "x"')
    ((2, '"'), None)
    """
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            break
        end = match.end()
    if text[end : end + 1] not in ('"', "'"):
        return None
    begins = end - 2 if text[end - 2 : end] == 2 * text[end] else end
    return text.count("\n", 0, end) + 1, text[begins : end + 1]


class _Tokens:
    """The tokens of a text, less spaces and comments, of which the next one is to be seen."""

    def __init__(self, text: str) -> None:
        self._rest = _tokens(text)
        self.next, self.line = next(self._rest, _END)

    def take(self) -> str:
        """Return the next token and go on to the one after it; the last one is empty."""
        taken = self.next
        self.next, self.line = next(self._rest, _END)
        return taken

    def skip(self, *tokens: str) -> bool:
        """Take the next token if it is one of those, and tell whether it is."""
        if found := self.next in tokens:
            self.take()
        return found


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] not in "# \t\r":
            yield token, line
        line += token.count("\n")


def _places(tokens: _Tokens) -> Iterator[tuple[Path, int]]:
    """Yield every table, key and element of an array with its line."""
    table: Path = ()
    lasts: dict[Path, int] = {}
    while tokens.next:
        line = tokens.line
        if tokens.skip("\n"):
            continue
        if tokens.skip("["):
            several = tokens.skip("[")
            table = _table(_keys(tokens), several, lasts)
            while tokens.skip("]"):
                pass
            yield from _with_holders(table, 0, line)
        else:
            yield from _field(tokens, table)


def _table(keys: Sequence[str], several: bool, lasts: dict[Path, int]) -> Path:
    """Return the path of a header; `lasts` are the last positions in arrays of tables."""
    path: Path = ()
    for key in keys[:-1]:
        path = (*path, key)
        path = (*path, lasts[path]) if path in lasts else path
    path = (*path, keys[-1])
    if not several:
        return path
    lasts[path] = lasts.get(path, -1) + 1
    return (*path, lasts[path])


def _with_holders(path: Path, above: int, line: int) -> Iterator[tuple[Path, int]]:
    """Yield a path, and what holds it from a depth on, which may stand nowhere by itself."""
    return ((path[:length], line) for length in range(above + 1, len(path) + 1))


def _field(tokens: _Tokens, table: Path) -> Iterator[tuple[Path, int]]:
    line = tokens.line
    path = (*table, *_keys(tokens))
    yield from _with_holders(path, len(table), line)
    tokens.skip("=")
    yield from _value(tokens, path)


def _keys(tokens: _Tokens) -> list[str]:
    keys = [_key(tokens.take())]
    while tokens.skip("."):
        keys.append(_key(tokens.take()))
    return keys


def _key(token: str) -> str:
    if token[0] not in "\"'":
        return token
    read: str = tomllib.loads(f"key = {token}")["key"]
    return read


def _value(tokens: _Tokens, path: Path) -> Iterator[tuple[Path, int]]:
    if tokens.skip("["):
        elements = 0
        while not tokens.skip("]"):
            if not tokens.skip("\n", ","):
                yield (*path, elements), tokens.line
                yield from _value(tokens, (*path, elements))
                elements += 1
    elif tokens.skip("{"):
        while not tokens.skip("}"):
            if not tokens.skip("\n", ","):
                yield from _field(tokens, path)
    else:
        while tokens.next not in ("", "\n", ",", "]", "}"):
            tokens.take()

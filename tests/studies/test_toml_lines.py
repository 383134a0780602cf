"""Lines of fields, against files whose writer took note of every line."""

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gossamer.studies.spec import builtin_names, read_study
from gossamer.studies.toml_lines import Path, line_of

# Spellings of keys, and what they mean, with %d for a number that makes each differ.
KEYS = {
    "k%d": "k%d",
    "k-%d_": "k-%d_",
    "%d": "%d",
    '"k %d"': "k %d",
    "'k.%d'": "k.%d",
    r'"k\"%d"': 'k"%d',
    '"]k%d#"': "]k%d#",
    r'"\u0041=%d"': "A=%d",
    '"it\'s %d"': "it's %d",
}
PLAIN = ("1", "-1.5e3", "true", "inf", "1979-05-27 07:32:00.5Z", "0xff", "1_000")
STRINGS = (
    '""',
    "''",
    r'"a # [ { \" = , \\"',
    "'a \" # ] }\\'",
    '"""one line # ["""',
    "'''one line # [\"'''",
    '"""\nsay "hi"\n# no comment ]\n[header]\nkey = 1 \\\n  and \\""" more\n"""""',
    "'''\nit's \"so\" # }\n[[header]]\n''''",
    '"""a"b""c""""',
)
COMMENTS = ("", "", "  # a [comment] = { \"it's", "\t#", "  ")


class Writer:
    """Writes TOML, and notes the line on which each path begins."""

    def __init__(self, draw: Callable[[some.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw
        self._keys = 0
        self.text = ""
        self.lines: dict[Path, int] = {}

    def choose(self, *choices: Any) -> Any:
        return self._draw(some.sampled_from(choices))

    def several(self, most: int) -> range:
        return range(self._draw(some.integers(0, most)))

    def note(self, path: Path) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], 1 + self.text.count("\n"))

    def new_key(self) -> tuple[str, str]:
        self._keys += 1
        written = self.choose(*KEYS)
        return written % self._keys, KEYS[written] % self._keys

    def key(self) -> tuple[str, Path]:
        """Return a key, sometimes a dotted one, as written and as meant."""
        parts = [self.new_key() for _ in range(self.choose(1, 1, 1, 2, 3))]
        return self.choose(".", " . ").join(p for p, _ in parts), tuple(m for _, m in parts)

    def field(self, table: Path, depth: int) -> None:
        written, meant = self.key()
        self.note((*table, *meant))
        self.text += written + self.choose(" = ", "=")
        self.value((*table, *meant), depth)

    def value(self, path: Path, depth: int) -> None:
        kind = self.choose("plain", "string", "array", "table") if depth else "plain"
        if kind == "plain":
            self.text += self.choose(*PLAIN)
        elif kind == "string":
            self.text += self.choose(*STRINGS)
        elif kind == "table":
            self.text += "{ "
            for number in self.several(3):
                self.text += ", " if number else ""
                self.field(path, depth - 1)
            self.text += " }"
        else:
            self.array(path, depth)

    def array(self, path: Path, depth: int) -> None:
        gaps = self.choose((" ",), (" ", "\n", "  # ] [\n  "))
        self.text += "["
        for number in self.several(4):
            self.text += ("," if number else "") + self.choose(*gaps)
            self.note((*path, number))
            self.value((*path, number), depth - 1)
        self.text += self.choose(*gaps) + "]"

    def fields(self, table: Path) -> None:
        for _ in self.several(3):
            self.text += self.choose("", "\n", "# [a] comment = 1\n", "  ")
            self.field(table, 3)
            self.text += self.choose(*COMMENTS) + "\n"

    def header(self, written: str, opening: str, closing: str, path: Path) -> None:
        self.note(path)
        space = self.choose("", " ")
        self.text += f"{opening}{space}{written}{space}{closing}{self.choose(*COMMENTS)}\n"
        self.fields(path)

    def sections(self, written: str, above: Path, depth: int) -> None:
        """Write tables and arrays of tables below one, with tables of their own."""
        for _ in self.several(2):
            name, meant = self.new_key()
            name, path = (f"{written}.{name}" if written else name), (*above, meant)
            if self.choose(True, False):
                self.header(name, "[", "]", path)
                if depth:
                    self.sections(name, path, depth - 1)
            else:
                for number in range(self.choose(1, 2, 3)):
                    self.header(name, "[[", "]]", (*path, number))
                    if depth:
                        self.sections(name, (*path, number), depth - 1)


@some.composite
def files(draw: Callable[[some.SearchStrategy[Any]], Any]) -> tuple[str, dict[Path, int]]:
    writer = Writer(draw)
    writer.fields(())
    writer.sections("", (), 2)
    end = writer.choose("\n", "\r\n")
    return writer.text.replace("\n", end), writer.lines


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything in a parsed file."""
    if path:
        yield path
    inside: Any = value.items() if isinstance(value, dict) else ()
    for key, below in enumerate(value) if isinstance(value, list) else inside:
        yield from paths(below, (*path, key))


@settings(max_examples=80)
@given(files())
def test_every_field_has_the_line_that_it_was_written_on(
    file: tuple[str, dict[Path, int]],
) -> None:
    text, lines = file
    assert set(paths(tomllib.loads(text))) == set(lines)
    for path, line in list(lines.items())[:: 1 + len(lines) // 10]:
        assert line_of(text, path) == line, path
        # What is not there is looked for where it would be.
        assert line_of(text, (*path, "missing")) == line
    assert line_of(text, ("missing",)) is None


TEXT = """\
# a comment with [brackets] and key = 1
name = "a # no comment [x]"   # [y]
'odd key' = 'it is "so" # ]'
long = \"\"\"
[table]
key = "1" # ]
\"\"\"
a.b . "c d" = 1

[ data ]   # [other]
name = "digits"
inline = { one = 1, two = [
  1,
  { three = 3 }, [4,
  5],
] }
[scales.quick]
seeds = 2
[[arms]]
name = "first"
recipe = [
  "part",  # not a table, and it counts
  { step = "train" }, { step = "prune" },
]
[arms.data]
examples = 3
[[arms.more]]
x = 1
[[arms.more]]
y = { z = 2 }

[[arms]]
name = "second"
[arms.data]
examples = 4
[[arms.more]]
x = 5
[arms.more.deep."very deep"]
q = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("odd key",), 3),
        (("long",), 4),
        (("table",), None),
        (("a",), 8),
        (("a", "b", "c d"), 8),
        (("data",), 10),
        (("data", "name"), 11),
        (("data", "nothing"), 10),
        (("data", "inline", "one"), 12),
        (("data", "inline", "two", 0), 13),
        (("data", "inline", "two", 1, "three"), 14),
        (("data", "inline", "two", 2, 0), 14),
        (("data", "inline", "two", 2, 1), 15),
        (("scales",), 17),
        (("scales", "quick", "seeds"), 18),
        (("arms",), 19),
        (("arms", 0, "recipe"), 21),
        (("arms", 0, "recipe", 0), 22),
        (("arms", 0, "recipe", 1, "step"), 23),
        (("arms", 0, "recipe", 2), 23),
        (("arms", 0, "recipe", 3), 21),
        (("arms", 0, "data", "examples"), 26),
        (("arms", 0, "more", 0, "x"), 28),
        (("arms", 0, "more", 1, "y", "z"), 30),
        (("arms", 1), 32),
        (("arms", 1, "recipe"), 32),
        (("arms", 1, "data", "examples"), 35),
        (("arms", 1, "more", 0), 36),
        (("arms", 1, "more", 0, "deep", "very deep", "q"), 39),
        (("arms", 2), 19),
        ((), None),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_field_is_found_on_its_line(path: Path, line: int | None, end: str) -> None:
    tomllib.loads(TEXT)
    assert line_of(TEXT.replace("\n", end), path) == line


def test_only_a_newline_ends_a_line() -> None:
    assert line_of('a = "\u2028\x85"\nb = 1', ("b",)) == 2


def test_an_empty_file_has_no_lines() -> None:
    assert line_of("", ("a",)) is None
    assert line_of("# nothing\n\n", ("a",)) is None


@pytest.mark.parametrize("name", builtin_names())
def test_everything_in_a_built_in_study_is_found_on_a_line_that_names_it(name: str) -> None:
    text = read_study(name)[1]
    lines = text.split("\n")
    for path in list(paths(tomllib.loads(text)))[::5]:
        line = line_of(text, path)
        assert line is not None, path
        names = [part for part in path if isinstance(part, str)]
        assert isinstance(path[-1], int) or names[-1] in lines[line - 1], path

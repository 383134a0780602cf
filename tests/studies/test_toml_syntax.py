"""A study file that is no TOML is told of by line, with what is there and what to write."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.studies.spec import builtin_names, read_study
from gossamer.studies.toml_syntax import syntax_problem

QUOTE = (
    "the text that begins with {0} is not closed: end it with {0}, or put it between {0}{0}{0} if "
    "it has several lines"
)
TWICE = (
    "[t] is there twice, first on line 1: put its keys below one header, or write [[t]] each time "
    "if there are several"
)
CASES = [
    ('a = "x\nb = 1\n', 1, QUOTE.format('"')),
    ("b = 1\na = 'x\nc = 1\n", 2, QUOTE.format("'")),
    ('a = [\n "x",\n "y,\n "z"]\n', 3, QUOTE.format('"')),
    ("# it's\na = { step = \"train, epochs = 2 }\n", 2, QUOTE.format('"')),
    ('b = 1\na = """x\ny', 2, 'the text that begins with """ is not closed: end it with """'),
    ("a = 1\nb = 2\na = 3\n", 3, "'a' is given twice, first on line 1: keep one of them"),
    ("a = 1\na = [\n3,\n4]\n", 2, "'a' is given twice, first on line 1: keep one of them"),
    ("[[t]]\na=1\n[[t]]\na=2\na=3\n", 5, "'t.a' is given twice, first on line 4: keep one of them"),
    ("x = { a = 1, a = 2 }\n", 1, "'x.a' is given twice, first on line 1: keep one of them"),
    ("t = 1\n[t]\nb = 2\n", 2, "'t' is given twice, first on line 1: keep one of them"),
    ("[t]\na = 1\n[u]\n[t]\nb = 2\n", 4, TWICE),
    ("[[t]]\na = 1\n[t]\nb = 2\n", 3, TWICE),
    ("a = True\n", 1, "write true, not True"),
    ("a = [1, FALSE]\n", 1, "write false, not FALSE"),
    ("a = yes # really\n", 1, "write true or false, not yes"),
    ("a = None\n", 1, "there is no None in TOML: leave the key out"),
    ("t = Weight pruning # c\n", 1, 'text stands in quotes: write "Weight pruning"'),
    ("a = { epochs = $epochs }\n", 1, 'text stands in quotes: write "$epochs"'),
    ("a = “x”\n", 1, 'text stands in straight quotes, such as "name", not “'),
    ('a = [\n  { step = "x" }\n  { step = "y" }\n]\n', 3, "a comma is missing before '{'"),
    ('a = { step = "x" epochs = 2 }\n', 1, "a comma is missing before 'epochs'"),
    ("a = { b = 1, }\n", 1, "the comma before } is one too many: leave it out"),
    ("a = [1, 2\nb = 3\n", 2, "the list that begins on line 1 is not closed: end it with ]"),
    ("a = [1,\n\n[t]\nb = 3\n", 3, "the list that begins on line 1 is not closed: end it with ]"),
    ("[t\na = 1\n", 1, "the header [t is not closed: write as many ] as it has ["),
    ("a: 1\n", 1, "write = between a key and its value, not :"),
    ("my key = 2\n", 1, 'a key with spaces stands in quotes: "my key"'),
    ("b = 1\na =\n", 2, "a value is missing here: write one behind the ="),
    ("a = 90%\n", 1, "a share is a fraction: write 0.9, not 90%"),
    ("a = [80%, 2.5%]\n", 1, "a share is a fraction: write 0.8, not 80%"),
    ("a = 0,5\n", 1, "decimals stand behind a point: write 0.5"),
    ("a = -.5\n", 1, "write -0.5, not -.5"),
    ("a = 1 b = 2\n", 1, "each key stands on a line of its own: put 'b' on the next one"),
    ("a = 1; \n", 1, "nothing can follow the value here: leave out ';'"),
    (
        'a = "say "hi""\n',
        1,
        "a quote within text ends it: put the text in the other kind of quotes",
    ),
    (
        'a = "C:\\data"\n',
        1,
        "a backslash within \" is written twice, or the text put in single quotes '",
    ),
]


def problem(text: str) -> tuple[int, str] | None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return syntax_problem(text, error)
    return None


@pytest.mark.parametrize(("text", "line", "sentence"), CASES)
def test_the_line_and_what_to_do_are_told(text: str, line: int, sentence: str) -> None:
    assert problem(text) == (line, sentence)


def test_the_study_and_its_line_are_named(
    write_study: Callable[..., Path],
) -> None:
    path = write_study(('label = "Unpruned"', 'label = "Unpruned'))
    line = path.read_text().split("\n").index('label = "Unpruned') + 1
    with pytest.raises(InputError) as caught:
        read_study(str(path))
    told = QUOTE.format('"')
    assert str(caught.value) == f"the study {path}, line {line}: {told}"


@given(
    name=st.sampled_from(builtin_names()),
    place=st.floats(0, 1),
    removed=st.integers(0, 3),
    added=st.text(alphabet="\"'[]{}=,.#\n\\ %a1:\r\x01", max_size=3),
)
@settings(max_examples=300)
def test_whatever_is_wrong_there_is_a_sentence(
    name: str, place: float, removed: int, added: str
) -> None:
    text = read_study(name)[1]
    at = int(place * len(text))
    broken = text[:at] + added + text[at + removed :]
    found = problem(broken)
    if found is not None:
        line, sentence = found
        assert 1 <= line <= broken.count("\n") + 1
        assert sentence
        assert "\n" not in sentence

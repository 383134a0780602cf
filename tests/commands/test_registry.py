"""What a command needs to be one: walked over all, and held by one that is added here."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from gossamer import commands
from gossamer.__main__ import _help
from gossamer.commands import COMMANDS, Command, summary
from gossamer.core.installing import PACKAGES
from running_commands import Gossamer

TOY = '''
from typing import Annotated

import typer
from rich.console import Console

from gossamer.core.progress import followed
from gossamer.core.errors import InputError

EPILOG = "Exit codes: 0 played, 2 wrong input.\\n\\nExample: `gossamer toy --ends well`"


def toy(ends: Annotated[str, typer.Option(help="How it ends.")] = "well") -> None:
    """Play with blocks.

    They are stacked until they fall.
    """
    with followed(Console(stderr=True), "block", patience=-1.0) as follow:
        follow(1, 3, "the second one")
    if ends == "badly":
        raise InputError("--ends badly: blocks were expected.")
    if ends == "at once":
        raise KeyboardInterrupt
    if ends == "full":
        raise OSError(28, "No space left on device", "blocks.npz")
    if ends == "unreadable":
        raise PermissionError(13, "Permission denied", "blocks.npz")
    print("played")
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a command: one file, and one line of the registry."""
    folder = tmp_path / "commands"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(folder)])
    monkeypatch.setitem(COMMANDS, "toy", Command(("typer", "rich")))


@pytest.mark.usefixtures("toy")
def test_a_command_of_one_file_has_help_and_completion(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.search(r"toy +Play with blocks\.", gossamer("--help").out)
    found = gossamer("toy", "--help")
    assert found.code == 0
    for part in ("They are stacked", "How it ends.", "Exit codes: 0 played", "toy --ends well"):
        assert part in found.out
    assert "(did you mean 'toy'?)" in gossamer("toi").err
    monkeypatch.setenv("_GOSSAMER_COMPLETE", "complete_bash")
    for typed, offered in (("gossamer to", ["toy"]), ("gossamer toy --e", ["--ends"])):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", f"{len(typed.split()) - 1}")
        assert gossamer().out.split() == offered


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ("well", 0, ""),
        ("badly", 2, "gossamer: --ends badly: blocks were expected.\n"),
        ("at once", 130, "gossamer: interrupted\n"),
        ("full", 2, "there is no room for blocks.npz (no space left on device): free some space\n"),
        ("unreadable", 2, "gossamer: blocks.npz: cannot be used (permission denied).\n"),
    ],
)
def test_a_command_of_one_file_has_exit_codes_and_progress(
    ends: str, code: int, said: str, gossamer: Gossamer
) -> None:
    found = gossamer("toy", "--ends", ends)
    assert found.code == code
    assert found.out == ("played\n" if code == 0 else "")
    progress, _, rest = found.err.partition("\n")
    assert progress == "1 of 3 blocks done; next: the second one"
    assert rest.endswith(said)
    assert rest.count("\n") == (code != 0)


def test_a_command_that_lacks_a_package_is_marked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "toy", Command(("no_such_module",), extra="audit"))
    monkeypatch.setattr("gossamer.__main__.summary", lambda name: f"about {name}")
    before, _, after = "\n".join(_help()).partition("Commands that need more packages:")
    assert "  toy      about toy" in after
    assert "[audit]" in after
    assert "  bench    about bench" in before


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_one_file_with_help_examples_and_exit_codes(name: str) -> None:
    command, module = COMMANDS[name], import_module(f"gossamer.commands.{name}")
    function: Any = getattr(module, name)
    assert summary(name) == function.__doc__.partition("\n")[0]
    text = module.EPILOG if command.needs else module.parser().format_help()
    assert re.search(r"Exit codes: 0 \w+,", text)
    assert f"gossamer {name}" in text
    assert set(command.needs) <= set(PACKAGES)

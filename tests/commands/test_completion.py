"""Shell completion: what is offered, and that no shell waits for it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gossamer
from gossamer.commands import COMMANDS
from gossamer.commands.completion import NETWORKS, networks_beginning, studies_beginning
from gossamer.networks import names
from gossamer.studies.spec import builtin_names
from running_commands import Gossamer


def test_the_names_are_those_that_there_are() -> None:
    assert studies_beginning("") == list(builtin_names())
    assert networks_beginning("") == sorted([*names(), "wide-head"])
    assert networks_beginning("cifar-w") == ["cifar-wide-cnn"]
    assert studies_beginning("nothing") == []


def asked(shell: str, typed: str) -> dict[str, str]:
    """Return the environment in which a shell asks about what was typed so far."""
    words = typed.split(" ")
    return {"_GOSSAMER_COMPLETE": f"complete_{shell}"} | {
        "bash": {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": typed},
        "fish": {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]


def in_a_process(shell: str, typed: str) -> list[str]:
    """Return the lines that a shell gets, as it asks."""
    environment = {**os.environ, "PYTHONPATH": str(Path(gossamer.__file__).parents[1])}
    code = "import sys; sys.argv = ['gossamer']; from gossamer.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True,
        env=environment | asked(shell, typed),
    )  # fmt: skip
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


Answer = Callable[[str, str], list[str]]


@pytest.fixture
def answer(gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Return what gives the lines that a shell gets for what was typed so far."""

    def lines(shell: str, typed: str) -> list[str]:
        with monkeypatch.context() as patch:
            for name, value in asked(shell, typed).items():
                patch.setenv(name, value)
            seen = gossamer()
        assert seen.err == ""
        return [line for line in seen.out.splitlines() if line]

    return lines


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gossamer ru", ["run"]),
        ("gossamer run dem", ["demo"]),
        ("gossamer studies --show mask", ["mask-transfer"]),
        ("gossamer bench m", [name for name in NETWORKS if name.startswith("m")]),
        ("gossamer bench mlp --net", ["--network-arg"]),
        ("gossamer run demo --sca", ["--scale"]),
        ("gossamer run demo --scale pa", ["paper"]),
        ("gossamer predict --t", ["--true", "--threads"]),
        ("gossamer predict net.gsm x.npy --labels --ba", ["--batch"]),
        ("gossamer predict net.g", []),  # the shell offers files
    ],
)
def test_bash_is_answered(typed: str, offered: list[str], answer: Answer) -> None:
    assert answer("bash", typed) == offered


PREDICT = {"--true", "--out", "--labels", "--probabilities", "--threads", "--batch", "--help"}


def test_a_process_of_its_own_answers_alike(answer: Answer) -> None:
    typed = "gossamer predict --t"
    assert in_a_process("bash", typed) == answer("bash", typed) == ["--true", "--threads"]


def test_zsh_and_fish_get_an_option_a_line_with_its_help(answer: Answer) -> None:
    lines = answer("fish", "gossamer predict --")
    assert {line.partition("\t")[0] for line in lines} == PREDICT
    assert all(line.partition("\t")[2] for line in lines)
    (described,) = (line for line in lines if line.startswith("--true"))
    assert described.endswith("print how many predictions are right")
    lines = answer("zsh", "gossamer predict --")
    assert {line.split('"')[1] for line in lines} == PREDICT
    assert answer("zsh", "gossamer predict net.g") == ["_files"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_offered(
    name: str, gossamer: Gossamer, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = set(re.findall(r"(?m)^\W*(--[a-z][a-z-]+) ", gossamer(name, "--help").out))
    assert shown
    assert shown <= set(answer("bash", f"gossamer {name} --"))


def test_help_and_completion_load_nothing_heavy() -> None:
    code = (
        "import sys; from gossamer.commands.app import app_of_all; app_of_all();"
        "import gossamer.commands.completion; gossamer.commands.completion.studies_beginning('');"
        "heavy = {'torch', 'numpy', 'scipy', 'pydantic', 'altair', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")

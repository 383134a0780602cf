"""Shell completion: what is offered, and that no shell waits for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gossamer
from gossamer.commands.completion import NETWORKS, networks_beginning, studies_beginning
from gossamer.nets import names
from gossamer.studies.spec import builtin_names


def test_the_names_are_those_that_there_are() -> None:
    assert studies_beginning("") == list(builtin_names())
    assert networks_beginning("") == sorted([*names(), "wide-head"])
    assert networks_beginning("cifar-w") == ["cifar-wide-cnn"]
    assert studies_beginning("nothing") == []


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
    ],
)
def test_bash_is_answered(typed: str, offered: list[str]) -> None:
    words = typed.split()
    environment = {
        **os.environ, "PYTHONPATH": str(Path(gossamer.__file__).parents[1]),
        "_GOSSAMER_COMPLETE": "complete_bash", "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    code = "import sys; sys.argv = ['gossamer']; from gossamer.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env=environment, text=True
    )
    assert done.stdout.split() == offered
    assert done.stderr == ""


def test_help_and_completion_load_nothing_heavy() -> None:
    code = (
        "import sys, gossamer.commands.app, gossamer.commands.completion;"
        "gossamer.commands.completion.studies_beginning('');"
        "heavy = {'torch', 'numpy', 'scipy', 'pydantic', 'altair', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")

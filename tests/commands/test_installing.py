"""Each install does what it is for, and says in one sentence what is missing for the rest."""

import ast
import json
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import gossamer
from absent_packages import COMMAND, DECLARED, run_without
from gossamer import MissingPackageError
from gossamer.commands import COMMANDS as KNOWN
from gossamer.core import installing

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
INSTALLS = ("", "prune", "audit", "studies", "onnx")
"""The extras that users start from; "" is NumPy alone."""
BEHIND_OTHERS = {
    "altair": ("jinja2", "markupsafe"), "torch": ("jinja2", "markupsafe"), "typer": ("click",),
    "scikit-learn": ("scipy",),
}  # fmt: skip
"""Modules that a package brings by its own requirements."""
COMMANDS = sorted(KNOWN)


def required(extra: str) -> set[str]:
    """Return the names of the packages that an extra brings."""
    if not extra:
        return set()
    found = set()
    for requirement in EXTRAS[extra]:
        name = re.split(r"[\[<>=]", requirement)[0]
        if name != "gossamer":
            found.add(name)
            continue
        for inner in re.findall(r"\[(.*)\]", requirement)[0].split(","):
            found |= required(inner)
    return found


def absent_with(extra: str) -> tuple[str, ...]:
    """Return the modules that cannot be imported where one extra is installed."""
    modules = {name: module for module, name in installing.PACKAGES.items()}
    packages = required(extra)
    present = {modules[name] for name in packages if name in modules}
    present |= {module for name in packages for module in BEHIND_OTHERS.get(name, ())}
    return tuple(sorted(set(DECLARED) - present))


def brings(sentence: str, package: str) -> bool:
    """Return whether the extra that a sentence tells to install brings a package."""
    (extra,) = set(re.findall(r"pip install [^`]*\[(\w+)\]", sentence))
    return package in required(extra)


def assert_says_what_to_install(sentence: str) -> None:
    """Check one sentence: what is missing, and a command that brings it."""
    found = re.search(r"needs (\S+), which is not installed: run `pip install", sentence)
    assert found, sentence
    assert brings(sentence, found[1]), sentence


NAMES = """
import gossamer
for name in gossamer.__all__:
    try:
        getattr(gossamer, name)
        print(json.dumps([name, ""]))
    except gossamer.MissingPackageError as error:
        print(json.dumps([name, str(error)]))
"""


@cache
def names_without(extra: str) -> dict[str, str]:
    done = run_without(absent_with(extra), NAMES)
    assert done.stderr == ""
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("extra", INSTALLS)
def test_every_public_name_is_there_or_says_what_to_install(extra: str) -> None:
    found = names_without(extra)
    assert list(found) == gossamer.__all__
    for sentence in filter(None, found.values()):
        assert_says_what_to_install(sentence)
    there = {name for name, sentence in found.items() if not sentence}
    assert {"load", "Predictor", "InputError", "MissingPackageError"} <= there
    pruning = {"prune", "Mask", "find_mask", "compact", "compress", "SparseLinear", "export_onnx"}
    auditing = {"audit", "Leakage"}
    expected = {
        "": set(), "prune": pruning | {"Leakage"}, "audit": auditing, "onnx": pruning,
        "studies": pruning | auditing,
    }[extra]  # fmt: skip
    assert (there & (pruning | auditing)) >= expected
    if extra in ("", "audit"):
        assert not there & pruning


@pytest.mark.parametrize(
    "extra",
    [
        "",
        pytest.param("prune", marks=pytest.mark.slow),
        pytest.param("audit", marks=pytest.mark.slow),
        "studies",
    ],
)
def test_every_command_works_or_says_what_to_install(extra: str, tmp_path: Path) -> None:
    """A command without what it works on complains of that, if it could work at all."""
    for command in COMMANDS:
        study = "demo" if extra == "prune" else "gone.toml"  # a plan takes seconds
        given = {"run": study, "bench": "mlp", "studies": "--schema"}.get(command, "missing")
        more = (
            ("x.npy",) if command == "predict" else ("--dry-run",) * (command in ("run", "bench"))
        )
        done = run_without(absent_with(extra), COMMAND, command, given, *more, folder=tmp_path)
        assert "Traceback" not in done.stderr, done.stderr
        if "which is not installed" in done.stderr:
            assert (done.returncode, done.stdout) == (2, "")
            (sentence,) = done.stderr.splitlines()
            assert sentence.startswith(f"gossamer: gossamer {command} needs ")
            assert_says_what_to_install(sentence)
        works = {
            "": {"predict"}, "audit": {"predict", "audit"},
            "prune": {"predict", "bench", "shrink", "sensitivity"},
            "studies": set(COMMANDS),
        }[extra]  # fmt: skip
        assert ("which is not installed" not in done.stderr) >= (command in works), done.stderr


@pytest.mark.parametrize("option", ["--help", "--version", ""])
def test_with_numpy_alone_help_and_version_are_there(option: str) -> None:
    done = run_without(DECLARED, COMMAND, *filter(None, [option]))
    assert done.returncode == (0 if option else 2)
    assert done.stderr == ""
    if option == "--version":
        assert done.stdout == f"gossamer {PROJECT['version']}\n"
        return
    assert all(command in done.stdout for command in COMMANDS)
    assert {"prune", "audit", "studies"} == set(re.findall(r"\[(\w+)\]", done.stdout))


@pytest.mark.parametrize("extra", ["", "prune", "audit"])
def test_the_help_marks_what_works_and_starts_with_it(extra: str) -> None:
    done = run_without(absent_with(extra), COMMAND, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    works, _, needs = done.stdout.partition("Commands that need more packages:")
    usable = {
        "": {"predict"}, "prune": {"predict", "bench", "studies", "shrink", "sensitivity"},
        "audit": {"predict", "audit", "studies"},
    }[extra]  # fmt: skip
    assert set(re.findall(r"^  ([a-z]+) ", works, re.M)) == usable
    assert set(re.findall(r"^  ([a-z]+) ", needs, re.M)) == set(COMMANDS) - usable
    start = re.search(r"Start with `gossamer (\w+) ", needs)
    assert start
    assert start[1] in usable
    assert run_without(absent_with(extra), COMMAND).stdout == done.stdout


@pytest.mark.parametrize("extra", ["", "audit", "studies"])
def test_an_unknown_command_is_called_unknown(extra: str) -> None:
    for command, hint in (("frob", ""), ("audti", " (did you mean 'audit'?)")):
        done = run_without(absent_with(extra), COMMAND, command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"gossamer: no command {command!r}{hint}: give one of ")
        assert "install" not in done.stderr


def test_what_commands_need_is_what_their_extras_bring() -> None:
    for command, extra in {"bench": "prune", "audit": "audit", "run": "studies"}.items():
        packages = {installing.PACKAGES[module] for module in KNOWN[command].needs}
        assert packages == required(extra)


def test_a_folder_that_was_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installing.own_version() == PROJECT["version"]

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert installing.own_version() == "of no version: it is not installed"


def test_what_only_a_part_of_a_function_needs_is_said_when_it_is_needed() -> None:
    """scikit-learn is imported by one attack, when it runs."""
    absent = tuple({*absent_with("audit"), "sklearn"})
    code = """
import numpy as np, gossamer
random = np.random.default_rng(0)
logits, labels = random.normal(size=(8, 400, 3)), random.integers(0, 3, 400)
members = random.random((8, 400)) < 0.5
try:
    gossamer.audit(logits, labels, members, attacks=["quantile_regression"])
except gossamer.MissingPackageError as error:
    print(error)
"""
    done = run_without(absent, code)
    assert_says_what_to_install(done.stdout)
    assert "scikit-learn" in done.stdout


def test_modules_of_others_are_not_taken_for_parts_of_an_install() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, installing.needing("prune", "x"):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")
    assert not isinstance(caught.value, MissingPackageError)


def test_the_remedy_names_what_gossamer_was_installed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()

    class Installed:
        noted: str | None = None

        def read_text(self, name: str) -> str | None:
            return self.noted if name == "direct_url.json" else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Installed())

    def remedy(url: str, **more: object) -> str:
        Installed.noted = json.dumps({"url": url, **more})
        return installing.remedy("prune")

    assert remedy(clone.as_uri(), dir_info={}) == f"run `pip install '{clone}[prune]'`"
    editable = remedy(clone.as_uri(), dir_info={"editable": True})
    assert editable == f"run `pip install --editable '{clone}[prune]'`"
    wheel = tmp_path / "gossamer-0.1.0.whl"
    wheel.touch()
    assert remedy(wheel.as_uri(), archive_info={}) == f"run `pip install '{wheel}[prune]'`"
    for gone in ("file:///gone", "https://example.org/gossamer.whl"):
        assert "`pip install '.[prune]'` in a clone" in remedy(gone)
    Installed.noted = None
    assert "`pip install '.[prune]'` in a clone" in installing.remedy("prune")


def texts() -> list[Path]:
    folders = ("src", "tests", "docs", "benchmarks", "examples", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    suffixes = ("", ".py", ".md", ".toml", ".j2")
    own = Path(__file__)
    pages = [path for path in found if path.suffix in suffixes and path != own]
    return [*pages, ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml"]


def test_every_sentence_about_installing_names_an_install_that_there_is() -> None:
    named = set()
    for path in texts():
        text = path.read_text()
        for sentence in re.findall(r"pip install [^`\n]*", text):
            for extras in re.findall(r"\[([\w{},]+)\]", sentence):
                named |= {extra for extra in extras.split(",") if "{" not in extra}
        # No package index has it: a name alone would install somebody else's package, or nothing.
        by_name = r"pip\s+install\s+(?:\"\s+\")?(?:-\S+\s+|\"\s+\")*['\"]?gossamer(?![\w./-])"
        assert not re.search(by_name, text), path
    assert named >= {"prune", "audit", "studies", "onnx", "cluster", "tensorboard"}
    assert named <= set(EXTRAS)


def test_every_package_that_is_imported_is_in_an_extra() -> None:
    brought = {name for extra in EXTRAS for name in required(extra)}
    declared = set(installing.PACKAGES.values())
    assert declared - {"click", "markupsafe"} <= brought  # those come with typer and jinja2
    imported = set()
    for path in (ROOT / "src/gossamer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    others = imported - sys.stdlib_module_names - {"gossamer", "numpy", ""}
    others -= {"pydantic_core", "threadpoolctl"}  # come with pydantic and scikit-learn
    assert others <= set(installing.PACKAGES)
    assert set(installing.PACKAGES) == set(DECLARED)


def test_the_base_needs_numpy_alone() -> None:
    assert [re.split(r"[<>=]", one)[0] for one in PROJECT["dependencies"]] == ["numpy"]
    plotting = {"altair", "vl-convert-python", "jinja2"}
    assert not plotting & required("prune")
    assert "torch" not in required("audit")
    assert required("all") >= set().union(
        *(required(e) for e in EXTRAS if e not in ("all", "dev", "docs", "zoo", "bench"))
    )


def test_the_page_on_installing_has_the_extras_in_one_table() -> None:
    rows = re.findall(
        r"^\| .* \| `pip install '\.\[(\w+)\]'` \|",
        (ROOT / "docs" / "install.md").read_text(),
        re.M,
    )
    assert set(rows) == set(EXTRAS)

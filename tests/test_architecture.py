"""The house: imports point only to rooms listed above, and some rooms never import torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gossamer

HOUSE = Path(gossamer.__file__).parent
ROOMS = (
    "core", "stats", "records", "kernels", "engine", "runtime", "leakage", "data", "networks",
    "graph", "masks", "measures", "training", "compression", "recipes", "studies", "reporting",
    "benchmarking", "shrinking", "commands",
)  # fmt: skip
WITHOUT_TORCH = ROOMS[:7]


WHAT_REPORTS_SAY_OF_NUMBERS = "gossamer.leakage.attacks", "gossamer.measures"
"""All that there is to say of an attack or a measure is in its one file, for reports, too."""


def imported_rooms(path: Path) -> set[str]:
    found = set()
    said = WHAT_REPORTS_SAY_OF_NUMBERS if path.parent.name == "reporting" else ()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gossamer."):
            if str(node.module).startswith(said):
                continue
            found.add(str(node.module).split(".")[1])
        if isinstance(node, ast.Import):
            found |= {n.name.split(".")[1] for n in node.names if n.name.startswith("gossamer.")}
    return found


def present_rooms() -> list[str]:
    return [room for room in ROOMS if (HOUSE / room).is_dir()]


@pytest.mark.parametrize("room", present_rooms())
def test_imports_point_to_rooms_above(room: str) -> None:
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    if room == "reporting":
        allowed = {"core", "stats", "records", "reporting"}
    for path in (HOUSE / room).rglob("*.py"):
        assert imported_rooms(path) <= allowed, path


def test_every_folder_is_a_room_of_the_house() -> None:
    folders = {path.name for path in HOUSE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(ROOMS)


def test_nothing_lies_loose_beside_the_rooms() -> None:
    files = {path.name for path in HOUSE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed"}


FILE_LINES, FUNCTION_LINES = 450, 60
"""The most of a file, and of a function beside its docstring, which may have parameters to tell."""


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    lengths = {path: path.read_text().count("\n") for path in HOUSE.rglob("*.py")}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {}
    for path in HOUSE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                first = node.body[0]
                if ast.get_docstring(node, clean=False) is not None:
                    lines -= (first.end_lineno or 0) - first.lineno + 1
                lengths[f"{path}: {node.name}"] = lines
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


@pytest.mark.parametrize("room", [room for room in present_rooms() if room in WITHOUT_TORCH])
def test_some_rooms_never_import_torch(room: str) -> None:
    for path in (HOUSE / room).rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {
            n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names
        }
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not any(name.split(".")[0] == "torch" for name in names), path


@pytest.mark.parametrize(
    "module",
    [
        "gossamer",
        "gossamer.commands.app",
        "gossamer.reporting",
        "gossamer.studies.run",
        "gossamer.commands.run_display",
    ],
)
def test_planning_and_reporting_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_import_changes_nothing_in_the_process() -> None:
    code = (
        "import warnings, torch, scipy.special;"
        "before = (torch.get_num_threads(), list(warnings.filters));"
        "import gossamer, gossamer.recipes.trial_runner, gossamer.reporting, gossamer.masks;"
        "assert before == (torch.get_num_threads(), list(warnings.filters))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

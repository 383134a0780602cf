"""Building where no compiler can make the kernels: the package is installed all the same."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CMAKE = shutil.which("cmake")


def configured(folder: Path, *options: str) -> str:
    """Return what CMake says; raise if it fails."""
    if CMAKE is None or shutil.which("c++") is None:
        pytest.skip("needs CMake and a C++ compiler")
    command = [CMAKE, "-S", str(ROOT), "-B", str(folder), f"-DPython_EXECUTABLE={sys.executable}"]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return done.stdout


def test_a_compiler_without_vectors_builds_the_package_without_kernels(tmp_path: Path) -> None:
    said = configured(tmp_path, "-DCMAKE_CXX_FLAGS=-D__builtin_shufflevector=not_known")
    assert "the package is built without them" in said
    assert not list(tmp_path.rglob("*_native*"))


def test_a_compiler_that_takes_no_such_flags_does_so_too(tmp_path: Path) -> None:
    said = configured(tmp_path, "-DCMAKE_CXX_COMPILER=/bin/false", "-DCMAKE_CXX_COMPILER_WORKS=1")
    assert "the package is built without them" in said

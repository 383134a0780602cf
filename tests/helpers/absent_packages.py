"""Processes in which some packages are not installed, as far as an import can tell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gossamer

DECLARED = (
    "torch", "scipy", "sklearn", "pydantic", "typer", "click", "rich", "safetensors", "pooch",
    "altair", "vl_convert", "jinja2", "markupsafe", "onnx", "onnxruntime", "onnxscript",
    "tensorboard", "pyarrow", "dask", "distributed", "fsspec", "PIL",
)  # fmt: skip
"""Everything that gossamer may import beside NumPy."""
COMMAND = "from gossamer.__main__ import main; main()"
_BLOCKER = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED or name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(json.loads(sys.argv.pop(1)))
sys.meta_path.insert(0, Blocker())
"""


def run_without(
    absent: tuple[str, ...], code: str, *arguments: str | Path, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in which some packages cannot be imported."""
    environment = {**os.environ, "PYTHONPATH": str(Path(gossamer.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", _BLOCKER + code, json.dumps(absent), *map(str, arguments)],
        capture_output=True, check=False, cwd=folder, env=environment, text=True,
    )  # fmt: skip

"""What machine and which libraries the numbers come from."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gossamer.records.record import Environment

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "safetensors", "pydantic")


@cache
def describe_environment(threads: int, device: str) -> Environment:
    """Return what determines the bits of a number on this machine."""
    return Environment(
        gossamer=_version("gossamer"),
        python=platform.python_version(),
        torch=_version("torch"),
        libraries={name: _version(name) for name in _LIBRARIES},
        processor=_processor(),
        machine=f"{platform.system()} {platform.machine()}",
        threads=threads,
        device=device,
        revision=_revision(),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    """Return the processor's model name, with the widest vector instructions it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {name.strip(): value.strip() for name, value in fields.items()}
    flags = values.get("flags", "").split()
    vectors = next((f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in flags), "")
    return " ".join(filter(None, [values.get("model name", platform.machine()), vectors]))


def _revision() -> str | None:
    """Return the git revision of gossamer's own source, with a + if files were changed."""
    source = Path(__file__).resolve().parents[3]
    if not (source / ".git").exists():
        return None
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],  # noqa: S607
            cwd=source,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()

"""What times are measured on: the processor, its caches, and the versions of what is compared."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gossamer.core.system import available_cores
from gossamer.engine import Network
from gossamer.engine.native import Engine
from gossamer.records.environment import describe_environment
from gossamer.records.speed import Machine

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_EMPTY = Network((1,), (), 0)
_COMPARED = ("onnx", "onnxruntime", "onnxscript")


def machine(threads: int) -> Machine:
    """Return what the times are measured on."""
    return Machine(
        environment=describe_environment(threads, "cpu"),
        cores=available_cores(),
        caches=_caches(),
        instruction_set=Engine(_EMPTY).instruction_set,
        versions=dict(_versions()),
    )


def _caches() -> dict[str, int]:
    """Return the bytes of each cache of the first core, where Linux tells them."""
    found = {}
    for folder in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = (
                (folder / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        found[f"L{level}{'' if kind == 'Unified' else kind[0].lower()}"] = 1024 * int(
            size.rstrip("K")
        )
    return found


def _versions() -> Iterator[tuple[str, str]]:
    for name in _COMPARED:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue

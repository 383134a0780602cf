"""What every benchmark needs: repeats that alternate, medians, and a file that says where."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.records.environment import describe_environment

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle repeat."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Fastest and slowest repeat."""
        return min(self.seconds), max(self.seconds)


def alternate(candidates: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, Timing]:
    """Time candidates in turn, so that a change of the machine's speed meets all of them.

    Each is run once beforehand, untimed.
    """
    for candidate in candidates.values():
        candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            started = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def write_result(name: str, threads: int, result: Mapping[str, Any]) -> Path:
    """Write a result with the machine it was measured on; return the file."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    environment = describe_environment(threads, "cpu").model_dump(mode="json")
    content = {**result, "environment": environment, "date": time.strftime("%Y-%m-%d")}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path

import os
from pathlib import Path

import pytest

from gossamer.core import system
from gossamer.core.system import (
    available_cores,
    available_memory,
    environment_threads,
    failure_reason,
)


@pytest.fixture(autouse=True)
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the control groups be those that a test writes."""
    monkeypatch.setattr(system, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(system, "_OWN_GROUPS", tmp_path / "own")
    return tmp_path


def write_groups(folder: Path, own: str, files: dict[str, str]) -> None:
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        (
            "5:cpu,cpuacct:/c\n0::/\n",
            {"cpu,cpuacct/c/cpu.cfs_quota_us": "400000", "cpu,cpuacct/c/cpu.cfs_period_us": "1e5"},
            8,
        ),
        (
            "5:cpu,cpuacct:/c\n4:memory:/c\n",
            {
                "cpu,cpuacct/c/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            "5:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        ("", {}, 8),
    ],
)
def test_a_quota_of_time_is_one_of_cores(
    groups: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    write_groups(groups, own, files)
    assert available_cores() == cores


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"MKL_NUM_THREADS": " 2 "}, 2),
        ({"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": "-1"}, None),
        ({"OMP_NUM_THREADS": "all", "MKL_NUM_THREADS": "5"}, 5),
    ],
)
def test_threads_of_the_environment(given: dict[str, str], threads: int | None) -> None:
    assert environment_threads(given) == threads


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert available_cores() == 3


def test_where_processes_have_no_cores_of_their_own_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_reasons_are_those_of_the_system_or_else_the_text() -> None:
    assert failure_reason(PermissionError(13, "Permission denied")) == "permission denied"
    assert failure_reason(OSError("Odd thing")) == "odd thing"


def test_memory_is_known_on_linux_and_never_negative() -> None:
    available = available_memory()
    assert available is None or available > 2**20
    if Path("/proc/meminfo").exists():
        assert available is not None


@pytest.mark.parametrize("limit", ["1000000\n", "max\n", ""])
def test_a_containers_limit_counts(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(system, "_LIMITS", (str(tmp_path / "memory.max"),))
    monkeypatch.setattr(system, "_free_memory", lambda: 5_000_000)
    assert available_memory() == (1_000_000 if limit.startswith("1") else 5_000_000)

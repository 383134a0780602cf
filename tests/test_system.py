import os

import pytest

from gossamer.system import available_cores, failure_reason


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

import platform
from pathlib import Path

import pytest
import torch

from gossamer.records import environment
from gossamer.records.environment import describe_environment


def test_environment_names_what_determines_the_bits() -> None:
    found = describe_environment(3, "cpu")
    assert (found.threads, found.device) == (3, "cpu")
    assert found.torch.split("+")[0] == torch.__version__.split("+")[0]
    assert found.python == platform.python_version()
    assert set(found.libraries) >= {"numpy", "safetensors"}
    assert "unknown" not in found.libraries.values()
    assert found.processor


def test_a_library_that_is_not_installed_is_unknown() -> None:
    assert environment._version("no-such-library-anywhere") == "unknown"


def test_a_machine_without_cpuinfo_has_a_processor_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(path: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert environment._processor() == (platform.processor() or platform.machine())


def test_git_that_fails_means_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment._revision() is None

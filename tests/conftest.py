"""Settings and fixtures of all tests."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from running_commands import Gossamer, Outcome

# How long an example takes says nothing where other work shares the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Keep the hundreds of thousands of objects of all modules out of each later collection.

    Whatever is timed collects garbage first, which would take a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def what_tests_import_is_kept() -> None:
    """Keep also out of it what the tests before have imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Compute on one thread: the networks here are too small for more, and other work waits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def columns() -> int:
    """Return how wide the terminal is on which the command runs."""
    return 80


@pytest.fixture
def gossamer(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    columns: int,
) -> Gossamer:
    """Run the command in this process, in an empty folder of its own."""
    from gossamer.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", f"{columns}")

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["gossamer", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

MUTATIONS = 300


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    found = importlib.util.spec_from_file_location(
        "fuzz_gsm", Path(__file__).with_name("fuzz_gsm.py")
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_damaged_files_are_refused_or_give_right_answers(fuzz: ModuleType, tmp_path: Path) -> None:
    extremes = repr(fuzz.EXTREMES)
    found = fuzz.run(MUTATIONS, 1, tmp_path)
    assert repr(fuzz.EXTREMES) == extremes  # or a mutation would depend on those before it
    assert found.total() == MUTATIONS
    # Each way of damaging was tried, and some damage, in the values, still gives a network.
    assert {key.split(":")[0] for key in found} == {m.__name__ for m, _ in fuzz.MUTATIONS}
    assert found["revalued: ran"] > 0
    assert found["flipped: ran"] == 0

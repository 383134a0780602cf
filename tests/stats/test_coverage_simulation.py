"""The simulation that docs/statistics.md shows the figures of, in small."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    specification = importlib.util.spec_from_file_location(
        "interval_coverage", ROOT / "benchmarks" / "interval_coverage.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, specification.name, module)
    specification.loader.exec_module(module)
    return module


# A share of 400 studies is found within 4 standard deviations, 4.4 points at 95%.
@pytest.mark.parametrize("seeds", [3, 8])
def test_intervals_of_normal_values_hold_as_often_as_they_say(simulation: Any, seeds: int) -> None:
    found = simulation.coverage("normal", seeds, 400)
    assert found.taken == pytest.approx(0.95, abs=0.044)
    assert found.student == pytest.approx(0.95, abs=0.044)
    assert found.two_groups < 0.03


def test_those_of_skewed_ones_hold_less_often_and_ten_together_far_less(simulation: Any) -> None:
    few, many = (simulation.coverage("lognormal", seeds, 400) for seeds in (5, 20))
    assert few.student == pytest.approx(0.825, abs=0.08)
    assert few.student_all < 0.75
    assert many.taken > many.student + 0.02


def test_a_collapse_among_the_seeds_is_seen_and_one_that_did_not_happen_is_not(
    simulation: Any,
) -> None:
    found = simulation.coverage("normal, one in ten collapsed", 20, 200)
    # Two or more of twenty are seen as one or more; none with probability 0.9^20 = 12%.
    assert found.two_groups == pytest.approx(1 - 0.9**20, abs=0.1)
    assert found.taken < 0.05

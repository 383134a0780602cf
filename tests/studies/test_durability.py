"""Small forms of what `benchmarks/durability` does to a store many times."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from benchmarks.durability import damage, kills
from benchmarks.durability.damage import Snapshots, campaign


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    return damage.snapshots(tmp_path_factory.mktemp("durable"))


@pytest.mark.parametrize(
    ("what", "count"), [(damage.flip, 8), (damage.swap, 3), (damage.cut, 3), (damage.delete, 3)]
)
def test_whatever_is_damaged_the_numbers_are_those_of_a_quiet_run(
    seen: Snapshots, tmp_path: Path, what: Callable[[Path, Random], str], count: int
) -> None:
    found = campaign(seen, what, count, tmp_path / "damaged")
    assert found.total() == count
    assert not [outcome for outcome in found if ": right" not in outcome]


@pytest.mark.slow
def test_whoever_is_killed_the_numbers_are_those_of_a_quiet_run(tmp_path: Path) -> None:
    found = kills.campaign(5, tmp_path)
    assert found["studies that differ"] == 0
    assert found["studies as a quiet run"] >= 1

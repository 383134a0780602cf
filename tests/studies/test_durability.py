"""Small forms of what `benchmarks/durability` does to a store many times."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from benchmarks.durability import damage, full_disk, kills, scheduler_death
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


@pytest.mark.slow
def test_where_the_scheduler_dies_all_is_kept_and_a_rerun_ends_as_a_quiet_run(
    tmp_path: Path,
) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    found = scheduler_death.campaign(2, tmp_path)
    assert found["one sentence"] == 2
    assert found["studies as a quiet run"] >= 1
    assert found.keys() <= {
        "one sentence",
        "finished before",
        "everything kept",
        "studies as a quiet run",
    }


@pytest.mark.slow
def test_where_the_disk_is_full_all_is_kept_and_with_room_the_run_ends_as_a_quiet_one(
    tmp_path: Path,
) -> None:
    if os.geteuid():
        pytest.skip("a mount is for root")
    try:
        with full_disk.disk(tmp_path / "tried", 2**20):
            pass
    except subprocess.CalledProcessError:
        pytest.skip("nothing can be mounted here")
    found = full_disk.campaign(2, tmp_path)
    assert found == {"one sentence": 2, "studies as a quiet run": 2}

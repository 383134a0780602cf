"""The simulations of intervals and of power that are committed, in small."""

from benchmarks import attack_coverage, attack_power
from benchmarks.attack_coverage import WORLDS, choosing, coverage, trace


def test_intervals_of_areas_hold_in_small() -> None:
    found = coverage(WORLDS["nothing leaks"], 4, audits=40, examples=200)
    assert set(found) == set(attack_coverage.NAMES)
    for name, held in found.items():
        # Of 40 intervals that hold with 95%, fewer than 33 do in one of 2,000 audits.
        assert (held["auc"] or 0) >= 33 / 40, name


def test_one_model_has_no_attack_with_references() -> None:
    assert set(coverage(WORLDS["all leak alike"], 0, audits=3, examples=200)) == {
        "loss",
        "modified_entropy",
    }


def test_the_strongest_is_held_by_the_interval_for_all_together() -> None:
    found = choosing(4, audits=25, examples=300)
    assert found["together"]["holds"] >= found["plain"]["holds"]
    assert found["together"]["holds"] >= 0.88
    assert found["together"]["points wide"] > found["plain"]["points wide"]


def test_the_trace_of_mutual_references_is_small() -> None:
    for paired in (True, False):
        found = trace(paired, audits=20)
        assert abs(found["points"]) < 0.5 + 4 * found["standard error"]


def test_only_references_tell_leakage_from_how_hard_examples_are() -> None:
    found = attack_power.power("leaks as much, hardness matters less", 4, studies=4, examples=400)
    assert abs(found["known"].points) < 1.5  # nothing leaks more
    assert found["loss"].points > 1.5
    assert abs(found["lira_online"].points) < found["loss"].points


def test_all_attacks_see_half_of_a_leak_go() -> None:
    found = attack_power.power("leaks half", 4, studies=4, examples=400)
    assert set(found) == {"known", *attack_power.NAMES}
    assert all(told.points < -2 and told.falls > 0.5 for told in found.values())

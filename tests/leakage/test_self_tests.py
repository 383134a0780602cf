from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.leakage import audit, self_tests, statistics
from gossamer.leakage.attacks import ATTACKS, Case
from gossamer.leakage.design import Design, find_design, redraw
from gossamer.leakage.ranking import Best
from gossamer.leakage.threshold_split import find_split

PairedMembers = Callable[..., NDArray[np.bool_]]


def leaking_case(members: NDArray[np.bool_], design: Design | None = None, seed: int = 0) -> Case:
    generator = np.random.default_rng(0)
    labels = np.asarray(generator.integers(0, 4, members.shape[1]))
    logits = generator.normal(size=(*members.shape, 4))
    logits[:, np.arange(members.shape[1]), labels] += 3 * members + 2 * generator.normal(
        size=members.shape[1]
    )
    found = design or find_design(members)
    return Case(statistics(logits, labels), labels, found, find_split(found, 0), seed)


@pytest.mark.parametrize("name", ["lira_online", "lira_online_per_example", "rmia", "base"])
def test_random_memberships_are_not_found(paired_members: PairedMembers, name: str) -> None:
    found = self_tests.null_check(ATTACKS[name], leaking_case(paired_members(8, 600)))
    assert found.passed, found.detail


@pytest.mark.parametrize("models", [1, 2, 3])
@pytest.mark.parametrize("name", ["modified_entropy", "loss"])
def test_thresholds_do_not_find_random_memberships(models: int, name: str) -> None:
    members = np.random.default_rng(models).random((models, 600)) < 0.5
    found = self_tests.null_check(ATTACKS[name], leaking_case(members))
    assert found.passed, found.detail


def test_the_null_check_notices_the_naive_design(
    paired_members: PairedMembers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def naively(design: Design, generator: np.random.Generator) -> Design:
        drawn = redraw(design, generator)
        return Design(drawn.members, "independent", np.arange(drawn.models), None)

    monkeypatch.setattr(self_tests, "redraw", naively)
    found = self_tests.null_check(ATTACKS["lira_online"], leaking_case(paired_members(8, 600)))
    assert not found.passed


def test_the_null_check_notices_thresholds_that_saw_what_they_judge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leakily(design: Design, seed: int) -> object:
        split = find_split(design, seed)
        return replace(split, allowed=np.eye(len(split.allowed), dtype=bool))

    members = np.random.default_rng(0).random((1, 400)) < 0.5
    monkeypatch.setattr(self_tests, "find_split", leakily)
    found = self_tests.null_check(ATTACKS["modified_entropy"], leaking_case(members))
    assert not found.passed


@pytest.mark.parametrize("name", ["rmia", "base"])
def test_a_redrawn_target_without_members_is_passed_over(
    paired_members: PairedMembers, name: str
) -> None:
    # Of four examples, one membership in eight puts all or none of them in.
    found = self_tests.null_check(ATTACKS[name], leaking_case(paired_members(4, 4, seed=8)))
    assert found.passed, found.detail


def test_what_cannot_be_redrawn_fails_in_words(
    paired_members: PairedMembers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_tests, "redraw", lambda design, _: replace(
        design, members=np.ones_like(design.members)
    ))  # fmt: skip
    found = self_tests.null_check(ATTACKS["lira_online"], leaking_case(paired_members(6, 8)))
    assert not found.passed
    assert found.detail == "8 examples are too few to redraw memberships"


@pytest.mark.parametrize("rare", [True, False])
@pytest.mark.parametrize("name", ["loss", "modified_entropy"])
def test_a_handful_of_members_among_thousands_is_redrawn(name: str, rare: bool) -> None:
    members = np.full((2, 20_000), not rare)
    members[0, [5, 19_000, 700]] = members[1, [17, 4]] = rare
    found = self_tests.null_check(ATTACKS[name], leaking_case(members))
    assert found.passed, found.detail


def test_the_reference_check_notices_the_naive_design(paired_members: PairedMembers) -> None:
    members = paired_members(8, 300)
    naive = Design(members, "independent", np.arange(8), None)
    assert not self_tests.references_check(self_tests.count_references(naive)).passed
    counts = self_tests.count_references(find_design(members))
    assert (counts.in_lowest, counts.in_highest) == (3, 3)
    assert (counts.out_lowest, counts.out_highest) == (3, 3)
    assert self_tests.references_check(counts).passed


def test_independent_memberships_pass_the_reference_check() -> None:
    passed = [
        self_tests.count_references(
            find_design(np.random.default_rng(seed).random((12, 500)) < 0.5)
        ).independent
        for seed in range(50)
    ]
    assert sum(passed) >= 49


def test_the_floor_is_not_above_the_best_threshold(paired_members: PairedMembers) -> None:
    case = leaking_case(paired_members(4, 300))
    found = self_tests.floor_check(case.statistics, case.design)
    assert found.passed


def test_a_best_threshold_below_the_floor_is_noticed(
    paired_members: PairedMembers, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = leaking_case(paired_members(4, 300))
    monkeypatch.setattr(self_tests, "best_of", lambda ranked: Best(0.5, 0.0))  # noqa: ARG005
    assert not self_tests.floor_check(case.statistics, case.design).passed


def test_rates_outside_of_their_bounds_are_noticed(paired_members: PairedMembers) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    found = audit(
        generator.normal(size=(2, 200, 3)), labels, paired_members(2, 200), attacks=["gap"]
    )
    assert self_tests.rates_check(found.attacks).passed
    first = found.attacks[0]
    target = first.per_model[0]
    wrong = first.model_copy(
        update={"per_model": (target.model_copy(update={"measures": {"auc": 1.87}}),)}
    )
    assert not self_tests.rates_check((wrong,)).passed

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from gossamer.core.errors import InputError
from gossamer.leakage import Statistics, attack_versions, paired_change, statistics
from gossamer.leakage.attacks.joint import joint_scores
from gossamer.leakage.attacks.lira_online import lira_online
from gossamer.leakage.auditing import audit_statistics
from gossamer.leakage.design import find_design
from gossamer.leakage.references import gather

PairedMembers = Callable[..., NDArray[np.bool_]]
EXAMPLES = 1500


def release(members: NDArray[np.bool_], gain: float, seed: int = 0) -> Statistics:
    """Two-class outputs whose margins grow by `gain` where trained on, around a shared hardness."""
    shared = np.random.default_rng(99).normal(2, 3, members.shape[1])
    margins = shared + gain * members + np.random.default_rng(seed).normal(size=members.shape)
    logits = np.stack([margins, np.zeros_like(margins)], axis=-1)
    return statistics(logits, np.zeros(members.shape[1], dtype=int))


def test_joint_scores_are_those_of_bivariate_gaussians(paired_members: PairedMembers) -> None:
    members = paired_members(8, 12)
    generator = np.random.default_rng(0)
    margins = generator.normal(size=(2, 8, 12)) + members
    margins[1] += margins[0]
    design = find_design(members)
    found = joint_scores(gather(margins[0], design), gather(margins[1], design))
    for target in range(8):
        others = [m for m in range(8) if m not in (target, target ^ 1)]
        density = []
        for inside in (False, True):
            groups = [
                np.array([margins[:, m, e] for m in others if members[m, e] == inside])
                for e in range(12)
            ]
            residuals = np.concatenate([group - group.mean(axis=0) for group in groups])
            covariance = residuals.T @ residuals / (12 * 2)
            density.append(
                [
                    stats.multivariate_normal(group.mean(axis=0), covariance).logpdf(
                        margins[:, target, e]
                    )
                    for e, group in enumerate(groups)
                ]
            )
        expected = np.array(density[1]) - np.array(density[0])
        np.testing.assert_allclose(found[target], expected, rtol=1e-6, atol=1e-6)


def test_the_same_release_twice_tells_what_one_tells(paired_members: PairedMembers) -> None:
    members = paired_members(8, 300)
    design = find_design(members)
    references = gather(release(members, 1.0).margin, design)
    joint, single = joint_scores(references, references), lira_online(references, pooled=True)
    for target in range(8):
        # Up to a constant of the pooled variances.
        assert np.ptp(joint[target] - single[target]) < 1e-4


def test_a_second_release_helps_the_attacker(paired_members: PairedMembers) -> None:
    members = paired_members(8, EXAMPLES)
    first, second = release(members, 1.0, 0), release(members, 1.0, 1)
    alone = audit_statistics(first, np.arange(EXAMPLES) % 2, members, attacks=["lira_online"])
    both = attack_versions(first, second, members)["joint"]
    assert both.auc.value > alone.attack("lira_online").auc.value + 0.03
    # Two independent looks at distance 1 make one at distance sqrt 2; means are estimated from
    # three references, so that theory is not quite reached.
    assert both.auc.value < stats.norm.cdf(1.0)


def test_shadows_of_the_same_release_make_the_usual_attack(paired_members: PairedMembers) -> None:
    members = paired_members(8, EXAMPLES)
    first = release(members, 1.0)
    usual = audit_statistics(first, np.arange(EXAMPLES) % 2, members, attacks=["lira_online"])
    found = attack_versions(first, first, members)["foreign"]
    assert found.auc == usual.attack("lira_online").auc
    assert found.tpr_at == usual.attack("lira_online").tpr_at


def test_wrong_shadows_cost_the_attacker(paired_members: PairedMembers) -> None:
    members = paired_members(8, EXAMPLES)
    shadows, targets = release(members, 3.0, 0), release(members, 1.0, 1)
    found = attack_versions(shadows, targets, members)["foreign"]
    right = attack_versions(targets, targets, members)["foreign"]
    assert found.balanced_accuracy.value < right.balanced_accuracy.value
    assert found.auc.value > 0.6


def test_the_attacker_who_does_not_know_fixes_thresholds_on_the_shadows(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(8, EXAMPLES)
    shadows = release(members, 2.0)
    higher = replace(shadows, margin=shadows.margin + 2)
    found = attack_versions(shadows, higher, members)["foreign"]
    # The sparse release is surer of everything, which the attacker takes for membership.
    assert found.rate_at(0.01).realised_fpr > 0.05
    assert attack_versions(shadows, shadows, members)["foreign"].rate_at(0.01).realised_fpr < 0.02


def test_nothing_changes_between_equal_releases(paired_members: PairedMembers) -> None:
    members = paired_members(8, EXAMPLES)
    first = release(members, 1.0)
    found = paired_change(first, first, members)
    assert found.summary.auc.value == 0.0
    assert found.summary.evidence.value == 0.0
    np.testing.assert_array_equal(found.examples, 0)
    assert (found.summary.examples_rising, found.summary.examples_falling) == (0.0, 0.0)


def test_a_change_is_seen_over_pairs_and_example_by_example(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(16, EXAMPLES)
    found = paired_change(release(members, 0.3, 0), release(members, 2.0, 1), members)
    summary = found.summary
    assert summary.units == 8
    assert summary.auc.low is not None
    assert summary.auc.low > 0.1
    assert summary.evidence.low is not None
    assert summary.evidence.low > 0
    assert found.examples.mean() == pytest.approx(summary.evidence.value, rel=1e-5)
    assert summary.examples_rising is not None
    assert summary.examples_falling is not None
    assert summary.examples_rising > 0.2 > 0.025 > summary.examples_falling


@pytest.mark.slow
def test_rates_of_two_releases_have_intervals_that_hold(paired_members: PairedMembers) -> None:
    foreign, changes = [], []
    for seed in range(50):
        members = paired_members(16, 500, seed)
        first, second = release(members, 1.5, 2 * seed), release(members, 1.0, 2 * seed + 1)
        foreign.append(attack_versions(first, second, members)["foreign"].rate_at(0.01).tpr)
        changes.append(dict(paired_change(first, second, members).summary.tpr_at)[0.01])
    for found in (foreign, changes):
        mean = np.mean([one.value for one in found])
        low = np.array([one.low for one in found], dtype=np.float64)
        high = np.array([one.high for one in found], dtype=np.float64)
        assert np.mean((low <= mean) & (mean <= high)) >= 0.9


def test_without_a_change_examples_move_by_chance_alone(paired_members: PairedMembers) -> None:
    members = paired_members(16, 4000)
    found = paired_change(release(members, 1.0, 0), release(members, 1.0, 1), members).summary
    assert found.auc.low is not None
    assert found.auc.high is not None
    assert found.auc.low < 0.005
    assert found.auc.high > -0.005
    assert found.examples_rising == pytest.approx(0.025, abs=0.015)
    assert found.examples_falling == pytest.approx(0.025, abs=0.015)


def test_what_cannot_be_compared_is_refused(paired_members: PairedMembers) -> None:
    members = paired_members(8, 50)
    whole = release(members, 1.0)
    with pytest.raises(InputError, match="expected the same"):
        attack_versions(whole, whole.select(np.arange(40)), members)["joint"]
    few = release(members[:4], 1.0)
    with pytest.raises(InputError, match="as three pairs of models give"):
        attack_versions(few, few, members[:4])["foreign"]
    for attack in (attack_versions, paired_change):
        odd = release(members[:7], 1.0)
        with pytest.raises(InputError, match="members: model 6 has no mate among the others"):
            attack(odd, odd, members[:7])
    drawn = np.random.default_rng(0).random((31, 50)) < 0.5
    loose = release(drawn, 1.0)
    with pytest.raises(InputError, match="expected such pairs"):
        paired_change(loose, loose, drawn)

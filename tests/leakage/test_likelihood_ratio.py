from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from gossamer.leakage.attacks.lira_offline import lira_offline
from gossamer.leakage.attacks.lira_online import lira_online
from gossamer.leakage.design import Design, find_design, redraw
from gossamer.leakage.ranking import auc, curve, rank
from gossamer.leakage.references import gather

PairedMembers = Callable[..., NDArray[np.bool_]]


def by_brute_force(
    margins: NDArray[np.float64], members: NDArray[np.bool_], target: int, mate: int, pooled: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Online and offline LiRA of one target, from lists of references."""
    others = [m for m in range(len(members)) if m not in (target, mate)]
    sides = [
        [
            [margins[m, example] for m in others if members[m, example] == inside]
            for example in range(members.shape[1])
        ]
        for inside in (False, True)
    ]
    moments = []
    for side in sides:
        means = np.array([np.mean(values) for values in side])
        variances = np.array([np.var(values, ddof=1) for values in side])
        if pooled:
            weights = np.array([len(values) - 1 for values in side])
            variances = np.full(len(side), (weights * variances).sum() / weights.sum())
        moments.append((means, np.sqrt(variances)))
    inside = stats.norm.logpdf(margins[target], *moments[1])
    outside = stats.norm.logpdf(margins[target], *moments[0])
    return inside - outside, (margins[target] - moments[0][0]) / moments[0][1]


@pytest.mark.parametrize("pooled", [True, False])
def test_scores_are_those_of_lists_of_references(
    paired_members: PairedMembers, pooled: bool
) -> None:
    members = paired_members(10, 30)
    margins = np.random.default_rng(1).normal(5, 2, size=members.shape) + members
    references = gather(margins, find_design(members))
    online = lira_online(references, pooled=pooled)
    offline = lira_offline(references, pooled=pooled)
    for target in range(10):
        expected = by_brute_force(margins, members, target, target ^ 1, pooled)
        np.testing.assert_allclose(online[target], expected[0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(offline[target], expected[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(lira_online(references, pooled=pooled, targets=[3]), online[[3]])


@pytest.mark.parametrize("pooled", [True, False])
def test_many_references_give_the_analytic_likelihood_ratio(
    paired_members: PairedMembers, pooled: bool
) -> None:
    generator = np.random.default_rng(0)
    members = paired_members(800, 40)
    hardness, gain = generator.normal(4, 2, 40), generator.uniform(0.5, 3, 40)
    deviation = np.where(members, 0.8, 1.3)
    margins = hardness + gain * members + deviation * generator.normal(size=members.shape)
    found = lira_online(gather(margins, find_design(members)), pooled=pooled)
    analytic = stats.norm.logpdf(margins, hardness + gain, 0.8)
    analytic -= stats.norm.logpdf(margins, hardness, 1.3)
    assert np.corrcoef(found.ravel(), analytic.ravel())[0, 1] > 0.995
    assert np.median(np.abs(found - analytic)) < 0.15


def test_gaussian_margins_are_attacked_as_well_as_theory_allows(
    paired_members: PairedMembers,
) -> None:
    # With means known, the likelihood ratio ranks by the margin's place between them, and the
    # area is Phi(d / sqrt 2) for a distance of d standard deviations; hardness drops out.
    generator = np.random.default_rng(0)
    members = paired_members(200, 2000)
    margins = 10 * generator.normal(size=2000) + 1.5 * members
    margins = margins + generator.normal(size=members.shape)
    scores = lira_online(gather(margins, find_design(members)), pooled=True)
    ranked = [rank(row, inside) for row, inside in zip(scores, members, strict=True)]
    area = np.mean([auc(one) for one in ranked])
    assert area == pytest.approx(stats.norm.cdf(1.5 / np.sqrt(2)), abs=0.005)
    found = np.mean([curve(one, np.array([0.01]))[0] for one in ranked])
    assert found == pytest.approx(stats.norm.sf(stats.norm.isf(0.01) - 1.5), abs=0.02)


def test_one_reference_a_side_is_too_few(paired_members: PairedMembers) -> None:
    members = paired_members(4, 20)
    references = gather(np.random.default_rng(0).normal(size=members.shape), find_design(members))
    assert np.isnan(lira_online(references, pooled=True)).all()
    assert np.isnan(lira_offline(references, pooled=True)).all()


def test_models_that_agree_exactly_prove_nothing(paired_members: PairedMembers) -> None:
    members = paired_members(8, 20)
    references = gather(np.ones(members.shape), find_design(members))
    for pooled in (True, False):
        np.testing.assert_array_equal(lira_online(references, pooled=pooled), 0.0)


def mean_area(
    margins: NDArray[np.float32], design: Design, members: NDArray[np.bool_], *, pooled: bool = True
) -> float:
    scores = lira_online(gather(margins, design), pooled=pooled)
    pairs = zip(scores, members, strict=True)
    return float(np.mean([auc(rank(row, inside)) for row, inside in pairs]))


def naive(members: NDArray[np.bool_]) -> Design:
    """The design that leaves out the target alone."""
    return Design(members, "independent", np.arange(len(members)), None)


@pytest.mark.parametrize(
    ("models", "examples"), [(6, 60_000), (8, 20_000), (16, 60_000), (32, 20_000)]
)
def test_without_leakage_leaving_the_mate_out_finds_none(
    paired_members: PairedMembers, models: int, examples: int
) -> None:
    members = paired_members(models, examples)
    generator = np.random.default_rng(models)
    hardness = 3 * generator.normal(size=examples)
    margins = (hardness + generator.normal(size=members.shape)).astype(np.float32)
    design = find_design(members)
    assert 0.49 <= mean_area(margins, design, members) <= 0.51
    assert 0.49 <= mean_area(margins, design, members, pooled=False) <= 0.51


@pytest.mark.parametrize("each", [3, 4, 5])
def test_without_leakage_a_balanced_design_finds_none(each: int) -> None:
    generator = np.random.default_rng(each)
    members = generator.random((8, 20_000)).argsort(axis=0) < each
    margins = (3 * generator.normal(size=20_000) + generator.normal(size=members.shape)).astype(
        np.float32
    )
    assert 0.49 <= mean_area(margins, find_design(members), members) <= 0.51


@pytest.mark.parametrize(
    ("models", "pooled", "highest"),
    [(6, True, 0.47), (8, True, 0.48), (6, False, 0.40), (8, False, 0.46), (16, False, 0.49)],
)
def test_the_naive_design_misses_by_counting(
    paired_members: PairedMembers, models: int, pooled: bool, highest: float
) -> None:
    # Each example is in half of the models, so that the target's own side is one short and the
    # estimates of that side are noisier: members score lower although nothing leaks.
    members = paired_members(models, 20_000)
    margins = np.random.default_rng(models).normal(size=members.shape).astype(np.float32)
    assert mean_area(margins, naive(members), members, pooled=pooled) < highest


@pytest.mark.parametrize(
    ("models", "shared", "lowest", "highest"),
    [
        (6, 1.0, 0.0, 0.005), (16, 1.0, 0.0, 0.005), (32, 1.0, 0.0, 0.01),
        (6, 0.7, 0.32, 0.36), (16, 0.7, 0.39, 0.42), (32, 0.7, 0.42, 0.46),
        (6, 0.0, 0.45, 0.48), (16, 0.0, 0.485, 0.5), (32, 0.0, 0.49, 0.503),
    ],
)  # fmt: skip
def test_the_naive_design_takes_the_mate_for_the_other_side(
    paired_members: PairedMembers, models: int, shared: float, lowest: float, highest: float
) -> None:
    # Nothing leaks. But the mate is always on the other side, and mates may have more in common
    # than an example's hardness: a part of the deviation (`shared`) is the pair's. Then whatever
    # side the target is on, the other one looks more like it. The null area of the naive design
    # falls from just below one half to 0.00; with the mate left out it stays.
    examples = 20_000
    members = paired_members(models, examples)
    generator = np.random.default_rng(models)
    hardness = 3 * generator.normal(size=examples)
    pairs = np.repeat(generator.normal(size=(models // 2, examples)), 2, axis=0)
    own = generator.normal(size=members.shape)
    margins = hardness + shared * pairs + np.sqrt(1 - shared**2) * own
    found = margins.astype(np.float32)
    assert lowest <= mean_area(found, naive(members), members) <= highest
    assert 0.49 <= mean_area(found, find_design(members), members) <= 0.51


@pytest.mark.parametrize(("models", "lowest"), [(6, 0.6), (8, 0.6), (16, 0.55), (32, 0.55)])
def test_the_naive_design_finds_random_memberships_in_margins_that_leak(
    paired_members: PairedMembers, models: int, lowest: float
) -> None:
    # Memberships redrawn at random have nothing to do with the margins; but the mate, of the other
    # side by design, is among the references and tells which side is the target's.
    members = paired_members(models, 20_000)
    margins = np.random.default_rng(models).normal(size=members.shape) + 10 * members
    drawn = redraw(find_design(members), np.random.default_rng(1))
    found = margins.astype(np.float32)
    assert mean_area(found, naive(drawn.members), drawn.members) > lowest
    assert 0.49 <= mean_area(found, drawn, drawn.members) <= 0.51

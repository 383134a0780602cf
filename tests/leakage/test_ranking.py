import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from gossamer.core.errors import InputError
from gossamer.leakage.ranking import (
    Ranked,
    auc,
    best_of,
    best_threshold,
    curve,
    placements,
    precision,
    rank,
    transferred_best,
    transferred_tail,
)

SCORES = arrays.arrays(np.float64, st.integers(2, 30), elements=st.integers(-4, 4).map(float))
"""Few distinct values, so that ties are the rule."""

SIDES = arrays.arrays(np.float64, st.integers(1, 20), elements=st.integers(-4, 4).map(float))


def ranked_of(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> Ranked:
    return Ranked(np.sort(inside), np.sort(outside))


@given(SIDES, SIDES)
def test_auc_is_the_share_of_pairs_won(
    inside: NDArray[np.float64], outside: NDArray[np.float64]
) -> None:
    won = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    found = ranked_of(inside, outside)
    assert auc(found) == pytest.approx(won, abs=1e-12)
    truth = np.repeat([1, 0], [len(inside), len(outside)])
    reference = metrics.roc_auc_score(truth, np.concatenate([inside, outside]))
    assert auc(found) == pytest.approx(reference, abs=1e-12)
    first, second = placements(inside, outside)
    assert first.mean() == pytest.approx(won, abs=1e-12)
    assert second.mean() == pytest.approx(won, abs=1e-12)


# Rates within rounding of a count over the others mean that count, so none is drawn that is close
# to one without being it.
@given(SIDES, SIDES, st.floats(0, 1).map(lambda rate: round(rate, 6)))
def test_curve_is_the_best_that_any_threshold_reaches(
    inside: NDArray[np.float64], outside: NDArray[np.float64], rate: float
) -> None:
    thresholds = [*np.unique(np.concatenate([inside, outside])), np.inf]
    reached = [(inside >= t).mean() for t in thresholds if (outside >= t).mean() <= rate]
    found = curve(ranked_of(inside, outside), np.array([rate]))[0]
    assert found == pytest.approx(max(reached, default=0.0), abs=1e-12) or rate == 1.0


def test_everything_may_be_accused_at_a_rate_of_one() -> None:
    assert curve(Ranked(np.array([0.0]), np.array([5.0])), np.array([1.0]))[0] == 1.0


@given(SCORES, st.data())
def test_best_threshold_is_that_of_an_exhaustive_scan(
    scores: NDArray[np.float64], data: st.DataObject
) -> None:
    members = data.draw(arrays.arrays(np.bool_, len(scores)))
    if members.all() or not members.any():
        members[0] = ~members[0]
    found = best_threshold(scores, members)
    scan = [
        ((scores[members] >= t).mean() + (scores[~members] < t).mean()) / 2
        for t in [*np.unique(scores), np.inf]
    ]
    assert found.balanced_accuracy == pytest.approx(max(scan), abs=1e-12)
    reached = (scores[members] >= found.threshold).mean()
    reached += (scores[~members] < found.threshold).mean()
    assert reached / 2 == pytest.approx(found.balanced_accuracy, abs=1e-12)
    assert best_of(rank(scores, members)) == found
    assert found.threshold in scores


def test_best_threshold_agrees_with_scikit_learn_on_many_scores() -> None:
    generator = np.random.default_rng(0)
    members = generator.random(5000) < 0.7
    scores = np.round(generator.normal(size=5000) + members, 2)
    wrongly, caught, _ = metrics.roc_curve(members, scores, drop_intermediate=False)
    found = best_threshold(scores, members)
    assert found.balanced_accuracy == pytest.approx(((1 + caught - wrongly) / 2).max(), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "members", "message"),
    [
        ([0.0, np.nan], [True, False], "not NaN"),
        ([0.0, 1.0], [True], "one membership an example"),
        ([0.0, 1.0], [True, True], "2 of 2 examples are members"),
    ],
)
def test_what_has_no_best_threshold_is_refused(
    scores: list[float], members: list[bool], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        best_threshold(scores, members)


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0])
def test_gaussian_scores_have_their_closed_form(distance: float) -> None:
    generator = np.random.default_rng(0)
    count = 200_000
    found = ranked_of(generator.normal(distance, 1, count), generator.normal(0, 1, count))
    assert auc(found) == pytest.approx(stats.norm.cdf(distance / np.sqrt(2)), abs=0.003)
    rates = np.array([0.001, 0.01, 0.1])
    expected = stats.norm.sf(stats.norm.isf(rates) - distance)
    np.testing.assert_allclose(curve(found, rates), expected, atol=0.005)
    assert best_of(found).balanced_accuracy == pytest.approx(
        stats.norm.cdf(distance / 2), abs=0.003
    )


@given(st.lists(SIDES, min_size=1, max_size=3), st.floats(0, 1))
def test_transferred_tail_accuses_no_more_than_allowed_and_no_fewer(
    sides: list[NDArray[np.float64]], rate: float
) -> None:
    rows = [ranked_of(side, side) for side in sides]
    everyone = np.ones((len(rows), len(rows)), dtype=bool)
    outside = np.concatenate(sides)
    for threshold in transferred_tail(rows, everyone, rate):
        assert (outside >= threshold).sum() <= rate * len(outside) + 1e-6
        lower = outside[outside < threshold]
        if lower.size:
            assert (outside >= lower.max()).sum() > rate * len(outside) - 1e-6


def rows_of(seed: int, models: int = 4, count: int = 300) -> list[Ranked]:
    generator = np.random.default_rng(seed)
    return [
        ranked_of(generator.normal(1, 1, count), generator.normal(0, 1, count))
        for _ in range(models)
    ]


def test_thresholds_do_not_depend_on_what_they_judge() -> None:
    rows = rows_of(0)
    allowed = ~np.eye(4, dtype=bool)
    changed = [Ranked(rows[0].outside - 9, rows[0].inside + 9), *rows[1:]]
    for before, after in (
        (transferred_best(rows, allowed), transferred_best(changed, allowed)),
        (transferred_tail(rows, allowed, 0.01), transferred_tail(changed, allowed, 0.01)),
    ):
        assert before[0] == after[0]
        assert (before[1:] != after[1:]).any()


def test_transferred_tail_is_that_of_the_pooled_non_members() -> None:
    rows = rows_of(1)
    allowed = np.array([[0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 0]], dtype=bool)
    for rate in (0.001, 0.01, 0.3, 1.0):
        found = transferred_tail(rows, allowed, rate)
        for target, others in enumerate(allowed):
            pool = np.concatenate([r.outside for r, a in zip(rows, others, strict=True) if a])
            wrongly = (pool >= np.array([*pool, np.inf])[:, None]).mean(axis=1)
            fitting = np.array([*pool, np.inf])[wrongly <= rate]
            # The lowest threshold among scores that fits, or any between it and the score below.
            below = pool[pool < fitting.min()]
            assert found[target] <= fitting.min()
            assert rate == 1.0 or found[target] > below.max()


def test_transferred_best_is_the_best_of_the_others() -> None:
    rows = rows_of(2)
    allowed = ~np.eye(4, dtype=bool)
    found = transferred_best(rows, allowed, candidates=10_000)
    for target in range(4):
        inside = np.concatenate([row.inside for i, row in enumerate(rows) if i != target])
        outside = np.concatenate([row.outside for i, row in enumerate(rows) if i != target])
        gain = (inside >= found[target]).mean() - (outside >= found[target]).mean()
        assert (1 + gain) / 2 == pytest.approx(
            best_of(ranked_of(inside, outside)).balanced_accuracy, abs=1e-12
        )
    # Few candidates lose next to nothing, as the optimum is flat.
    coarse = transferred_best(rows, allowed, candidates=64)
    np.testing.assert_allclose(coarse, 0.5, atol=0.3)


def test_precision_is_bayes_rule() -> None:
    assert precision(0.5, 0.1, 0.01) == pytest.approx(0.005 / (0.005 + 0.099))
    assert precision(0.0, 0.0, 0.5) is None
    assert precision(0.2, 0.2, 0.1) == pytest.approx(0.1)

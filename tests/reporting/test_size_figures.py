from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gossamer.reporting.series import groups
from gossamer.reporting.size_figures import Network, effective_figure, front, networks, size_figure
from gossamer.reporting.tables import front_table
from gossamer.stats.intervals import Interval

POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(POINTS)
def test_front_is_what_no_other_network_dominates(points: list[tuple[int, int]]) -> None:
    found = [Network(str(i), 0.0, s, Interval(a, None, None, 1)) for i, (s, a) in enumerate(points)]
    kept = {(one.size, one.accuracy.mean) for one in front(found)}
    expected = {
        (size, accuracy)
        for size, accuracy in points
        if not any((s <= size and a >= accuracy) and (s < size or a > accuracy) for s, a in points)
    }
    assert kept == expected


def test_networks_are_of_their_own_levels_and_sizes(run: Any) -> None:
    found = {(one.arm, one.level): one for one in networks(run.results, groups(run.results)[0])}
    assert len(found) == 1 + 6 * 9
    assert found["dense", 0.0].size == 2_386_000
    assert found["weight", 0.5].size == 2_384_000 / 2 + 2_000
    cut = {
        (one.arm, one.level): one.size
        for one in networks(run.results, groups(run.results)[0], effective=True)
    }
    assert cut["unit", 0.5] < found["unit", 0.5].size
    assert cut["weight", 0.5] == found["weight", 0.5].size


def test_front_is_drawn_and_listed(run: Any) -> None:
    figure = size_figure(run.results)
    assert figure is not None
    best = front(networks(run.results, groups(run.results)[0]))
    drawn = figure.panels[0].rows["size--0"]
    assert [row["size"] for row in drawn] == [one.size for one in best]
    table = front_table(run.results)
    assert table is not None
    assert len(table.sections[0].rows) == len(best)
    assert table.sections[0].rows[0][:2] == ("Weight pruning", "99%")


def test_effective_size_is_drawn_only_if_it_differs(run: Any, make_run: Any) -> None:
    assert effective_figure(run.results) is not None
    levels = (0.3, 0.5, 0.7)
    same = make_run({("dense", 0.0): [0.9], **{("weight", one): [0.9] for one in levels}})
    assert effective_figure(same.results) is None


def test_sizes_that_are_all_the_same_need_no_figure(make_run: Any) -> None:
    assert size_figure(make_run({("dense", 0.0): [0.9, 0.91]}).results) is None
    pruned = {("weight", 0.5): [0.9, 0.91], ("retrained", 0.5): [0.8, 0.81]}
    assert size_figure(make_run({("dense", 0.0): [0.9, 0.91], **pruned}).results) is None
    sparser = {**pruned, ("weight", 0.75): [0.85, 0.86]}
    assert size_figure(make_run({("dense", 0.0): [0.9, 0.91], **sparser}).results) is not None

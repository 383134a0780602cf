from typing import Any

import pytest

from gossamer.reporting.charts import Figure, Panel
from gossamer.reporting.lines import BARE, Quantity, dot_rows, line_panel
from gossamer.reporting.rendering import pictures
from gossamer.reporting.series import all_series, groups
from gossamer.reporting.size_figures import (
    TEST_ACCURACY,
    accuracy_figure,
    accuracy_rows,
    measured,
    size_figure,
)
from gossamer.stats.intervals import Interval, mean_interval


def test_intervals_are_drawn_within_what_can_be() -> None:
    wide = Interval(0.99, 0.95, 1.03, 3)
    assert TEST_ACCURACY.bounds(wide) == (0.95, 1.0)
    assert TEST_ACCURACY.text(wide) == "99.00% [95.00, 100.00]"
    area = Quantity("AUC", "AUC", scale=1, digits=3, unit="")
    assert area.text(Interval(0.5, None, None, 1)) == "0.500"


def test_arms_without_a_level_are_drawn_across(longer: Any, make_run: Any) -> None:
    made = make_run(
        {
            ("dense", 0.0): [0.98, 0.97],
            ("dense-longer", 0.0): [0.99, 0.98],
            **{("weight", level): [0.97, 0.96] for level in (0.3, 0.5, 0.9)},
        },
        longer,
    )
    along, across = accuracy_rows(made.results, groups(made.results)[0])
    assert [row["series"] for row in across] == ["Dense", "Dense, longer"]
    expected = mean_interval([0.99, 0.98])
    assert expected.low is not None
    assert across[1]["mean"] == pytest.approx(100 * expected.mean)
    assert across[1]["low"] == pytest.approx(100 * expected.low, abs=1e-4)
    assert {row["series"] for row in along} == {"Weight pruning"}
    assert [row["level"] for row in along] == [0, 30, 50, 90]


def test_a_panel_of_arms_without_a_level_is_drawn(longer: Any, make_run: Any) -> None:
    results = make_run({("dense-longer", 0.0): [0.99, 0.98]}, longer).results
    (group,) = groups(results)
    rows = accuracy_rows(results, group)
    assert not rows[0]
    panel = line_panel(Panel("accuracy"), results, group, TEST_ACCURACY, rows)
    svg, _ = pictures(Figure("accuracy", "Accuracy", "", (panel,)).file_spec("title"))
    assert b"Dense, longer" in svg


def test_an_arm_of_one_point_is_drawn_as_the_legend_draws_it(longer: Any, make_run: Any) -> None:
    pruned = {("weight", level): [0.97, 0.96] for level in (0.3, 0.5)}
    bare = {("dense", 0.0): [0.98, 0.97], ("dense-longer", 0.0): [0.98, 0.97]}
    (panel,) = size_figure(make_run(bare | pruned, longer).results).panels  # type: ignore[union-attr]
    drawn = {
        layer["mark"].get("shape"): {row["series"] for row in panel.rows[layer["data"]["name"]]}
        for layer in panel.specification["layer"]
        if layer["mark"]["type"] == "point" and "color" in layer["encoding"]
    }
    assert drawn == {None: {"Weight pruning"}, "stroke": {"Dense", "Dense, longer"}}


def test_every_arm_has_its_interval(run: Any) -> None:
    along, _ = accuracy_rows(run.results, groups(run.results)[0])
    of_controls = [row for row in along if row["over"] == "5 seeds" and not row["main"]]
    assert len(of_controls) == 4 * 9
    assert all(row["low"] <= row["mean"] <= row["high"] for row in of_controls)


def test_one_level_gives_dots_with_numbers(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.98, 0.97], ("weight", 0.975): [0.9, 0.92]})
    (group,) = groups(made.results)
    looks, known = all_series(made.results, group), measured(made.results, group)
    rows = dot_rows(made.results, TEST_ACCURACY, looks, known, {})
    assert [(row["series"], row["where"]) for row in rows] == [
        ("Dense", BARE),
        ("Weight pruning", "97.5% sparsity"),
    ]
    interval = mean_interval([0.9, 0.92])
    assert interval.half_width is not None
    assert rows[1]["short"] == f"91.00 ± {100 * interval.half_width:.2f}"
    assert rows[1]["end"] == 100.0  # the interval reaches beyond all examples
    figure = accuracy_figure(made.results)
    assert figure is not None
    assert figure.title == "Test accuracy of each arm"


def test_published_dots_stand_only_beside_measured_ones(make_run: Any) -> None:
    made = make_run({("weight", 0.975): [0.9, 0.92]})
    (group,) = groups(made.results)
    looks, known = all_series(made.results, group), measured(made.results, group)
    single = Interval(0.93, None, None, 1)
    rows = dot_rows(
        made.results,
        TEST_ACCURACY,
        looks,
        known,
        {("weight", 0.975): single, ("weight", 0.92): single, ("unit", 0.975): single},
    )
    assert [(row["over"], row["mean"]) for row in rows] == [("2 seeds", 91.0), ("published", 93.0)]


def test_numbers_of_pairs_are_said_to_be_pairs(leaky: Any) -> None:
    _, across = accuracy_rows(leaky.results, groups(leaky.results)[0])
    assert {row["over"] for row in across} == {"3 pairs of seeds"}


def test_numbers_stand_where_no_grid_is(make_run: Any) -> None:
    for low, high in ((0.1, 0.96), (0.951, 0.953), (0.2, 0.2)):
        made = make_run({("dense", 0.0): [high, high], ("weight", 0.975): [low, low]})
        (panel,) = accuracy_figure(made.results).panels  # type: ignore[union-attr]
        margin, bars, *_ = panel.specification["layer"]
        (begin,) = panel.rows[margin["data"]["name"]]
        axis = bars["encoding"]["x"]["axis"]
        assert max(axis["values"]) < begin["mean"]
        assert 100 * high < begin["mean"]
        assert 3 <= len(axis["values"]) <= 10
        assert bars["encoding"]["x"]["scale"]["domain"][1] > begin["mean"]

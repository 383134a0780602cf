from typing import Any

from gossamer.reporting.charts import STRONG
from gossamer.reporting.series import (
    all_series,
    along_axis,
    axis_levels,
    by_arm,
    groups,
    short_label,
)


def test_arms_share_a_panel_unless_their_datasets_differ(run: Any, make_run: Any) -> None:
    (only,) = groups(run.results)
    assert (only.title, only.arms) == ("", run.study.arms)


def test_each_dataset_has_its_panel(make_run: Any, make_arm: Any) -> None:
    arms = (
        make_arm(name="dense", label="Dense", role="baseline", recipe=()),
        make_arm(name="other", label="Dense too", role="main", recipe=(), dataset="cifar10"),
    )
    made = make_run({("dense", 0.0): [0.9], ("other", 0.0): [0.8]}, arms)
    assert [(one.title, [arm.name for arm in one.arms]) for one in groups(made.results)] == [
        ("mnist", ["dense"]),
        ("cifar10", ["other"]),
    ]


def test_beginnings_of_labels_name_panels_only_if_all_have_one(
    make_run: Any, make_arm: Any
) -> None:
    labels = {"a": "Run 1: dense", "b": "Run 1: sparse", "c": "Run 2: dense"}
    arms = tuple(make_arm(name=n, label=v, role="main", recipe=()) for n, v in labels.items())
    cells = {(name, 0.0): [0.9] for name in labels}
    results = make_run(cells, arms).results
    assert [one.title for one in groups(results)] == ["Run 1", "Run 2"]
    assert [short_label(results, name) for name in "abc"] == ["Dense", "Sparse", "Dense"]
    plain = (*arms[:2], make_arm(name="c", label="Dense", role="main", recipe=()))
    there = (*arms[:2], make_arm(name="c", label="X", role="main", recipe=(), dataset="cifar10"))
    assert [one.title for one in groups(make_run(cells, there).results)] == ["Run 1", "cifar10"]
    assert [one.title for one in groups(make_run(cells, plain).results)] == [""]


def test_main_arms_are_strong_and_their_published_lines_alike(run: Any) -> None:
    looks = all_series(run.results, groups(run.results)[0])
    assert looks["weight", False].colour == looks["weight", True].colour == STRONG[0]
    assert looks["weight", False].dash != looks["weight", True].dash
    assert looks["unit", False].colour == STRONG[1]
    controls = [looks[arm.name, False] for arm in run.study.arms if arm.role == "control"]
    assert not {look.colour for look in controls} & set(STRONG)
    assert len({(look.colour, *look.dash) for look in looks.values()}) == len(looks)


def test_more_main_arms_than_colours_are_told_apart_by_their_dashes(
    make_run: Any, make_arm: Any
) -> None:
    arms = tuple(make_arm(name=f"m{i}", label=f"M{i}", role="main", recipe=()) for i in range(10))
    results = make_run({(arm.name, 0.5): [0.9] for arm in arms}, arms).results
    looks = all_series(results, groups(results)[0]).values()
    assert len({(look.colour, *look.dash) for look in looks}) == 10


def test_few_levels_are_shown_arm_by_arm(run: Any, make_run: Any) -> None:
    few = make_run({("dense", 0.0): [0.9], ("weight", 0.975): [0.8]}).results
    assert by_arm(few)
    assert axis_levels(few) == (0.975,)
    assert (along_axis(few, "weight"), along_axis(few, "dense")) == (True, False)
    assert not by_arm(run.results)


def test_more_controls_than_colours_are_told_apart(make_run: Any, make_arm: Any) -> None:
    names = [f"control-{number}" for number in range(30)]
    arms = tuple(make_arm(name=name, label=name, role="control", recipe=()) for name in names)
    results = make_run({(name, 0.5): [0.9] for name in names}, arms=arms).results
    (group,) = groups(results)
    looks = [all_series(results, group)[name, False] for name in names]
    assert len({look.colour for look in looks[:12]}) == 12
    assert len({(look.colour, tuple(look.dash)) for look in looks}) == 30

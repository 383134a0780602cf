"""Accuracy against the axis of the study."""

from gossamer.report.charts import Figure, Panel, Row
from gossamer.report.dots import dot_panel, dot_rows
from gossamer.report.lines import Intervals, Quantity, level_rows, line_panel, point
from gossamer.report.published_comparisons import comparisons
from gossamer.report.results import ACCURACY, Results
from gossamer.report.series import PUBLISHED, Group, all_series, by_arm, groups
from gossamer.stats.intervals import Interval

TEST_ACCURACY = Quantity("test accuracy", "Test accuracy (%)")


def measured(results: Results, group: Group, measure: str = ACCURACY) -> Intervals:
    """Return the mean of a measure by arm and level, for the arms of a panel."""
    found = {
        (arm.name, level): results.interval(arm.name, level, measure)
        for arm in group.arms
        for level in results.levels(arm.name)
    }
    return {cell: interval for cell, interval in found.items() if interval is not None}


def published(results: Results, group: Group, measure: str = ACCURACY) -> Intervals:
    """Return the published numbers of a measure by arm and level, for the arms of a panel."""
    names = {arm.name for arm in group.arms}
    return {
        (one.arm, one.level): Interval(one.published, None, None, 1)
        for one in comparisons(results)
        if one.measure == measure and one.arm in names
    }


def accuracy_rows(results: Results, group: Group) -> tuple[list[Row], list[Row]]:
    """Points of the arms along the axis and their published figures; arms drawn across it."""
    looks = all_series(results, group)
    along, across = level_rows(results, TEST_ACCURACY, looks, measured(results, group))
    along += [
        point(results, TEST_ACCURACY, looks[arm, True], level, value) | {"over": PUBLISHED}
        for (arm, level), value in published(results, group).items()
        if (arm, True) in looks
    ]
    return along, across


def accuracy_figure(results: Results) -> Figure | None:
    """Accuracy of every arm, and what was published: over the axis, or arm by arm."""
    panels = [
        one for group in groups(results) if (one := _accuracy_panel(results, group)) is not None
    ]
    if not panels:
        return None
    arms = by_arm(results)
    title = f"Test accuracy {'of each arm' if arms else f'against {results.axis}'}"
    words = [f"{title}, {over(results)}."]
    if any(row.get("over") == PUBLISHED for panel in panels for row in panel.all_rows):
        words.append(f"Hollow {'diamonds' if arms else 'points on dashed lines'}: published.")
    if not arms:
        words.append("Click an entry of the legend to single it out, again to release it.")
    return Figure("accuracy", title, " ".join(words), tuple(panels), columns=1)


def _accuracy_panel(results: Results, group: Group) -> Panel | None:
    known = measured(results, group)
    if not known:
        return None
    panel = Panel(f"accuracy-{group.title}" if group.title else "accuracy")
    if by_arm(results):
        looks, shown = all_series(results, group), published(results, group)
        rows = dot_rows(results, TEST_ACCURACY, looks, known, shown)
        return dot_panel(panel, results, group, TEST_ACCURACY, rows)
    return line_panel(panel, results, group, TEST_ACCURACY, accuracy_rows(results, group))


def over(results: Results) -> str:
    """Return what the numbers of a figure rest on, for its caption."""
    return f"{results.basis}, {'without' if results.one_seed else 'with 95%'} intervals"

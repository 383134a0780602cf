"""From rows to the tables of the page, as text that is ready to print."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gossamer.formats import NOTHING, compact, decimal, percent, sentence, spread
from gossamer.records.record import Arm, Phase
from gossamer.report.aggregate import (
    Comparison,
    Results,
    Size,
    comparisons,
    is_fraction,
    sizes,
    used_phases,
)
from gossamer.report.glossary import label
from gossamer.stats.intervals import Interval

WIDE = 3
"""Arms beside each other in one table."""


@dataclass(frozen=True)
class Section:
    """Rows under one heading; the first cell of a row is its name."""

    title: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table as it is printed: groups of columns, their heads, sections of rows."""

    caption: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    note: str = ""

    @property
    def starts(self) -> tuple[int, ...]:
        """Columns that open a group, from 0."""
        ends = accumulate(span for _, span in self.groups)
        first = 1 if len(self.columns) > sum(span for _, span in self.groups) else 0
        return tuple(first + end for end in (0, *ends) if 0 < first + end < len(self.columns))


def _chunks(items: Sequence[Arm]) -> list[Sequence[Arm]]:
    return [items[start : start + WIDE] for start in range(0, len(items), WIDE)]


def _measured(interval: Interval | None, measure: str) -> str:
    if interval is None:
        return NOTHING
    return spread(interval) if is_fraction(measure) else spread(interval, 4, 1)


def published_tables(results: Results) -> list[Table]:
    """One table a measure: published, measured and their difference, arm beside arm."""
    found = comparisons(results)
    tables = []
    for measure in dict.fromkeys(one.measure for one in found):
        here = {(one.arm, one.level): one for one in found if one.measure == measure}
        arms = [arm for arm in results.study.arms if any(name == arm.name for name, _ in here)]
        tables += [_published_table(results, measure, some, here) for some in _chunks(arms)]
    return tables


def _published_table(
    results: Results,
    measure: str,
    arms: Sequence[Arm],
    here: Mapping[tuple[str, float], Comparison],
) -> Table:
    names = {arm.name for arm in arms}
    levels = sorted({level for name, level in here if name in names})
    rows = []
    for level in levels:
        cells: list[str] = []
        for arm in arms:
            cells += _compared(here.get((arm.name, level)))
        rows.append((results.level_text(level), *cells))
    unit = "%" if is_fraction(measure) else "nats" if measure.endswith("loss") else ""
    difference = "difference (points)" if is_fraction(measure) else "difference"
    return Table(
        f"{label(measure)}{f', {unit}' if unit else ''}: published and measured",
        tuple((sentence(arm.label), 3) for arm in arms),
        (sentence(results.axis), *("published", "measured", difference) * len(arms)),
        (Section("", tuple(rows)),),
        _spread_note(results) + " Difference: measured minus published.",
    )


def _compared(one: Comparison | None) -> tuple[str, str, str]:
    if one is None:
        return NOTHING, NOTHING, NOTHING
    fraction = is_fraction(one.measure)
    published = percent(one.published) if fraction else decimal(one.published, 4)
    difference = one.difference
    gap = NOTHING if difference is None else decimal(difference, 2 if fraction else 4, signed=True)
    return published, _measured(one.measured, one.measure), gap


def _spread_note(results: Results) -> str:
    if results.one_seed:
        return "Measured with one seed: a number, never a verdict."
    return "Measured: mean over seeds ± half the width of its 95% interval."


def control_tables(results: Results) -> list[Table]:
    """Test accuracy of the control arms by level."""
    measured = [arm for arm in results.arms("control") if _any_found(results, arm)]
    tables = []
    for start in range(0, len(measured), 4):
        arms = measured[start : start + 4]
        levels = sorted({level for arm in arms for level in results.levels(arm.name)})
        rows = tuple(
            (
                results.level_text(level),
                *(_measured(results.interval(a.name, level), "test_accuracy") for a in arms),
            )
            for level in levels
        )
        columns = (sentence(results.axis), *(sentence(arm.label) for arm in arms))
        caption = "Control arms: test accuracy, %"
        tables.append(Table(caption, (), columns, (Section("", rows),), _spread_note(results)))
    return tables


def _any_found(results: Results, arm: Arm) -> bool:
    return any(results.found(arm.name, level) for level in results.levels(arm.name))


def size_table(results: Results, roles: tuple[str, ...]) -> Table | None:
    """Sizes and work of the arms of some roles, a section an arm."""
    found = sizes(results)
    sections = tuple(
        Section(sentence(arm.label), rows)
        for arm in results.study.arms
        if arm.role in roles
        and (rows := tuple(_size_row(results, one) for one in found if one.arm == arm.name))
    )
    if not sections:
        return None
    return Table(
        sentence(results.basis),
        (("Sparsity, %", 4), ("Size", 2), ("Multiply-adds", 2)),
        (
            sentence(results.axis),
            "requested",
            "prunable",
            "all",
            "effective",
            "non-zero parameters",
            "compressed",
            "dense",
            "non-zero",
        ),
        sections,
    )


def _size_row(results: Results, size: Size) -> tuple[str, ...]:
    def share(measure: str) -> str:
        return percent(size.means[measure]) if measure in size.means else NOTHING

    def count(measure: str, unit: str = "") -> str:
        return compact(size.means[measure], unit) if measure in size.means else NOTHING

    return (
        results.level_text(size.level),
        *(share(m) for m in ("sparsity_requested", "sparsity", "sparsity_all")),
        share("effective_sparsity"),
        count("nonzero_parameters"),
        count("bytes_compressed", "B"),
        count("macs_dense"),
        count("macs_nonzero"),
    )


def arm_table(results: Results) -> Table:
    """Recipe of each arm, in the order of its steps."""
    rows = tuple(
        (sentence(arm.label), arm.role, " → ".join(step_text(step) for step in arm.recipe) or "–")
        for arm in results.study.arms
    )
    return Table("Arms and their recipes", (), ("Arm", "role", "steps"), (Section("", rows),))


def step_text(step: Mapping[str, Any]) -> str:
    """Return a step as it would be called.

    Examples
    --------
    >>> step_text({"step": "train", "epochs": 9, "optimizer": {"name": "sgd", "rate": 0.1}})
    'train(epochs=9, optimizer=sgd(rate=0.1))'
    """
    rest = dict(step)
    kind = rest.pop(next((key for key in ("step", "kind", "type") if key in rest), ""), "step")
    return f"{kind}({', '.join(f'{name}={_plain(value)}' for name, value in rest.items())})"


def _plain(value: Any) -> str:
    """Return a setting as a reader would write it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        rest = {name: part for name, part in value.items() if name != "name"}
        inner = ", ".join(f"{name}={_plain(part)}" for name, part in rest.items())
        return f"{value.get('name', '')}({inner})" if inner else str(value.get("name", "none"))
    if isinstance(value, list | tuple):
        return f"[{', '.join(_plain(part) for part in value)}]"
    return str(value)


def training_table(results: Results, phases: Mapping[str, Phase]) -> Table | None:
    """Each distinct training step with its defaults resolved, one column each."""
    distinct: dict[str, list[Phase]] = {}
    for phase in used_phases(results, phases).values():
        settings = {**phase.step, "precision": phase.precision}
        distinct.setdefault(json.dumps(settings, sort_keys=True, default=str), []).append(phase)
    if not distinct:
        return None
    columns = [_training_column(group) for group in distinct.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = tuple((name, *(column.get(name, NOTHING) for column in columns)) for name in names)
    heads = [f"training {i + 1}" if len(columns) > 1 else "value" for i in range(len(columns))]
    return Table("Training steps, defaults resolved", (), ("Setting", *heads), (Section("", rows),))


def _training_column(group: list[Phase]) -> dict[str, str]:
    column = _flat(group[0].step)
    counts = [f"{steps:,}" for steps in sorted({phase.optimizer_steps for phase in group})]
    return column | {
        "precision": group[0].precision,
        "optimizer steps": counts[0] if len(counts) == 1 else f"{counts[0]} to {counts[-1]}",
        "times done": str(len(group)),
        "stopped early": str(sum(phase.stopped is not None for phase in group)),
    }


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Give each setting a row; the settings of an optimizer follow its name."""
    rows = {}
    for name, value in settings.items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping) and "name" in value:
            rows[words] = str(value["name"])
            rest = {f"{words}: {key}": part for key, part in value.items() if key != "name"}
            rows |= _flat(rest)
        else:
            rows[words] = _plain(value)
    return rows

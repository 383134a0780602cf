"""From rows to the tables of the page, as text that is ready to print."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gossamer.core.formats import NOTHING, compact, decimal, inside, percent, sentence
from gossamer.measures import is_fraction
from gossamer.records.record import Arm, Phase
from gossamer.reporting.glossary import label, spread
from gossamer.reporting.results import Results
from gossamer.reporting.series import groups
from gossamer.reporting.size_figures import Network, front, networks
from gossamer.reporting.summaries import Comparison, Size, comparisons, sizes, used_phases
from gossamer.stats.intervals import Interval

WIDE = 3
"""Arms beside each other in one table."""
FEW_LEVELS = 3
"""Up to this many levels, published numbers are listed a line each."""
NOT_RUN = "not run"
COMPANIONS = {
    "one_hot_attack_accuracy": {
        "best_threshold_attack_accuracy": "what was meant (optimistic)",
        "gap_attack_accuracy": "floor",
    }
}
"""Measures that a defective one is read beside."""


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


def _measured(interval: Interval | None, measure: str) -> str:
    if interval is None:
        return NOTHING
    return spread(interval) if is_fraction(measure) else spread(interval, 4, 1)


def published_tables(results: Results) -> list[Table]:
    """Return tables of published beside measured numbers: a line each where levels are few."""
    found = comparisons(results)
    known = {arm.name for arm in results.study.arms}
    if not any(one.arm in known for one in found):
        return []
    if len({one.level for one in found}) <= FEW_LEVELS:
        return [_listed_table(results, [one for one in found if one.arm in known])]
    tables = []
    for measure in dict.fromkeys(one.measure for one in found):
        here = {(one.arm, one.level): one for one in found if one.measure == measure}
        beside = _companions(results, measure, here)
        arms = [arm for arm in results.study.arms if any(name == arm.name for name, _ in here)]
        wide = 2 if beside else WIDE
        for start in range(0, len(arms), wide):
            some = arms[start : start + wide]
            tables.append(_published_table(results, measure, some, here, beside))
    return tables


def _listed_table(results: Results, found: Sequence[Comparison]) -> Table:
    """One line an arm and level, a section a measure."""
    sections = []
    for measure in dict.fromkeys(one.measure for one in found):
        rows = tuple(
            (
                sentence(results.label(one.arm)),
                results.level_text(one.level) if one.level else NOTHING,
                *_compared(results, one.arm, one.level, one),
            )
            for one in found
            if one.measure == measure
        )
        sections.append(Section(f"{label(measure)}{_unit(measure)}", rows))
    return Table(
        "Published and measured",
        (),
        ("Arm", results.axis, "published", "measured", "difference"),
        tuple(sections),
        f"{_spread_note(results)} Difference: measured minus published; of shares, in points.",
    )


def _unit(measure: str) -> str:
    return ", %" if is_fraction(measure) else ", nats" if measure.endswith("loss") else ""


def _companions(
    results: Results, measure: str, cells: Iterable[tuple[str, float]]
) -> tuple[str, ...]:
    """Return the measures that a defective one is read beside, if they were taken."""
    return tuple(
        name
        for name in COMPANIONS.get(measure, {})
        if any(results.interval(arm, level, name) for arm, level in cells)
    )


def _published_table(
    results: Results,
    measure: str,
    arms: Sequence[Arm],
    here: Mapping[tuple[str, float], Comparison],
    beside: Sequence[str],
) -> Table:
    names = {arm.name for arm in arms}
    levels = sorted({level for name, level in here if name in names})
    rows = []
    for level in levels:
        cells: list[str] = []
        for arm in arms:
            cells += _compared(results, arm.name, level, here.get((arm.name, level)))
            cells += [_measured(results.interval(arm.name, level, name), name) for name in beside]
        rows.append((results.level_text(level), *cells))
    heads = [
        "published",
        "measured",
        "difference (points)" if is_fraction(measure) else "difference",
    ]
    heads += [COMPANIONS[measure][name] for name in beside]
    return Table(
        f"{label(measure)}{_unit(measure)}: published and measured",
        tuple((sentence(arm.label), len(heads)) for arm in arms),
        (sentence(results.axis), *heads * len(arms)),
        (Section("", tuple(rows)),),
        f"{_spread_note(results)} Difference: measured minus published.",
    )


def _compared(
    results: Results, arm: str, level: float, one: Comparison | None
) -> tuple[str, str, str]:
    if one is None:
        return NOTHING, NOTHING, NOTHING
    fraction = is_fraction(one.measure)
    published = percent(one.published) if fraction else decimal(one.published, 4)
    if level not in results.levels(arm):
        return published, NOT_RUN, NOTHING
    difference = one.difference
    gap = NOTHING if difference is None else decimal(difference, 2 if fraction else 4, signed=True)
    return published, _measured(one.measured, one.measure), gap


def not_run(results: Results) -> list[str]:
    """Return what was published of arms that are not run at this scale, a line an arm and measure.

    Examples of a line: ``"run-2-dense, test accuracy: 88.58"``, ``"weight, test accuracy: 90.91
    (10%), 91.01 (20%)"``.
    """
    known = {arm.name for arm in results.study.arms}
    lines: dict[tuple[str, str], list[str]] = {}
    for one in comparisons(results):
        if one.arm not in known:
            value = percent(one.published) if is_fraction(one.measure) else f"{one.published:g}"
            place = f" ({results.level_text(one.level)})" if one.level else ""
            lines.setdefault((one.arm, one.measure), []).append(f"{value}{place}")
    return [
        f"{arm}, {inside(label(measure))}: {', '.join(values)}"
        for (arm, measure), values in lines.items()
    ]


def _spread_note(results: Results) -> str:
    if results.one_seed:
        return f"Measured with one {results.unit}: a number, never a verdict."
    return f"Measured: {results.basis} ± half the width of its 95% interval."


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


def size_table(results: Results) -> Table | None:
    """Sizes and work of all arms, a section an arm."""
    found = sizes(results)
    sections = tuple(
        Section(sentence(arm.label), rows)
        for arm in results.study.arms
        if (rows := tuple(_size_row(results, one) for one in found if one.arm == arm.name))
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


def front_table(results: Results) -> Table | None:
    """Networks that no other one beats in size without losing accuracy, the smallest first."""
    sections = tuple(
        Section(group.title, tuple(_front_row(results, one) for one in best))
        for group in groups(results)
        if (best := front(networks(results, group)))
    )
    if not sections:
        return None
    return Table(
        "Pareto front of non-zero parameters and test accuracy",
        (),
        ("Arm", results.axis, "non-zero parameters", "compressed", "test accuracy, %"),
        sections,
        _spread_note(results),
    )


def _front_row(results: Results, one: Network) -> tuple[str, ...]:
    compressed = results.interval(one.arm, one.level, "bytes_compressed")
    return (
        sentence(results.label(one.arm)),
        results.level_text(one.level) if one.level else NOTHING,
        compact(one.size),
        compact(compressed.mean, "B") if compressed else NOTHING,
        spread(one.accuracy),
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
    names = {text: name for name, text in _sources(results).items()}
    rows = tuple(
        (sentence(arm.label), arm.role, _steps(arm.recipe, names)) for arm in results.study.arms
    )
    return Table("Arms and their recipes", (), ("Arm", "role", "steps"), (Section("", rows),))


def source_table(results: Results) -> Table | None:
    """Recipes that masks are borrowed from, in the words of the arms that borrow."""
    rows = tuple((name, text) for name, text in _sources(results).items())
    if not rows:
        return None
    return Table("Where masks come from", (), ("Source", "steps"), (Section("", rows),))


def _sources(results: Results) -> dict[str, str]:
    """Return the distinct sources of masks by number, with their data and steps."""
    steps = [step for arm in results.study.arms for step in arm.recipe]
    texts = dict.fromkeys(
        _source_text(step["source"]) for step in steps if isinstance(step.get("source"), Mapping)
    )
    return {f"source {number}": text for number, text in enumerate(texts, start=1)}


def _source_text(source: Mapping[str, Any]) -> str:
    data = source.get("data")
    return f"{f'on {data}: ' if data else ''}{_steps(source.get('recipe', ()))}"


def _steps(recipe: Iterable[Mapping[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """Return the steps of a recipe in order, sources by their names."""
    texts = []
    for step in recipe:
        source = step.get("source")
        name = (names or {}).get(_source_text(source)) if isinstance(source, Mapping) else None
        texts.append(step_text({**step, "source": name} if name else step))
    return " → ".join(texts) or NOTHING


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

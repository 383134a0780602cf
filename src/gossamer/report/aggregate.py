"""From records to the rows that the page shows: pure functions, frozen values.

Displays hold data first and plot second: everything that a figure draws or a table prints is
computed here, and can be checked without drawing or printing it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from gossamer.records.record import Arm, Layer, Phase, Record, StudyRun, TrialLabel
from gossamer.stats.intervals import Interval, mean_interval, paired_difference

ACCURACY = "test_accuracy"


def _same(level: float) -> float:
    """Make levels comparable that were written or computed in different ways."""
    return round(float(level), 9)


@dataclass(frozen=True)
class Results:
    """The records of a study by arm, level and seed, and what is still missing.

    Parameters
    ----------
    study
        What was asked for.
    records
        What was found so far, by key; trials without a record are simply not done.
    """

    study: StudyRun
    records: Mapping[str, Record] = field(repr=False)

    @cached_property
    def asked(self) -> dict[tuple[str, float], dict[int, TrialLabel]]:
        """Trials by arm and level, then by seed."""
        cells: dict[tuple[str, float], dict[int, TrialLabel]] = {}
        for trial in self.study.trials:
            cells.setdefault((trial.arm, _same(trial.level)), {})[trial.seed] = trial
        return cells

    @cached_property
    def done(self) -> tuple[TrialLabel, ...]:
        """Trials that have their record."""
        return tuple(trial for trial in self.study.trials if trial.key in self.records)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trials that are done."""
        return tuple(sorted({trial.seed for trial in self.done}))

    @cached_property
    def seed_counts(self) -> tuple[int, ...]:
        """Numbers of seeds that an arm has at a level, where it has any, ascending."""
        counts = {
            sum(trial.key in self.records for trial in trials.values())
            for trials in self.asked.values()
        }
        return tuple(sorted(counts - {0}))

    @property
    def one_seed(self) -> bool:
        """Whether no number rests on more than one seed."""
        return self.seed_counts == (1,)

    @property
    def basis(self) -> str:
        """What a number rests on: ``"one seed"``, ``"mean over 5 seeds"``."""
        if self.one_seed:
            return "one seed"
        few, many = self.seed_counts[0], self.seed_counts[-1]
        return f"mean over {few} to {many} seeds" if few < many else f"mean over {many} seeds"

    @cached_property
    def baseline(self) -> Arm | None:
        """The arm that the others are compared to."""
        return next(iter(self.arms("baseline")), None)

    def arms(self, role: str) -> tuple[Arm, ...]:
        """Arms of a role, in the study's order."""
        return tuple(arm for arm in self.study.arms if arm.role == role)

    def label(self, name: str) -> str:
        """Return what the study calls an arm."""
        return next((arm.label for arm in self.study.arms if arm.name == name), name)

    def levels(self, arm: str) -> tuple[float, ...]:
        """Levels of an arm, ascending; level 0 too where the baseline stands in for it."""
        levels = {level for name, level in self.asked if name == arm}
        if self._stands_in(arm, 0.0):
            levels.add(0.0)
        return tuple(sorted(levels))

    def _stands_in(self, arm: str, level: float) -> bool:
        """Whether the baseline is what this main arm is at level 0."""
        main = any(candidate.name == arm for candidate in self.arms("main"))
        return main and self.baseline is not None and level == 0 and (arm, 0.0) not in self.asked

    def found(self, arm: str, level: float) -> dict[int, Record]:
        """Return the records of one arm at one level, by seed."""
        level = _same(level)
        if self._stands_in(arm, level) and self.baseline is not None:
            arm = self.baseline.name
        trials = self.asked.get((arm, level), {})
        return {
            seed: self.records[trial.key]
            for seed, trial in sorted(trials.items())
            if trial.key in self.records
        }

    def values(self, arm: str, level: float, measure: str = ACCURACY) -> dict[int, float]:
        """One measure of one arm at one level, by seed; records that lack it are left out."""
        return {
            seed: record.measures[measure]
            for seed, record in self.found(arm, level).items()
            if math.isfinite(record.measures.get(measure, math.nan))
        }

    def interval(self, arm: str, level: float, measure: str = ACCURACY) -> Interval | None:
        """Mean over the seeds with its 95% interval; None where nothing was measured."""
        return _interval(self.values(arm, level, measure).values())

    def paired(
        self, first: tuple[str, float], second: tuple[str, float], measure: str = ACCURACY
    ) -> Interval | None:
        """Mean of first minus second over the seeds that both have; None without one."""
        ours, theirs = self.values(*first, measure), self.values(*second, measure)
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            return None
        return paired_difference([ours[s] for s in shared], [theirs[s] for s in shared])

    @cached_property
    def axis_in_percent(self) -> bool:
        """Whether the axis holds fractions, such as sparsities."""
        return all(0 <= trial.level <= 1 for trial in self.study.trials)

    def position(self, level: float) -> float:
        """Where a level stands on the axis as it is drawn."""
        return round(100 * level, 6) if self.axis_in_percent else level

    def level_text(self, level: float) -> str:
        """Return a level as text: ``"80%"``, or ``"20"`` on an axis without percents."""
        return f"{self.position(level):g}{'%' if self.axis_in_percent else ''}"

    def place(self, level: float) -> str:
        """Return a level with its axis, as a sentence needs it: ``"80% sparsity"``."""
        text = self.level_text(level)
        return f"{text} {self.axis}" if self.axis_in_percent else f"{self.axis} {text}"

    @property
    def axis(self) -> str:
        """Name of the axis in words."""
        return self.study.axis.replace("_", " ")

    @property
    def axis_title(self) -> str:
        """Title of the axis, with its unit."""
        title = self.axis[:1].upper() + self.axis[1:]
        return f"{title} (%)" if self.axis_in_percent else title


def _interval(values: Iterable[float]) -> Interval | None:
    numbers = list(values)
    return mean_interval(numbers) if numbers else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def is_fraction(measure: str) -> bool:
    """Whether a measure is a fraction, to be shown in percent and compared in points.

    Examples
    --------
    >>> is_fraction("test_accuracy"), is_fraction("test_loss")
    (True, False)
    """
    return measure.endswith("accuracy") or "sparsity" in measure


@dataclass(frozen=True)
class Comparison:
    """One published number beside what was measured."""

    arm: str
    measure: str
    level: float
    published: float
    measured: Interval | None

    @property
    def difference(self) -> float | None:
        """Measured minus published: in points for a fraction, else in the measure's unit."""
        if self.measured is None:
            return None
        scale = 100 if is_fraction(self.measure) else 1
        return scale * (self.measured.mean - self.published)


def comparisons(results: Results) -> tuple[Comparison, ...]:
    """Every published number beside what was measured, in the published order."""
    published = results.study.published
    return tuple(
        Comparison(
            figure.arm,
            figure.measure,
            _same(figure.level),
            figure.value,
            results.interval(figure.arm, figure.level, figure.measure),
        )
        for figure in (published.figures if published else ())
    )


@dataclass(frozen=True)
class Size:
    """How large one arm is at one level: means over the seeds, by measure."""

    arm: str
    level: float
    means: Mapping[str, float]


SIZE_MEASURES = (
    "sparsity_requested",
    "sparsity",
    "sparsity_all",
    "effective_sparsity",
    "nonzero_parameters",
    "bytes_compressed",
    "macs_dense",
    "macs_nonzero",
)


def sizes(results: Results) -> tuple[Size, ...]:
    """Sizes of every arm at each of its own levels that has a record."""
    rows = []
    for arm in results.study.arms:
        for level in sorted(level for name, level in results.asked if name == arm.name):
            found = {m: results.interval(arm.name, level, m) for m in SIZE_MEASURES}
            means = {m: interval.mean for m, interval in found.items() if interval}
            if means:
                rows.append(Size(arm.name, level, means))
    return tuple(rows)


def reaching(results: Results, arm: str, level: float) -> float | None:
    """Weights of all layers that still reach the output, mean over the seeds."""
    counts = [
        float(sum(layer.effective for layer in record.layers))
        for record in results.found(arm, level).values()
        if record.layers
    ]
    return _mean(counts) if counts else None


@dataclass(frozen=True)
class LayerSparsity:
    """Zeros of one layer, mean over the seeds, as fractions."""

    arm: str
    level: float
    layer: str
    prunable: bool
    masked: float
    effective: float


def layer_sparsities(results: Results) -> tuple[LayerSparsity, ...]:
    """Sparsity of each layer at each level of the main arms."""
    return tuple(
        row
        for arm in results.arms("main")
        for level in results.levels(arm.name)
        for row in _layers_of(arm.name, level, list(results.found(arm.name, level).values()))
    )


def _layers_of(arm: str, level: float, records: list[Record]) -> list[LayerSparsity]:
    layers: dict[str, list[Layer]] = {}
    for record in records:
        for layer in record.layers:
            layers.setdefault(layer.name, []).append(layer)
    return [
        LayerSparsity(
            arm,
            level,
            name,
            all(one.prunable for one in same),
            _mean([1 - one.nonzero / one.weights for one in same]),
            _mean([1 - one.effective / one.weights for one in same]),
        )
        for name, same in layers.items()
    ]


@dataclass(frozen=True)
class ClassAccuracy:
    """Test accuracy of one class, mean over the seeds, as a fraction."""

    arm: str
    level: float
    class_index: int
    accuracy: float


def class_accuracies(results: Results) -> tuple[ClassAccuracy, ...]:
    """Test accuracy of each class at each level of the main arms."""
    rows = []
    for arm in results.arms("main"):
        for level in results.levels(arm.name):
            found = results.found(arm.name, level).values()
            columns = [record.per_class["test"] for record in found if "test" in record.per_class]
            means = [_mean(one) for one in zip(*columns, strict=True)]
            rows += [ClassAccuracy(arm.name, level, i, mean) for i, mean in enumerate(means)]
    return tuple(rows)


@dataclass(frozen=True)
class Cost:
    """What the study took, and what it would take without sharing."""

    trainings: int
    steps_done: int
    steps_alone: int
    examples: int
    training_seconds: float
    measuring_seconds: float

    @property
    def factor(self) -> float | None:
        """Optimizer steps of the done trials run alone, over the steps that were done."""
        return self.steps_alone / self.steps_done if self.steps_done else None


def used_phases(results: Results, phases: Mapping[str, Phase]) -> dict[str, Phase]:
    """Trainings that the study's trials rest on, each once, in the order of the trials."""
    keys = dict.fromkeys(key for trial in results.study.trials for key in trial.phases)
    return {key: phases[key] for key in keys if key in phases}


def cost(results: Results, phases: Mapping[str, Phase]) -> Cost:
    """Add up the trainings that were done, and the steps of the done trials run alone."""
    used = used_phases(results, phases).values()
    distinct = {trial.key for trial in results.done}
    return Cost(
        trainings=len(used),
        steps_done=sum(phase.optimizer_steps for phase in used),
        steps_alone=sum(trial.optimizer_steps for trial in results.done),
        examples=sum(phase.examples for phase in used),
        training_seconds=math.fsum(phase.seconds for phase in used),
        measuring_seconds=math.fsum(results.records[key].seconds for key in distinct),
    )

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

    @cached_property
    def _unpruned(self) -> dict[str, Arm]:
        bases = [arm for arm in self.study.arms if (arm.name, 0.0) in self.asked]
        bases.sort(key=lambda arm: arm.role != "baseline")
        found: dict[str, Arm] = {}
        for arm in self.study.arms:
            bare = tuple(step for step in arm.recipe if step.get("step") != "prune")
            for base in bases:
                if base.recipe == bare and base.name != arm.name:
                    found.setdefault(arm.name, base)
        return found

    def unpruned(self, arm: str) -> Arm | None:
        """Return the arm that trains as this one does and never prunes, the baseline if it can."""
        return self._unpruned.get(arm)

    def trains_longer(self, arm: str) -> bool:
        """Whether an arm is planned to take more optimizer steps than the baseline."""
        base = self.baseline.name if self.baseline else ""
        return self._planned_steps(arm) > self._planned_steps(base)

    def _planned_steps(self, arm: str) -> int:
        steps = (trial.optimizer_steps for trial in self.study.trials if trial.arm == arm)
        return max(steps, default=0)

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
        """Whether the baseline is what this main arm is at level 0: all of it but the pruning."""
        if level != 0 or (arm, 0.0) in self.asked:
            return False
        base = self.unpruned(arm)
        main = any(candidate.name == arm for candidate in self.arms("main"))
        return main and base is not None and base == self.baseline

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
        self, first: tuple[str, float], second: tuple[str, float], confidence: float = 0.95
    ) -> Interval | None:
        """Mean accuracy of first minus second over the seeds that both have; None without one."""
        ours, theirs = self.values(*first), self.values(*second)
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            return None
        return paired_difference([ours[s] for s in shared], [theirs[s] for s in shared], confidence)

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


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


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
    """Weights of all layers that still reach the output, mean over the seeds; None if unknown."""
    counts = [_reaching(record.layers) for record in results.found(arm, level).values()]
    return _mean_of_known(counts)


def _reaching(layers: Sequence[Layer]) -> float | None:
    known = [layer.effective for layer in layers if layer.effective is not None]
    return float(sum(known)) if layers and len(known) == len(layers) else None


@dataclass(frozen=True)
class LayerSparsity:
    """Zeros of one layer, mean over the seeds, as fractions; effective is None if unknown."""

    arm: str
    level: float
    layer: str
    prunable: bool
    masked: float
    effective: float | None


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
            _mean_of_known(
                None if one.effective is None else 1 - one.effective / one.weights for one in same
            ),
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
    """What the study took, and what its done trials would have taken without sharing."""

    trainings: int
    steps_shared: int
    """Optimizer steps of the trainings that the done trials rest on, each once."""
    steps_alone: int
    """The same, counted once for every done trial."""
    examples: int
    training_seconds: float
    measuring_seconds: float

    @property
    def factor(self) -> float | None:
        """Optimizer steps of the done trials run alone, over those of sharing."""
        return self.steps_alone / self.steps_shared if self.steps_shared else None


def used_phases(results: Results, phases: Mapping[str, Phase]) -> dict[str, Phase]:
    """Trainings that the study's trials rest on, each once, in the order of the trials."""
    keys = dict.fromkeys(key for trial in results.study.trials for key in trial.phases)
    return {key: phases[key] for key in keys if key in phases}


def cost(results: Results, phases: Mapping[str, Phase]) -> Cost:
    """Add up the trainings that were done, and what the done trials rest on."""
    used = used_phases(results, phases).values()
    distinct = {trial.key for trial in results.done}
    shared = {key for trial in results.done for key in trial.phases if key in phases}
    return Cost(
        trainings=len(used),
        steps_shared=sum(phases[key].optimizer_steps for key in shared),
        steps_alone=sum(_steps_alone(trial, phases) for trial in results.done),
        examples=sum(phase.examples for phase in used),
        training_seconds=math.fsum(phase.seconds for phase in used),
        measuring_seconds=math.fsum(results.records[key].seconds for key in distinct),
    )


def _steps_alone(trial: TrialLabel, phases: Mapping[str, Phase]) -> int:
    """Return the steps that a trial really rests on; those planned where one is unknown."""
    if any(key not in phases for key in trial.phases):
        return trial.optimizer_steps
    return sum(phases[key].optimizer_steps for key in trial.phases)

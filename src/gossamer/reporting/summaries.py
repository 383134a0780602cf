"""What is put together from the records: sizes, costs, and published numbers beside measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from gossamer.measures import is_fraction
from gossamer.records.record import Layer, Phase, TrialLabel
from gossamer.reporting.results import Results, same_level
from gossamer.stats.intervals import Interval


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
            same_level(figure.level),
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
    known = [count for count in counts if count is not None]
    return fmean(known) if known else None


def _reaching(layers: Sequence[Layer]) -> float | None:
    known = [layer.effective for layer in layers if layer.effective is not None]
    return float(sum(known)) if layers and len(known) == len(layers) else None


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

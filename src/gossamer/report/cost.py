"""What a study took, and what sharing its trainings saved."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.records.record import Phase, TrialLabel
from gossamer.report.results import Results


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

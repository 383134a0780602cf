"""What a run would do and how long it would take, before anything is done."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from gossamer.errors import InputError
from gossamer.recipes import keyed
from gossamer.records.record import Phase, Record
from gossamer.studies.plan import (
    Measuring,
    Training,
    arms_at,
    steps_alone,
    training_steps,
)
from gossamer.studies.run import Prepared, rehearse_study
from gossamer.studies.tuning import tune_process
from gossamer.studies.work import Failure, Hand, Pulse, Site
from gossamer.system import available_cores

_TRY_SECONDS = 1.5


@dataclass(frozen=True)
class ArmPreview:
    """How much of one arm is done."""

    label: str
    trials: int
    done: int
    optimizer_steps: int
    """Of all the arm's trials, each run alone."""


@dataclass(frozen=True)
class Preview:
    """What is left, what is shared, and about how long it takes."""

    arms: tuple[ArmPreview, ...]
    steps_alone: int
    steps_shared: int
    steps_left: int
    trials_left: int
    trainings_left: int
    joints_left: int
    """What is left to measure of several networks together; it is not in the time."""
    seconds: float | None
    """Estimated time of what is left; None if nothing is."""

    @property
    def sharing(self) -> float:
        """Optimizer steps of running every trial alone, over those of sharing; 1 if none."""
        return self.steps_alone / self.steps_shared if self.steps_shared else 1.0


def preview(
    prepared: Prepared, phases: Mapping[str, Phase], records: Mapping[str, Record]
) -> Preview:
    """Return what a run would do; the time comes from earlier work, or from a short try.

    Parameters
    ----------
    prepared
        The study.
    phases, records
        What the store holds of it already.
    """
    plan = prepared.plan
    arms = []
    for arm in arms_at(prepared.spec, prepared.scale):
        trials = [planned.keyed for planned in plan.trials if planned.arm == arm.name]
        done = sum(trial.record in records for trial in trials)
        steps = sum(steps_alone(trial) for trial in trials)
        arms.append(ArmPreview(arm.label, len(trials), done, steps))
    return Preview(
        arms=tuple(arms),
        steps_alone=plan.steps_alone,
        steps_shared=plan.steps_shared,
        steps_left=plan.steps_left,
        trials_left=plan.trials_left,
        trainings_left=len(plan.trainings),
        joints_left=len(prepared.joints_left),
        seconds=_estimated_seconds(prepared, phases, records) if plan.tasks else None,
    )


def _estimated_seconds(
    prepared: Prepared, phases: Mapping[str, Phase], records: Mapping[str, Record]
) -> float:
    plan = prepared.plan
    step_seconds = (
        median(p.seconds / p.optimizer_steps for p in phases.values()) if phases else None
    )
    trial_seconds = median(r.seconds for r in records.values()) if records else None
    if (step_seconds is None and plan.trainings) or trial_seconds is None:
        tried_trial, tried_step = _try(prepared)
        step_seconds, trial_seconds = step_seconds or tried_step, trial_seconds or tried_trial
    work = plan.steps_left * (step_seconds or 0.0) + plan.trials_left * trial_seconds
    longest = max((task.steps for task in plan.trainings), default=0) * (step_seconds or 0.0)
    return max(longest, work / min(prepared.jobs, available_cores()))


def _try(prepared: Prepared) -> tuple[float, float]:
    """Measure and train for a moment, away from the store; return seconds a trial and a step.

    Raises
    ------
    InputError
        If the network cannot be trained or measured, or a pruning cannot be done.
    """
    tune_process(prepared.threads)
    rehearse_study(prepared)
    pulses: list[tuple[float, int]] = []

    def watch(pulse: Pulse) -> bool:
        pulses.append((time.perf_counter(), pulse.steps))
        return pulses[-1][0] - pulses[0][0] > _TRY_SECONDS

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "states").mkdir()
        hand = Hand(Site(Path(folder), prepared.request.data_root, prepared.threads), watch)
        trial_seconds = _try_measuring(hand, prepared)
        started = time.perf_counter()
        steps = _try_training(hand, prepared)
    if len(pulses) > 1:  # the time before the first pulse holds what is done but once
        (first, before), (last, after) = pulses[0], pulses[-1]
        return trial_seconds, (last - first) / (after - before)
    return trial_seconds, (time.perf_counter() - started) / max(steps, 1)


def _try_measuring(hand: Hand, prepared: Prepared) -> float:
    """Measure an untrained network twice; the first time everything is still being set up."""
    trial = prepared.plan.trials[0].keyed.trial
    untrained = keyed(replace(trial, steps=()), prepared.datasets(trial.data))
    seconds = 0.0
    for _ in range(2):
        for event in hand.do(Measuring((untrained,), frozenset())):
            if isinstance(event, Failure):
                raise InputError(event.reason)
            seconds = event.seconds
    return seconds


def _try_training(hand: Hand, prepared: Prepared) -> int:
    """Train until the watch stops it, or to the end; return the steps that the end takes."""
    from gossamer.train.loop import Interrupted  # imports torch, which a finished study never needs

    trial = prepared.plan.trials[0].keyed
    if not trial.trial.trainings:
        return 0
    position = trial.trial.trainings[0]
    steps = training_steps(trial, position)
    with suppress(Interrupted):
        for event in hand.do(Training(trial, position, frozenset(), steps)):
            if isinstance(event, Failure):
                raise InputError(event.reason)
    return steps

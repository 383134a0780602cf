"""What a run would do, before anything is done."""

from collections.abc import Collection
from dataclasses import dataclass

from gossamer.studies.plan import PlannedTrial, arms_at
from gossamer.studies.run import Estimate, Prepared


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
    """What is left, what is shared, and about what it takes."""

    arms: tuple[ArmPreview, ...]
    steps_alone: int
    steps_shared: int
    steps_left: int
    trials_left: int
    trainings_left: int
    joints_left: int
    """What is left to measure of several networks together; it is not in the time."""
    estimate: Estimate | None
    """Of what is left; None where nothing is, or the study was not settled."""

    @property
    def sharing(self) -> float:
        """Optimizer steps of running every trial alone, over those of sharing; 1 if none."""
        return self.steps_alone / self.steps_shared if self.steps_shared else 1.0


def preview(prepared: Prepared, done: Collection[str]) -> Preview:
    """Return what a run would do.

    Parameters
    ----------
    prepared
        The study, settled if what it takes is to be told.
    done
        Keys of the records that there are.
    """
    plan, arms = prepared.plan, []
    by_arm: dict[str, list[PlannedTrial]] = {}
    for planned in plan.trials:
        by_arm.setdefault(planned.arm, []).append(planned)
    for arm in arms_at(prepared.spec, prepared.scale):
        trials = by_arm.get(arm.name, [])
        found = sum(planned.keyed.record in done for planned in trials)
        steps = sum(planned.steps_alone for planned in trials)
        arms.append(ArmPreview(arm.label, len(trials), found, steps))
    return Preview(
        arms=tuple(arms),
        steps_alone=plan.steps_alone,
        steps_shared=plan.steps_shared,
        steps_left=plan.steps_left,
        trials_left=plan.trials_left,
        trainings_left=len(plan.trainings),
        joints_left=len(prepared.joints_left),
        estimate=prepared.estimate,
    )

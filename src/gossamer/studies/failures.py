"""What failed in a study, named as its file names it, and what cannot be done without it."""

from collections.abc import Sequence

from gossamer.core.formats import counted, listed
from gossamer.studies.plan import Plan, PlannedTrial
from gossamer.studies.tasks import Failure


def failure_text(plan: Plan, axis: str, failure: Failure) -> str:
    """Say what could not be done, and why.

    A training belongs to all trials that rest on it, not to the one it was done for first.

    Parameters
    ----------
    plan
        Of the study.
    axis
        The name of the grid's variable.
    failure
        What happened.
    """
    if failure.state is None:
        (planned, *_) = (p for p in plan.trials if p.keyed.record == failure.trial.record)
        return f"{_named(planned, axis)}: {failure.reason}"
    waiting = [p for p in plan.trials if failure.state in p.keyed.phases]
    if len(waiting) == 1:
        return f"{_named(waiting[0], axis)}, {_step(waiting[0], failure)}: {failure.reason}"
    return (
        f"the training shared by {_arms(waiting, axis)} ({_step(waiting[0], failure)}, seed "
        f"{failure.trial.trial.seed}): {failure.reason}; {counted(len(waiting), 'trial')} cannot "
        "be done without it"
    )


def _named(planned: PlannedTrial, axis: str) -> str:
    """Name a trial as the study does: arm, level, seed."""
    level = f", {axis} {planned.level:g}" if planned.level else ""
    return f"{planned.arm}{level}, seed {planned.keyed.trial.seed}"


def _step(planned: PlannedTrial, failure: Failure) -> str:
    """Say which step of a recipe, or of the source that it borrows from, a training is."""
    own = planned.keyed.states
    if failure.state in own:
        return f"step {own.index(failure.state)}"
    number = failure.trial.states.index(failure.state or "")
    return f"step {number} of the source that a mask is borrowed from"


def _arms(waiting: Sequence[PlannedTrial], axis: str) -> str:
    levels: dict[str, list[str]] = {}
    for planned in waiting:
        levels.setdefault(planned.arm, [])
        if planned.level:
            levels[planned.arm].append(f"{planned.level:g}")
    return listed(
        [
            f"{arm} (at {axis} {listed(list(dict.fromkeys(at)))})" if at else arm
            for arm, at in levels.items()
        ]
    )

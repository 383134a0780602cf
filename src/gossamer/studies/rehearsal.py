"""Trying every pruning of a study on an untrained network, before hours of training lead to it."""

from gossamer.data import Dataset
from gossamer.errors import InputError
from gossamer.masks import find_mask
from gossamer.nets import build
from gossamer.recipes import Prune
from gossamer.studies.plan import Plan, PlannedTrial


def rehearse(plan: Plan, dataset: Dataset) -> None:
    """Refuse a study that has a pruning which cannot be done.

    Raises
    ------
    InputError
        If a step excludes a layer that is not there, names one that is not, or leaves nothing;
        the sentence names the arm.
    """
    left = {trial.record for task in plan.measurings for trial in task.trials}
    steps: dict[str, tuple[Prune, PlannedTrial]] = {}
    for planned in plan.trials:
        for step in planned.keyed.trial.steps:
            if isinstance(step, Prune) and planned.keyed.record in left:
                alike = step.model_copy(update={"sparsity": 0.5})
                steps.setdefault(alike.model_dump_json(), (alike, planned))
    if not steps:
        return
    trial = plan.trials[0].keyed.trial
    network = build(trial.network, dataset.input_shape, dataset.classes, trial.seed)
    for step, planned in steps.values():
        try:
            find_mask(network, step.sparsity, **step.choices)
        except InputError as error:
            raise InputError(f"arm {planned.arm}, prune: {error}") from error

"""Trying every pruning of a study on an untrained network, before hours of training lead to it."""

from gossamer.errors import InputError
from gossamer.masks import find_mask
from gossamer.nets import build
from gossamer.recipes import KeyedTrial, Prune
from gossamer.recipes.choosing import pruning_choices
from gossamer.recipes.keys import Datasets
from gossamer.studies.plan import Plan


def rehearse(plan: Plan, datasets: Datasets) -> None:
    """Refuse a study that has a pruning which cannot be done.

    Raises
    ------
    InputError
        If a step excludes a layer that is not there, names one that is not, or leaves nothing;
        the sentence names the arm.
    """
    left = {trial.record for task in plan.measurings for trial in task.trials}
    tried: set[str] = set()
    for planned in plan.trials:
        if planned.keyed.record in left:
            for trial in (planned.keyed, *planned.keyed.sources.values()):
                _rehearse_trial(planned.arm, trial, datasets, tried)


def _rehearse_trial(arm: str, trial: KeyedTrial, datasets: Datasets, tried: set[str]) -> None:
    steps = [step for step in trial.trial.steps if isinstance(step, Prune)]
    alike = {_alike(step, trial): step for step in steps}
    new = {name: step for name, step in alike.items() if name not in tried}
    if not new:
        return
    tried.update(new)
    dataset = datasets(trial.trial.data)
    network = build(trial.trial.network, dataset.input_shape, dataset.classes, trial.trial.seed)
    for step in new.values():
        try:
            find_mask(network, **pruning_choices(step))
        except InputError as error:
            raise InputError(f"arm {arm}, prune: {error}") from error


def _alike(step: Prune, trial: KeyedTrial) -> str:
    """Name what decides whether a pruning can be done; its sparsity does not."""
    sparsity = None if step.sparsity is None else 0.5
    plain = step.model_copy(update={"sparsity": sparsity})
    return f"{trial.trial.network.model_dump_json()} {plain.model_dump_json()}"

"""Trying the steps of a study on an untrained network, before hours of training lead to it."""

from collections.abc import Sequence

import torch

from gossamer.core.errors import InputError
from gossamer.nets import build
from gossamer.recipes import KeyedTrial
from gossamer.recipes.keys import Datasets
from gossamer.studies.complaints import Complaints, StudyFileError
from gossamer.studies.plan import Plan
from gossamer.studies.problems import Place
from gossamer.studies.spec import StudySpec


def rehearse(spec: StudySpec, plan: Plan, datasets: Datasets) -> None:
    """Refuse a study that has a step which cannot be done.

    Raises
    ------
    StudyFileError
        If a step excludes a layer that is not there, names one that is not, or leaves nothing;
        the sentence names the arm.
    """
    left = {trial.record for task in plan.measurings for trial in task.trials}
    tried: set[str] = set()
    complaints = Complaints()
    for planned in plan.trials:
        if planned.keyed.record not in left:
            continue
        arm = spec.arm(planned.arm)
        own = [one.place for one in spec.steps_of(arm)]
        recipe = spec.place_of(arm, "recipe")
        with complaints.noting(*spec.network_place(arm)):
            _rehearse_trial(arm.name, planned.keyed, own, datasets, tried)
            for source in planned.keyed.sources.values():
                places = [recipe] * len(source.trial.steps)
                _rehearse_trial(arm.name, source, places, datasets, tried)
    complaints.settle()


def _rehearse_trial(
    arm: str, trial: KeyedTrial, places: Sequence[Place], datasets: Datasets, tried: set[str]
) -> None:
    """Try the steps of a trial that are like none before; `places` are those of its steps."""
    of = trial.trial.network.model_dump_json()
    alike = {
        f"{of} {plain.model_dump_json()}": (step, place)
        for step, place in zip(trial.trial.steps, places, strict=True)
        if (plain := step.rehearsed_as())
    }
    new = {name: placed for name, placed in alike.items() if name not in tried}
    if not new:
        return
    tried.update(new)
    dataset = datasets(trial.trial.data)
    network = build(trial.trial.network, dataset.input_shape, dataset.classes, trial.trial.seed)
    example = torch.zeros(2, *dataset.input_shape)
    complaints = Complaints()
    for step, place in new.values():
        with complaints.noting(*place):
            try:
                step.rehearse(network, example)
            except InputError as error:
                what = f"{step.kind()}: {error}"
                raise StudyFileError(f"arm {arm}, {what}", *place, what=what) from error
    complaints.settle()

"""What is tried on untrained networks before hours of training: every step, and their answers."""

import contextlib
import warnings
from collections.abc import Sequence

import torch

from gossamer.core.errors import InputError
from gossamer.measures.functional.repeatable import why_answers_change
from gossamer.networks import build
from gossamer.recipes import KeyedTrial
from gossamer.recipes.keys import Datasets
from gossamer.studies.plan import Plan, PlannedTrial
from gossamer.studies.spec import StudySpec
from gossamer.studies.study_errors import ErrorCollector, StudyFileError
from gossamer.studies.validation_problems import Place

_EXAMPLES = 3


def preflight(spec: StudySpec, plan: Plan, datasets: Datasets) -> None:
    """Refuse a study that has a step which cannot be done, and tell of answers that change.

    Raises
    ------
    StudyFileError
        If a step excludes a layer that is not there, names one that is not, or leaves nothing;
        the sentence names the arm.

    Warns
    -----
    RuntimeWarning
        If a network of a user's own is not the same twice in evaluation mode, by its name. It can
        be trained and measured, but its measures are those of one draw.
    """
    _tell_of_changing_answers(plan, datasets)
    left = {trial.record for task in plan.measurings for trial in task.trials}
    tried: set[str] = set()
    errors = ErrorCollector()
    alike: dict[tuple[str, float], PlannedTrial] = {}
    for planned in plan.trials:
        if planned.keyed.record in left:
            alike.setdefault((planned.arm, planned.level), planned)  # seeds have the same steps
    for planned in alike.values():
        arm = spec.arm(planned.arm)
        own = [one.place for one in spec.steps_of(arm)]
        recipe = spec.place_of(arm, "recipe")
        with errors.collecting(*spec.network_place(arm)):
            _try_steps(arm.name, planned.keyed, own, datasets, tried)
            for source in planned.keyed.sources.values():
                places = [recipe] * len(source.trial.steps)
                _try_steps(arm.name, source, places, datasets, tried)
    errors.raise_all()


def _try_steps(
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
    errors = ErrorCollector()
    for step, place in new.values():
        with errors.collecting(*place):
            try:
                step.rehearse(network, example)
            except InputError as error:
                what = f"{step.kind()}: {error}"
                raise StudyFileError(f"arm {arm}, {what}", *place, what=what) from error
    errors.raise_all()


def _tell_of_changing_answers(plan: Plan, datasets: Datasets) -> None:
    own = {
        planned.keyed.trial.network.model_dump_json(): planned.keyed
        for planned in plan.trials
        if ":" in planned.keyed.trial.network.name
    }
    for trial in own.values():
        if why := _why(trial, datasets):
            warnings.warn(
                f"The network {trial.trial.network.name} gives different answers for the same "
                f"inputs in evaluation mode ({why}): its accuracies, losses and attacks are those "
                "of one draw, and no effective sparsity is recorded. Let it draw random numbers, "
                "or change what it holds, in training mode only.",
                RuntimeWarning,
                stacklevel=3,
            )


def _why(keyed: KeyedTrial, datasets: Datasets) -> str:
    trial = keyed.trial
    dataset = datasets(trial.data)
    with contextlib.suppress(InputError):  # which its training tells of
        network = build(trial.network, dataset.input_shape, dataset.classes, trial.seed)
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn((_EXAMPLES, *dataset.input_shape), generator=generator)
        return why_answers_change(network, inputs)
    return ""

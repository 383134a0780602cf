"""Telling, before a study runs, of networks whose answers to the same inputs change."""

import contextlib
import warnings

import torch

from gossamer.core.errors import InputError
from gossamer.measure.repeatable import why_answers_change
from gossamer.nets import build
from gossamer.recipes import KeyedTrial
from gossamer.recipes.keys import Datasets
from gossamer.studies.plan import Plan

_EXAMPLES = 3


def tell_of_changing_answers(plan: Plan, datasets: Datasets) -> None:
    """Warn once of each network of a user's own that is not the same twice in evaluation mode.

    It can be trained and measured, but its measures are those of one draw.

    Warns
    -----
    RuntimeWarning
        If there is one, by its name.
    """
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
                stacklevel=2,
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

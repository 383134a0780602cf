"""The study of methods: one budget for all of them, and masks that are shuffled for controls."""

import pytest

from gossamer.recipes.steps import Rewind, Train, Transfer
from gossamer.studies.spec import Scale, read_study
from gossamer.training.updaters import Gradual

SPEC, _ = read_study("method-zoo")


@pytest.mark.parametrize("scale", SPEC.scales)
def test_every_arm_trains_as_long(scale: Scale) -> None:
    values = SPEC.scales[scale].values
    examples = SPEC.scales[scale].data["examples"]
    for arm in SPEC.arms:
        for level in SPEC.levels_at(scale):
            steps = SPEC.recipe_of(arm, scale, level)
            epochs = [step.epochs for step in steps if isinstance(step, Train)]
            shuffled = arm.name == "ticket-shuffled"
            budget = values["start"] + values["round"] if shuffled else values["epochs"]
            assert sum(epochs) == budget, arm.name
            for step in steps:
                if isinstance(step, Train) and isinstance(step.updater, Gradual):
                    of_all = step.updater.last / (step.epochs * -(-examples // step.batch))
                    assert 0.7 < of_all < 0.75


def test_shuffled_masks_come_from_the_arms_themselves() -> None:
    for arm in SPEC.arms:
        name = arm.name.removesuffix("-shuffled")
        if name == arm.name:
            continue
        steps = SPEC.recipe_of(arm, "quick", 0.95)
        (transfer,) = [step for step in steps if isinstance(step, Transfer)]
        assert transfer.shuffle == "layer"
        assert transfer.source.seed_offset == 0
        (whole,) = [one for one in SPEC.arms if one.name == name]
        own = SPEC.recipe_of(whole, "quick", 0.95)
        assert transfer.source.recipe == own[: len(transfer.source.recipe)]
        left = [step for step in own[len(transfer.source.recipe) :] if not isinstance(step, Rewind)]
        assert list(steps[steps.index(transfer) + 1 :]) == left
